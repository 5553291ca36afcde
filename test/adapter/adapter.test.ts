import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {encodeAdapter, mergeAdapterBytes} from '../../src/adapter/bytes.js';
import {every, lora, normal, projected, symmetric} from '../../src/index.js';

beforeAll(() => tf.setBackend('cpu'));

const variables = () => [
  tf.variable(normal([12, 10], 1), true),
  tf.variable(normal([3, 3, 4, 8], 2), true),
  tf.variable(normal([10], 3), true),
];

function train(weights: tf.Variable[], options = {}, init = symmetric()) {
  const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), lora({rank: 2, init}), {
    rest: 'train',
    ...options,
  });
  for (let step = 0; step < 5; step++) {
    optimizer.applyGradients(weights.map((w, i) => ({name: w.name, tensor: normal(w.shape, 10 * step + i)})));
  }
  return optimizer;
}

describe('an adapter', () => {
  test('and the base make the trained weights', async () => {
    const trained = variables();
    const optimizer = train(trained);
    const bytes = await encodeAdapter(optimizer);
    const fresh = variables();
    // The optimizer goes by the plain name of the weight it saw first; give the fresh ones those names.
    const renamed = fresh.map((v, i) => Object.assign(v, {name: trained[i]!.name}));
    const before = tf.memory().numTensors;
    expect(mergeAdapterBytes(bytes, renamed)).toHaveLength(3);
    expect(tf.memory().numTensors).toBe(before);
    fresh.forEach((w, i) => {
      const difference = tf.max(tf.abs(tf.sub(w, trained[i]!))).dataSync()[0]!;
      expect(difference).toBeLessThan(2e-6);
    });
    optimizer.dispose();
  });

  test('changes nothing when one weight does not fit', async () => {
    const trained = variables();
    const bytes = await encodeAdapter(train(trained));
    const fresh = variables().map((v, i) => Object.assign(v, {name: trained[i]!.name}));
    const start = fresh.map(w => w.dataSync().slice());
    const wrong = [
      fresh[0]!,
      Object.assign(tf.variable(tf.ones([3, 3, 4, 9])), {name: trained[1]!.name}),
      fresh[2]!,
    ];
    expect(() => mergeAdapterBytes(bytes, wrong)).toThrow(/\[3,3,4,8\], and the model's is \[3,3,4,9\]/);
    expect(() => mergeAdapterBytes(bytes, fresh.slice(0, 2))).toThrow(/which this model does not have/);
    fresh.forEach((w, i) => expect(w.dataSync()).toEqual(start[i]));
  });

  test('is refused after a refresh, when the factors are not all of the change', async () => {
    const optimizer = train(variables(), {refresh: every(2), moments: 'reset'});
    await expect(encodeAdapter(optimizer)).rejects.toThrow(/was refreshed/);
  });
});
