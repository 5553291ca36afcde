import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {lora, olora, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {backends, begin, distance, random, sixSteps, trainingLosses} from './starts.js';

describe.each(backends)('olora on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each([
    [8, 6, 2],
    [6, 11, 6],
    [40, 25, 3],
    [1, 7, 1],
    [7, 1, 1],
  ])('equals the float64 reference: %i x %i, r %i', (m, n, rank) => {
    const weight = random(m, n, m * n);
    const want = reference.olora(fromTensor(weight), rank);
    const got = begin(olora(), rank, {weight});
    expect(distance(got.a, toTensor(want.a))).toBeLessThan(1e-5);
    expect(distance(got.b, toTensor(want.b))).toBeLessThan(1e-5);
  });

  test('a b is the weight projected on its first r rows: exact in those, and everywhere at full rank', () => {
    const weight = random(9, 7, 1);
    for (const rank of [1, 3, 7, 9]) {
      const {a, b} = begin(olora(), rank, {weight});
      const product = tf.matMul(a, b);
      const rows = Math.min(rank, 7);
      expectOracle(
        'olora',
        'rows',
        'A0 B0 has the first r rows of W0',
        distance(tf.slice(product, [0, 0], [rows, 7]), tf.slice(weight, [0, 0], [rows, 7])),
        1e-5,
      );
      if (rank >= 7) expect(distance(product, weight)).toBeLessThan(1e-5);
      const live = tf.slice(b, [0, 0], [rows, 7]) as tf.Tensor2D;
      expect(distance(tf.matMul(live, tf.transpose(live)), tf.eye(rows))).toBeLessThan(1e-6);
    }
  });

  test('W stays at W0 when training begins; a zero weight can be trained', () => {
    for (const start of [random(10, 7, 1), tf.zeros([10, 7])]) {
      const weight = tf.variable(start);
      const before = values(weight);
      const optimizer = projected(tf.train.sgd(0), lora({rank: 2, alpha: 9, init: olora()}), {
        targets: () => true,
      });
      optimizer.applyGradients({[weight.name]: random(10, 7, 2)});
      expect(values(weight)).toEqual(before);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('trains', () => {
    const losses = trainingLosses(lora({rank: 2, init: olora()}));
    expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]!);
  });

  test('saved and loaded on the way', async () => {
    const options = {rank: 2, init: olora()};
    expect(await sixSteps(options, 3)).toEqual(await sixSteps(options));
  });
});
