import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {installIdentity} from '../../src/wasm/identity.js';

let undo: () => void;
beforeAll(async () => {
  expect(await tf.setBackend('wasm')).toBe(true);
  undo = installIdentity();
});
afterAll(() => undo());

test('a clone shares the data, and outlives what it was cloned from', () => {
  const before = tf.memory();
  const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
  const [once, twice] = [x.clone(), x.clone()];
  expect(once.dataId).toBe(x.dataId);
  expect(tf.memory().numDataBuffers).toBe(before.numDataBuffers + 1);
  x.dispose();
  once.dispose();
  expect(Array.from(twice.dataSync())).toEqual([1, 2, 3, 4]);
  twice.dispose();
  expect(tf.memory().numDataBuffers).toBe(before.numDataBuffers);
});

test('a variable that shares data is assigned without changing the clone', () => {
  const variable = tf.variable(tf.tensor1d([1, 2]));
  const kept = variable.clone();
  variable.assign(tf.tensor1d([3, 4]));
  expect(Array.from(kept.dataSync())).toEqual([1, 2]);
  expect(Array.from(variable.dataSync())).toEqual([3, 4]);
});

test('gradients through saved clones are what they were; strings still work', () => {
  const x = tf.tensor2d([1, -2, 3, 4], [2, 2]);
  const f = () =>
    tf.grad((z: tf.Tensor) => tf.sum(tf.square(tf.tanh(tf.matMul(z as tf.Tensor2D, z as tf.Tensor2D)))))(x);
  const shared = f().dataSync();
  undo();
  const copied = f().dataSync();
  undo = installIdentity();
  expect(shared).toEqual(copied);
  expect(tf.clone(tf.tensor1d(['a', 'b'])).dataSync()).toEqual(['a', 'b']);
});
