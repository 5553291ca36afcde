import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {expect, test} from 'vitest';
import {denseGradient} from '../../src/capture/gradient.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {bottomSingular} from '../../src/linalg/bottom.js';
import {type Operator, topEigen, topSingular} from '../../src/linalg/range-finder.js';
import {orthonormalize} from '../../src/linalg/orthonormal.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {anyMatrix, assembled, distance, ofRank, onBackends, random, skew} from './matrices.js';

const operator = (a: tf.Tensor2D) => denseGradient(a, a.shape);
const columns = (a: tf.Tensor2D, count: number) => tf.slice(a, [0, 0], [a.shape[0], count]);
/** sin of the largest angle between the spans. */
const angle = (a: tf.Tensor2D, b: tf.Tensor2D) =>
  reference.singularValues(fromTensor(tf.sub(a, tf.matMul(b, tf.matMul(tf.transpose(b), a)))))[0]!;
/** U diag(s) V^T with random orthonormal U and V. */
const withSpectrum = (m: number, n: number, s: number[], seed: number) =>
  assembled(orthonormalize(random(m, s.length, seed)), s, orthonormalize(random(n, s.length, seed + 1)));

onBackends('topSingular', () => {
  test('matrices of all kinds: orthonormal vectors, G v = s u, singular values of the reference', () => {
    fc.assert(
      fc.property(
        anyMatrix,
        fc.integer({min: 1, max: 12}),
        fc.integer({min: 0, max: 3}),
        ({m, n, size, make}, rank, oversample) => {
          fc.pre(rank <= Math.min(m, n));
          tf.tidy(() => {
            const a = make();
            const {u, s, v} = topSingular(operator(a), {rank, oversample, iterations: 60});
            expect([u.shape, s.length, v.shape]).toEqual([[m, rank], rank, [n, rank]]);
            expect(Math.max(skew(u), skew(v))).toBeLessThan(1e-6);
            const wanted = reference.singularValues(fromTensor(a)).map(value => value / size);
            s.forEach((value, i) =>
              expect(Math.abs(value / size - wanted[i]!)).toBeLessThanOrEqual(1e-3 * (wanted[0] || 1)),
            );
            const image = tf.matMul(tf.div(a, size), v);
            const length = wanted[0] || 1;
            expect(
              distance(
                tf.div(image, length),
                tf.div(
                  tf.mul(
                    u,
                    tf.tensor2d(
                      s.map(x => x / size),
                      [1, rank],
                    ),
                  ),
                  length,
                ),
              ),
            ).toBeLessThan(3e-2);
          });
        },
      ),
      {numRuns: 100},
    );
  });

  test('a known spectrum with a gap: subspaces to rounding, from a few products with thin matrices', () => {
    const spectrum = [9, 7, 5, 4, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];
    const a = withSpectrum(60, 40, spectrum, 1);
    const asked: number[] = [];
    const counting: Operator = {
      shape: a.shape,
      leftMul: p => (asked.push(p.shape[1]), operator(a).leftMul(p)),
      rightMul: q => (asked.push(q.shape[1]), operator(a).rightMul(q)),
    };
    const {u, s, v} = topSingular(counting, {rank: 4, oversample: 4, iterations: 4});
    expect(asked).toEqual(Array(10).fill(8));
    s.forEach((value, i) => expect(value).toBeCloseTo(spectrum[i]!, 5));
    expect(angle(u, columns(orthonormalize(random(60, 12, 1)), 4))).toBeLessThan(1e-5);
    expect(angle(v, columns(orthonormalize(random(40, 12, 2)), 4))).toBeLessThan(1e-5);
  });

  test('a spectrum that falls slowly: nearly all of the best possible share', () => {
    const a = random(80, 60, 5);
    const best = reference
      .singularValues(fromTensor(a))
      .slice(0, 8)
      .reduce((total, x) => total + x * x, 0);
    const {s} = topSingular(operator(a), {rank: 8});
    const share = s.reduce((total, x) => total + x * x, 0) / best;
    expect(share).toBeGreaterThan(0.97);
    expect(share).toBeLessThan(1 + 1e-6);
  });

  test('factored: the same as dense', () => {
    const [x, delta] = [random(30, 50, 1), random(30, 40, 2)];
    const factored = factoredGradient([{x, delta}], [50, 40]);
    const [one, two] = [factored, operator(tf.matMul(x, delta, true))].map(g =>
      topSingular(g, {rank: 3, iterations: 30}),
    );
    one!.s.forEach((value, i) => expect(value / two!.s[i]!).toBeCloseTo(1, 5));
    expect(distance(one!.u, two!.u)).toBeLessThan(1e-3);
  });

  test('every size between 1e-30 and 1e30 gives the same vectors', () => {
    const a = withSpectrum(40, 30, [9, 7, 5, 1, 0.5], 3);
    const plain = topSingular(operator(a), {rank: 3});
    for (const size of [1e-30, 1e30]) {
      const {u, s} = topSingular(operator(tf.mul(a, size)), {rank: 3});
      expect(distance(u, plain.u)).toBeLessThan(1e-5);
      s.forEach((value, i) => expect(value / size / plain.s[i]!).toBeCloseTo(1, 5));
    }
  });

  test('rank deficient and zero: zeros, and directions from the seed', () => {
    const low = topSingular(operator(ofRank(40, 30, 2, 1)), {rank: 5, seed: 3});
    expect(low.s.slice(2)).toEqual([0, 0, 0]);
    expect(Math.max(skew(low.u), skew(low.v))).toBeLessThan(1e-6);
    const zero = tf.zeros([40, 30]) as tf.Tensor2D;
    const [one, again, other] = [1, 1, 2].map(seed => topSingular(operator(zero), {rank: 2, seed}));
    expect(one!.s).toEqual([0, 0]);
    expect(values(again!.u)).toEqual(values(one!.u));
    expect(distance(other!.u, one!.u)).toBeGreaterThan(0.01);
    expect(skew(one!.v)).toBeLessThan(1e-6);
  });

  test('NaN, infinity and ranks that cannot be are errors', () => {
    const bad = tf.fill([30, 30], NaN) as tf.Tensor2D;
    expect(() => topSingular(operator(bad), {rank: 2})).toThrow(/topSingular: a product .* not finite: NaN/);
    expect(() => topSingular(operator(bad), {rank: 31})).toThrow('rank must be a whole number from 1 to 30');
    expect(() => topSingular(operator(bad), {rank: 0})).toThrow('not 0');
  });

  test('topEigen: as the singular vectors of x, for C = x^T x known by its products', () => {
    for (const [t, m, rank] of [
      [50, 40, 4],
      [6, 5, 5],
      [3, 40, 6],
    ] as const) {
      const x = t === 50 ? withSpectrum(t, m, [9, 7, 5, 4, 1, 0.5], 1) : random(t, m, 2);
      const product = (q: tf.Tensor2D) => tf.matMul(x, tf.matMul(x, q), true) as tf.Tensor2D;
      const {vectors, values: lambda} = topEigen(product, m, {rank});
      const known = Math.min(rank, t);
      const {s, v} = topSingular(operator(x), {rank: known});
      s.forEach((value, i) => expect(lambda[i]! / value ** 2).toBeCloseTo(1, 4));
      expect(angle(columns(vectors, known), v)).toBeLessThan(1e-4);
      expect(skew(vectors)).toBeLessThan(1e-6);
      expect(lambda.slice(known)).toEqual(Array(rank - known).fill(0));
    }
  });

  test('bottomSingular: the last ones, of all kinds of matrices', () => {
    fc.assert(
      fc.property(anyMatrix, fc.integer({min: 1, max: 12}), ({m, n, size, make}, rank) => {
        fc.pre(rank <= Math.min(m, n));
        tf.tidy(() => {
          const a = make();
          const {u, s, v} = bottomSingular(a, {rank});
          expect([u.shape, s.length, v.shape]).toEqual([[m, rank], rank, [n, rank]]);
          expect(Math.max(skew(u), skew(v))).toBeLessThan(1e-6);
          const wanted = reference.singularValues(fromTensor(a)).map(x => x / size);
          const largest = wanted[0] || 1;
          wanted
            .slice(-rank)
            .forEach((value, i) =>
              expect(Math.abs(s[i]! / size - value)).toBeLessThanOrEqual(2e-7 * largest),
            );
          const unit = tf.div(a, size * largest) as tf.Tensor2D;
          const row = tf.tensor2d(
            s.map(x => x / size / largest),
            [1, rank],
          );
          const gap = (x: tf.Tensor, y: tf.Tensor) => Math.max(...values(tf.abs(tf.sub(x, y))));
          expect(gap(tf.matMul(unit, v), tf.mul(u, row))).toBeLessThan(1e-6);
          expect(gap(tf.matMul(tf.transpose(unit), u), tf.mul(v, row))).toBeLessThan(1e-6);
        });
      }),
      {numRuns: 100},
    );
  });
});

test('cpu and wasm give the same vectors', async () => {
  const results: number[][] = [];
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend);
    const low = ofRank(50, 40, 2, 1);
    results.push([
      ...values(topSingular(operator(low), {rank: 4}).u),
      ...values(topSingular(operator(withSpectrum(50, 40, [5, 4, 2, 1], 2)), {rank: 3}).v),
    ]);
  }
  results[0]!.forEach((value, i) => expect(Math.abs(results[1]![i]! - value)).toBeLessThan(1e-5));
});
