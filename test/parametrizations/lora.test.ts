import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {denseGradient, lora, type LoraOptions, normal, projected, symmetric} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {expectOracle} from './oracle.js';
import {mapValues} from '../../src/tensors.js';
import {meanOver} from './subspace.js';

beforeAll(() => tf.setBackend('cpu'));

const matrix = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;
const oracle = (tensor: tf.Tensor) =>
  reference.matrix(tensor.shape as [number, number], Array.from(tensor.dataSync()));
const expectClose = (got: tf.Tensor, want: reference.Matrix, relative = 1e-5) => {
  const values = reference.toArray(want).flat();
  const size = Math.max(...values.map(Math.abs), 1e-6);
  Array.from(got.dataSync()).forEach((value, i) =>
    expect(Math.abs(value - values[i]!)).toBeLessThan(relative * size),
  );
};

describe('lora', () => {
  test.each([
    [5, 7, 2, 4, false],
    [7, 5, 3, 3, true],
    [1, 6, 2, 1, false],
    [6, 1, 4, 8, true],
    [3, 3, 9, 2, false],
  ])(
    'delta, pullback and lift equal the float64 reference: %i x %i, r %i, alpha %i, rs %s',
    (m, n, rank, alpha, rs) => {
      const p = lora({rank, alpha, rankStabilised: rs});
      const s = rs ? reference.rankStabilisedScale(alpha, rank) : reference.classicScale(alpha, rank);
      const rule = reference.lora(s);
      const [a, b, next] = [
        matrix([m, rank], 1),
        matrix([rank, n], 2),
        {a: matrix([m, rank], 3), b: matrix([rank, n], 4)},
      ];
      const G = matrix([m, n], 5);
      const state = {factors: {a, b}, frozen: {}};
      const factors = {a: oracle(a), b: oracle(b)};

      expectClose((p as never as {delta(s: unknown): tf.Tensor}).delta(state), rule.delta(factors));
      const grads = p.pullback!(state as never, denseGradient(G, [m, n])) as {a: tf.Tensor; b: tf.Tensor};
      const wanted = rule.pullback(factors, oracle(G));
      expectClose(grads.a, wanted.a);
      expectClose(grads.b, wanted.b);
      const moved = {factors: next, frozen: {}};
      expectClose(
        p.lift!(state as never, moved as never),
        rule.lift(factors, {a: oracle(next.a), b: oracle(next.b)}),
      );
    },
  );

  test('O8: one SGD step is -eta s^2 (A A^T G + G B^T B) + eta^2 s^3 G B^T A^T G', () => {
    const [eta, alpha, rank] = [0.1, 6, 2];
    const weight = tf.variable(matrix([6, 5], 1));
    const G = matrix([6, 5], 2);
    const optimizer = projected(tf.train.sgd(eta), lora({rank, alpha, init: symmetric()}), {
      targets: () => true,
    });
    optimizer.applyGradients({[weight.name]: tf.zerosLike(G)});
    const factors = optimizer.factors(weight);
    const [a, b, before] = [oracle(factors['a']!), oracle(factors['b']!), oracle(weight)];
    optimizer.applyGradients({[weight.name]: G});
    const change = reference.sgdUpdate(eta, alpha / rank, {a, b}, oracle(G));
    const [w, d] = [reference.toArray(before), reference.toArray(change)];
    const expected = reference.fromRows(w.map((row, i) => row.map((x, j) => x + d[i]![j]!)));
    expectClose(weight, expected, 1e-6);
    optimizer.dispose();
  });

  test('O11: from B = 0 the first SGD step moves W along A A^T G alone, and A not at all', () => {
    const weight = tf.variable(matrix([6, 5], 1));
    const start = weight.clone();
    const G = matrix([6, 5], 2);
    const optimizer = projected(tf.train.sgd(0.5), lora({rank: 2, alpha: 4}), {targets: () => true});
    optimizer.applyGradients({[weight.name]: G});
    const {a} = optimizer.factors(weight);
    const expected = tf.sub(start, tf.mul(tf.matMul(a!, tf.matMul(a!, G, true)), 0.5 * 4));
    expectClose(weight, oracle(expected), 1e-6);
    optimizer.dispose();
  });

  test('O12: a start with both factors at zero is refused, before anything moves', () => {
    const weight = tf.variable(matrix([6, 5], 1));
    const start = weight.dataSync().slice();
    const dead = lora({rank: 2, init: () => ({a: tf.zeros([6, 2]), b: tf.zeros([2, 5])})});
    const optimizer = projected(tf.train.sgd(0.5), dead, {targets: () => true});
    expect(() => optimizer.applyGradients({[weight.name]: tf.onesLike(weight)})).toThrow(/dead point/);
    expect(weight.dataSync()).toEqual(start);
    const none = projected(tf.train.sgd(0.5), lora({init: () => ({})}), {targets: () => true, rest: 'train'});
    const large = tf.variable(matrix([40, 40], 1));
    expect(() => none.applyGradients({[large.name]: tf.onesLike(large)})).toThrow(/none of a, b/);
    optimizer.dispose();
    none.dispose();
  });

  test('O13: W - W0 has rank at most r, and at most 2r from a symmetric start', () => {
    for (const [init, limit] of [
      [undefined, 2],
      [symmetric(), 4],
    ] as const) {
      const weight = tf.variable(matrix([9, 8], 1));
      const start = weight.clone();
      const optimizer = projected(
        tf.train.adam(0.1, 0.9, 0.999, 1e-7),
        lora({rank: 2, ...(init && {init})}),
        {targets: () => true},
      );
      for (let step = 0; step < 10; step++)
        optimizer.applyGradients({[weight.name]: matrix([9, 8], step + 10)});
      expect(reference.rank(oracle(tf.sub(weight, start)), 1e-5)).toBe(limit);
      optimizer.dispose();
    }
  });

  test('O14: the progress of the first step is the same at every rank when rank-stabilised, else it falls as 1/r', () => {
    const [m, n, eta, alpha] = [24, 6, 0.1, 6];
    const [weight, G] = [matrix([m, n], 1), matrix([m, n], 2)];
    const gradient = denseGradient(G, [m, n]);
    const squared = (t: tf.Tensor) => tf.sum(tf.square(t)).dataSync()[0]!;
    /** <-dW, G> / ||G||^2 for one step of SGD. */
    const progress = (options: LoraOptions, seed: number) =>
      tf.tidy(() => {
        const p = lora(options);
        const {factors} = p.init({weight, gradient, seed});
        const state = {factors, frozen: {}};
        const g = p.pullback!(state, gradient);
        const next = mapValues(factors, (x, key) => tf.sub(x, tf.mul(g[key as 'a' | 'b'], eta)));
        const change = p.lift!(state, {factors: next as typeof factors, frozen: {}});
        return -tf.sum(tf.mul(change, G)).dataSync()[0]! / squared(G);
      });
    for (const rankStabilised of [true, false]) {
      for (const rank of [1, 4, 16, 64]) {
        // s^2 E[A A^T] with the uniform start: variance 1/(3m), r columns.
        const want = (eta * alpha ** 2) / (3 * m) / (rankStabilised ? 1 : rank);
        const {mean, error} = meanOver(400, seed => progress({rank, alpha, rankStabilised}, seed));
        expect(error).toBeLessThan(0.06 * want);
        const what = rankStabilised
          ? 'first step <-dW, G>/||G||^2 = eta alpha^2/(3m) at ranks 1 to 64, in units of 4 standard errors'
          : 'with alpha/r: eta alpha^2/(3 m r), in units of 4 standard errors';
        const number = rankStabilised ? 'O14' : 'O14, alpha/r';
        expectOracle('lora', number, what, Math.abs(mean - want) / (4 * error), 1);
      }
    }
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{rank: 2.5}, /not 2.5/],
    [{rank: NaN}, /not NaN/],
    [{alpha: Infinity}, /alpha must be a number other than 0, not Infinity/],
    [{init: 'pissa'}, /init must be a function/],
    [{r: 8}, /unknown option 'r'; it takes 'rank'/],
  ])('refuses %o', (options, message) => {
    expect(() => lora(options as never)).toThrow(message);
  });

  test('refuses a start of the wrong shape, naming both', () => {
    const weight = tf.variable(matrix([6, 5], 1));
    const wrong = projected(tf.train.sgd(1), lora({rank: 2, init: () => ({a: tf.ones([5, 2])})}), {
      targets: () => true,
    });
    expect(() => wrong.applyGradients({[weight.name]: tf.onesLike(weight)})).toThrow(
      'init returned a of shape [5,2] where [6,2]',
    );
  });
});
