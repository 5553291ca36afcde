import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {lora, pissa, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {
  backends,
  begin,
  columnDistance,
  distance,
  random,
  rowDistance,
  sixSteps,
  trainingLosses,
} from './starts.js';

describe.each(backends)('pissa on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each([
    [8, 6, 2, 1],
    [6, 11, 6, 0.25],
    [40, 25, 3, 2],
    [1, 7, 1, 3],
    [7, 1, 1, 1],
  ])('equals the float64 reference: %i x %i, r %i, s %f', (m, n, rank, scale) => {
    const weight = random(m, n, m * n);
    const want = reference.pissa(fromTensor(weight), rank, scale);
    const got = begin(pissa({iterations: 40}), rank, {weight, scale});
    expect(columnDistance(got.a, toTensor(want.a))).toBeLessThan(1e-3);
    expect(rowDistance(got.b, toTensor(want.b))).toBeLessThan(1e-3);
  });

  test('s A B is the best approximation of the weight of rank r, also for a negative s; all of it at full rank', () => {
    const weight = random(9, 7, 1);
    for (const scale of [1, 0.3, -2]) {
      for (const rank of [1, 3, 7, 9]) {
        const {a, b} = begin(pissa(), rank, {weight, scale});
        const want = toTensor(reference.best(fromTensor(weight), rank));
        expectOracle(
          'pissa',
          'best',
          's A0 B0 = the first r terms of the SVD of W0',
          distance(tf.mul(tf.matMul(a, b), scale), want),
          1e-5,
        );
        // Shared evenly: A^T A = B B^T.
        expect(distance(tf.matMul(tf.transpose(a), a), tf.matMul(b, tf.transpose(b)))).toBeLessThan(1e-5);
      }
    }
  });

  test('W stays at W0 when training begins', () => {
    const weight = tf.variable(random(10, 7, 1));
    const before = values(weight);
    const optimizer = projected(tf.train.sgd(0), lora({rank: 2, alpha: 9, init: pissa()}), {
      targets: () => true,
    });
    optimizer.applyGradients({[weight.name]: random(10, 7, 2)});
    expect(values(weight)).toEqual(before);
    optimizer.dispose();
    weight.dispose();
  });

  test('a weight of low rank, or zero, leaves no pair dead', () => {
    const low = tf.matMul(random(12, 1, 1), random(1, 10, 2)) as tf.Tensor2D;
    for (const weight of [low, tf.zeros([12, 10]) as tf.Tensor2D]) {
      const {a, b} = begin(pissa(), 3, {weight});
      expect(Math.min(...values(tf.sum(tf.abs(a), 0)))).toBeGreaterThan(0);
      expect(values(tf.max(tf.abs(tf.sub(tf.matMul(a, b), weight))))[0]).toBeLessThan(1e-5);
    }
  });

  test('a weight that holds NaN is an error', () => {
    expect(() => begin(pissa(), 1, {weight: tf.fill([20, 20], NaN)})).toThrow(/not finite: NaN/);
  });

  test('trains', () => {
    const losses = trainingLosses(lora({rank: 2, init: pissa()}));
    expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]!);
  });

  test('saved and loaded on the way', async () => {
    const options = {rank: 2, init: pissa()};
    expect(await sixSteps(options, 3)).toEqual(await sixSteps(options));
  });
});

test('options are checked', () => {
  expect(() => pissa({iterations: 0.5})).toThrow('pissa: iterations must be a whole number, not 0.5');
  expect(() => pissa({rank: 3} as never)).toThrow("unknown option 'rank'");
});
