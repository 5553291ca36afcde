import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {expect, test} from 'vitest';
import {type Composed, full, normal, projected} from '../src/index.js';

// The wasm backend remembers the shape that data was made in, and tfjs's reshape shares data: a bias that was last
// computed as a [1, n] matrix is refused by the fused matMul of the next forward pass.
const gain: Composed<'g'> = {
  name: 'gain',
  init: ({weight}) => ({factors: {g: tf.zeros([1, weight.shape[1]])}}),
  compose: ({base, factors: {g}}) => tf.mul(base, tf.add(1, g)),
};

test.each([
  ['full', full(), {}],
  ['full, with a kept base', full(), {keepBase: true}],
  ['a composed one', gain, {}],
])('a bias that moved through %s still is a vector on wasm', async (_, parametrization, options) => {
  expect(await tf.setBackend('wasm')).toBe(true);
  const kernel = tf.variable(normal([3, 4], 1));
  const bias = tf.variable(normal([4], 2));
  const x = normal([2, 3], 3) as tf.Tensor2D;
  const optimizer = projected(tf.train.sgd(0.1), parametrization, {targets: () => true, ...options});
  const loss = () =>
    tf.mean(tf.square(tf.fused.matMul({a: x, b: kernel as unknown as tf.Tensor2D, bias}))) as tf.Scalar;
  const first = loss().dataSync()[0]!;
  for (let step = 0; step < 3; step++) optimizer.minimize(loss);
  expect(loss().dataSync()[0]!).toBeLessThan(first);
  const base = optimizer.base(bias);
  expect(tf.fused.matMul({a: x, b: kernel as unknown as tf.Tensor2D, bias: base}).shape).toEqual([2, 4]);
  optimizer.dispose();
});
