import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeEach, expect, test, vi} from 'vitest';
import {lora, loraAdam, normal, pissa, projected} from '../../src/index.js';
import {read} from '../../src/linalg/read.js';
import {values} from '../helpers.js';

// A backend that says it is webgpu; test/places runs the real one.
tf.copyRegisteredKernels('cpu', 'webgpu');
const engine = tf.engine() as unknown as {backendName: string};

beforeEach(async () => {
  await tf.setBackend('cpu');
  engine.backendName = 'webgpu';
});
afterEach(() => {
  engine.backendName = 'cpu';
  delete (tf.backend() as unknown as {tensorMap?: object}).tensorMap;
  tf.disposeVariables();
  vi.restoreAllMocks();
});

test('what webgpu holds is not read, and the error says what and what to do', () => {
  const tensor = tf.ones([3, 2]);
  const readSync = vi.spyOn(tf.backend(), 'readSync');
  expect(() => read(tensor, 'the weight')).toThrow(
    /the weight \[3,2\] must be read here, and the webgpu backend cannot .* tf\.setBackend\('cpu'\)/,
  );
  expect(readSync).not.toHaveBeenCalled();
});

test('what is still on the host is read', () => {
  const tensor = tf.tensor1d([1, 2]);
  const tensorMap = {get: (id: object) => ({values: id === tensor.dataId ? [1, 2] : null})};
  Object.assign(tf.backend(), {tensorMap});
  expect([...read(tensor)]).toEqual([1, 2]);
  expect(() => read(tf.ones([2]))).toThrow('must be read');
});

test('a start that reads the weight is that error, and nothing has moved', () => {
  const w = tf.variable(normal([8, 6], 1), true, 'w');
  const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2, init: pissa()}));
  const gradients = {w: normal([8, 6], 2)};
  const before = tf.memory().numTensors;
  expect(() => optimizer.applyGradients(gradients)).toThrow('must be read');
  expect(tf.memory().numTensors).toBe(before);
  expect(values(w)).toEqual(values(normal([8, 6], 1)));
});

test('a step of LoRA reads nothing while it lasts', async () => {
  tf.variable(normal([8, 6], 1), true, 'w');
  const readSync = vi.spyOn(tf.engine(), 'readSync');
  const optimizer = loraAdam(0.1, {rank: 2, clipNorm: 1, weightDecay: 0.1, accumulate: 2, keepBase: true});
  for (let i = 0; i < 4; i++) optimizer.applyGradients({w: normal([8, 6], 10 + i)});
  expect(optimizer.iterations).toBe(2);
  expect(readSync).not.toHaveBeenCalled();
  await optimizer.checked();
});
