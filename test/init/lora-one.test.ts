import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {lora, loraOne, projected} from '../../src/index.js';
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

describe.each(backends)('loraOne on %s', backend => {
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
    const gradient = random(m, n, m * n);
    const want = reference.loraOne(fromTensor(gradient), rank, 9);
    const got = begin(loraOne({gamma: 9, iterations: 40}), rank, {gradient});
    expect(columnDistance(got.a, toTensor(want.a))).toBeLessThan(1e-3);
    expect(rowDistance(got.b, toTensor(want.b))).toBeLessThan(1e-3);
  });

  test('s A B lies down the gradient: -G_r / (sigma_1 gamma) times |s|, whatever the size of G or the sign of s', () => {
    for (const [scale, size] of [
      [1, 1],
      [-2, 1],
      [0.5, 1e-20],
    ] as const) {
      const gradient = random(9, 7, 1);
      const {a, b} = begin(loraOne(), 3, {gradient: tf.mul(gradient, size), scale});
      const g = fromTensor(gradient);
      const want = tf.mul(
        toTensor(reference.best(g, 3)),
        -Math.abs(scale) / reference.singularValues(g)[0]! / 128,
      );
      expectOracle(
        'lora-one',
        'down',
        's A0 B0 = -|s| G_r / (gamma sigma_1)',
        distance(tf.mul(tf.matMul(a, b), scale), want),
        1e-5,
      );
    }
  });

  test('W stays at W0 when training begins, from a zero gradient too, which leaves no pair dead', () => {
    for (const gradient of [random(10, 7, 2), tf.zeros<tf.Rank.R2>([10, 7])]) {
      const weight = tf.variable(random(10, 7, 1));
      const before = values(weight);
      const optimizer = projected(tf.train.sgd(0), lora({rank: 2, init: loraOne()}), {targets: () => true});
      optimizer.applyGradients({[weight.name]: gradient});
      expect(values(weight)).toEqual(before);
      const {a} = begin(loraOne(), 2, {gradient});
      expect(Math.min(...values(tf.sum(tf.abs(a), 0)))).toBeGreaterThan(0);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('trains, from one gradient and from the sum of three', () => {
    for (const options of [{}, {steps: 3}]) {
      const losses = trainingLosses(lora({rank: 2, init: loraOne({gamma: 4, ...options})}));
      expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]!);
    }
  });

  test('saved and loaded on the way', async () => {
    const options = {rank: 2, init: loraOne({steps: 2})};
    for (const pause of [1, 3]) expect(await sixSteps(options, pause)).toEqual(await sixSteps(options));
  });
});

test('options are checked', () => {
  expect(() => loraOne({gamma: -1})).toThrow('loraOne: gamma must be a number above 0, not -1');
  expect(() => loraOne({steps: 1.5})).toThrow('loraOne: steps');
});
