import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {denseGradient, eva, type Gradient, lora, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {backends, columnDistance, distance, random} from './starts.js';

/** The gradient of a layer whose inputs are x. */
const knowing = (x: tf.Tensor2D, n: number): Gradient => ({
  ...denseGradient(tf.zeros([x.shape[1], n]), [x.shape[1], n]),
  inputGram: q => tf.matMul(x, tf.matMul(x, q), true),
});
const start = (x: tf.Tensor2D, rank: number, n = 5, iterations = 40) => {
  const {a, b} = eva({iterations})({
    weight: tf.zeros([x.shape[1], n]),
    gradient: knowing(x, n),
    rank,
    seed: 3,
  });
  expect(b).toBeUndefined();
  return a as tf.Tensor2D;
};

describe.each(backends)('eva on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each([
    [20, 6, 2],
    [9, 30, 4],
    [50, 25, 3],
    [4, 1, 1],
  ])('equals the float64 reference: %i inputs of %i, r %i', (t, m, rank) => {
    const x = tf.mul(
      random(t, m, 2),
      tf.tensor2d(
        Array.from({length: m}, (_, i) => 0.8 ** i),
        [1, m],
      ),
    ) as tf.Tensor2D;
    const want = toTensor(reference.eva(fromTensor(x), rank).a);
    expect(columnDistance(start(x, rank), want)).toBeLessThan(2e-3);
  });

  test('no r directions hold more of the inputs: ||x a||^2 = the first r squared singular values', () => {
    for (const [t, m, rank] of [
      [30, 12, 3],
      [5, 12, 5],
      [30, 60, 4],
    ] as const) {
      const x = random(t, m, 1);
      const held = values(tf.sum(tf.square(tf.matMul(x, start(x, rank)))))[0]!;
      const best = reference
        .singularValues(fromTensor(x))
        .slice(0, rank)
        .reduce((sum, s) => sum + s * s, 0);
      expectOracle(
        'eva',
        'held',
        '||x A0||^2 = the first r squared singular values of x',
        Math.abs(held / best - 1),
        1e-4,
      );
    }
  });

  test('fewer inputs than the rank, inputs of zero, a rank above m: orthonormal columns, then zeros', () => {
    for (const x of [random(2, 9, 1), tf.zeros<tf.Rank.R2>([4, 9])]) {
      const a = start(x, 5);
      expect(distance(tf.matMul(tf.transpose(a), a), tf.eye(5))).toBeLessThan(1e-6);
    }
    const a = start(random(8, 3, 1), 5);
    expect(values(tf.sum(tf.square(a), 0)).map(Math.round)).toEqual([1, 1, 1, 0, 0]);
  });

  test('where the inputs are not known: an error that says what to do', () => {
    const weight = tf.variable(random(10, 7, 1));
    const optimizer = projected(tf.train.sgd(1), lora({rank: 2, init: eva()}), {targets: () => true});
    expect(() => optimizer.applyGradients({[weight.name]: random(10, 7, 2)})).toThrow(
      /eva: the inputs of this \[10, 7\] weight are not known.*kaiming/,
    );
    optimizer.dispose();
    weight.dispose();
  });

  test('inputs that hold NaN give factors that do: the optimizer tells of them', () => {
    const weight = tf.zeros<tf.Rank.R2>([30, 5]);
    const {a} = eva()({weight, gradient: knowing(tf.fill([20, 30], NaN), 5), rank: 2, seed: 3});
    expect(values(a!).every(Number.isNaN)).toBe(true);
  });
});

test('options are checked', () => {
  expect(() => eva({iterations: -1})).toThrow('eva: iterations must be a whole number, not -1');
});
