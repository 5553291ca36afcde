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

  test('one feature that is large and constant leaves the other directions as they are', () => {
    for (const constant of [0, 10, 300, 700, 1000, 3000, 1e5]) {
      const x = tf.tidy(() => {
        const scales = tf.tensor2d([Array.from({length: 11}, (_, i) => 0.6 ** i)]);
        return tf.concat([tf.fill([64, 1], constant), tf.mul(random(64, 11, 1), scales)], 1) as tf.Tensor2D;
      });
      const rank = constant === 0 ? 2 : 3;
      const a = tf.slice(start(x, rank), [1, 0], [11, rank]);
      const rest = tf.slice(x, [0, 1], [64, 11]) as tf.Tensor2D;
      const centred = tf.sub(rest, tf.mean(rest, 0)) as tf.Tensor2D;
      // Beside a constant, what the other columns of A can hold is the first two directions of the centred rest.
      const inputs = constant === 0 ? rest : centred;
      const held = values(tf.sum(tf.square(tf.matMul(inputs, a))))[0]!;
      const [s1, s2] = reference.singularValues(fromTensor(inputs));
      const what = 'beside a feature up to 1e5 times the others A holds their first directions';
      expectOracle('eva', 'large constant', what, Math.abs(held / (s1! ** 2 + s2! ** 2) - 1), 2e-3);
    }
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

  /** A convolution, an embedding's sum beside it and a dense layer, on one fixed batch. */
  const problem = () => {
    const [image, ids] = [
      tf.randomNormal([6, 8, 8, 3], 0, 1, 'float32', 1),
      tf.tensor1d([1, 4, 4, 0, 7, 2], 'int32'),
    ];
    const named = (shape: number[], name: string, seed: number) =>
      tf.variable(tf.randomNormal(shape, 0, 0.3, 'float32', seed), true, `eva-${backend}-${name}`);
    const weights = [named([3, 3, 3, 8], 'conv', 2), named([8, 8], 'table', 3), named([8, 4], 'dense', 4)];
    const loss = () => {
      const [conv, table, dense] = weights as [tf.Variable, tf.Variable, tf.Variable];
      const features = tf.mean(
        tf.relu(tf.conv2d(image as tf.Tensor4D, conv as tf.Tensor4D, 2, 'same')),
        [1, 2],
      );
      const y = tf.matMul(tf.add(features, tf.gather(table, ids)), dense as unknown as tf.Tensor2D);
      return tf.mean(tf.square(tf.sub(y, 1))) as tf.Scalar;
    };
    return {weights, loss, image};
  };
  const build = () =>
    projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), lora({rank: 3, init: eva()}), {targets: () => true});

  test('trains convolutions, embeddings and dense layers; k steps + save + load + the rest = all of them', async () => {
    const {weights, loss} = problem();
    const begun = weights.map(w => w.clone());
    const run = (optimizer: tf.Optimizer, steps: number) =>
      Array.from({length: steps}, () => optimizer.minimize(loss, true, weights)!.dataSync()[0]!);
    const losses = run(build(), 8);
    expect(losses[7]!).toBeLessThan(0.7 * losses[0]!);
    const wanted = weights.map(values);
    weights.forEach((w, i) => w.assign(begun[i]!));
    const [first, second] = [build(), build()];
    run(first, 3);
    await second.setWeights(await first.getWeights());
    run(second, 5);
    expect(weights.map(values)).toEqual(wanted);
    tf.dispose(weights);
  });

  test('a convolution: its patches are inputs like any other', () => {
    const {weights, loss, image} = problem();
    const optimizer = build();
    optimizer.minimize(loss, false, weights);
    const {a} = optimizer.factors(weights[0]!);
    const cells = tf.unstack(image, 0).flatMap(one => {
      const padded = tf.pad(one, [
        [0, 1],
        [0, 1],
        [0, 0],
      ]);
      return [0, 2, 4, 6].flatMap(i =>
        [0, 2, 4, 6].map(j => tf.slice(padded, [i, j, 0], [3, 3, 3]).flatten()),
      );
    });
    const patches = tf.stack(cells) as tf.Tensor2D;
    const held = values(tf.sum(tf.square(tf.matMul(patches, a! as unknown as tf.Tensor2D))))[0]!;
    const best = reference.singularValues(fromTensor(patches)).slice(0, 3);
    // One step has moved a by no more than its rate.
    expect(held / best.reduce((sum, s) => sum + s * s, 0)).toBeGreaterThan(0.85);
    tf.dispose(weights);
  });
});

test('options are checked', () => {
  expect(() => eva({iterations: -1})).toThrow('eva: iterations must be a whole number, not -1');
});
