// Only tfjs-core and one backend: no chained ops (`x.add(y)`) exist here, in types or at run time, and no gradient
// functions are registered, so a step must need none.
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import {expect, it} from 'vitest';
import {every, full, lora, loraAdam, normal, orthogonal, projected, symmetric} from '../../src/index.js';

it('C50 everything runs with tfjs-core and a backend alone, where tensors have no chained operations', async () => {
  await tf.setBackend('cpu');
  expect('add' in tf.Tensor.prototype).toBe(false);
  const w = tf.variable(normal([8, 6], 1), true, 'w');
  const size = () => tf.sum(tf.square(w)).dataSync()[0]!;
  const gradients = () => ({w: tf.mul(w, 2)});
  const common = {targets: 'w', keepBase: true, clipNorm: 1, weightDecay: 0.1, accumulate: 2};
  for (const parametrization of [
    lora({rank: 2}),
    lora({rank: 2, init: symmetric()}),
    lora({rank: 2, init: orthogonal({both: true})}),
    full(),
  ]) {
    const optimizer = projected(tf.train.adam(0.1, 0.9, 0.999, 1e-7), parametrization, {
      ...common,
      refresh: every(1),
      moments: 'reset',
    });
    const before = size();
    for (let i = 0; i < 6; i++) optimizer.applyGradients(gradients());
    expect(size()).toBeLessThan(before);
    optimizer.explain([w], null);
    await optimizer.setWeights(await optimizer.getWeights());
    optimizer.applyGradients(gradients());
    optimizer.dispose();
  }
  loraAdam(0.1).dispose();
});
