// A parametrization of your own: the formula, its laws, and a model trained through it.
//
//     node examples/own-parametrization.mjs
//
import * as tf from '@tensorflow/tfjs';
import {projected} from 'tfjs-lora';
import {expectLaws} from 'tfjs-lora/testing';

/**
 * W = W0 + C_m^T theta C_n: only the `size` x `size` slowest cosine waves over rows and columns are trained.
 * No gradient is written here: the library differentiates `delta`.
 * @returns {import('tfjs-lora').Additive<'theta'>}
 */
function waves({size = 4} = {}) {
  const cosines = length =>
    tf.tidy(() => {
      const frequency = tf.reshape(tf.range(0, size), [size, 1]);
      const place = tf.reshape(tf.add(tf.range(0, length), 0.5), [1, length]);
      return tf.mul(tf.cos(tf.mul(tf.matMul(frequency, place), Math.PI / length)), Math.sqrt(2 / length));
    });
  return {
    name: 'waves',
    trained: () => size * size,
    init: ({weight: {shape}}) => ({
      factors: {theta: tf.zeros([size, size])},
      frozen: {rows: cosines(shape[0]), columns: cosines(shape[1])},
    }),
    delta: ({factors: {theta}, frozen: {rows, columns}}) =>
      tf.matMul(tf.matMul(tf.transpose(rows), theta), columns),
  };
}

await tf.setBackend('cpu');
expectLaws(waves({size: 3}));
console.log('waves obeys the laws');

// A kernel that differs from the truth by a smooth bump: 16 numbers are enough to find it.
const [inputs, outputs] = [24, 16];
const bump = tf.tidy(() => {
  const side = n => tf.reshape(tf.cos(tf.mul(tf.range(0, n), Math.PI / n)), [n, 1]);
  return tf.mul(tf.matMul(side(inputs), tf.transpose(side(outputs))), 0.3);
});
const model = tf.sequential({
  layers: [tf.layers.dense({units: outputs, inputShape: [inputs], useBias: false, name: 'dense'})],
});
const x = tf.randomNormal([256, inputs], 0, 1, 'float32', 1);
const y = tf.tidy(() => tf.matMul(x, tf.add(model.layers[0].getWeights()[0], bump)));

const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), waves({size: 4}));
model.compile({optimizer, loss: 'meanSquaredError'});
const before = model.evaluate(x, y).dataSync()[0];
await model.fit(x, y, {epochs: 30, batchSize: 64, verbose: 0});
const after = model.evaluate(x, y).dataSync()[0];
optimizer.explain(model);
console.log(`loss ${before.toFixed(4)} -> ${after.toFixed(4)}`);
if (!(after < before / 100)) throw new Error('the bump was not found');
