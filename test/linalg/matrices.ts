import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {beforeAll, describe, expect} from 'vitest';
import {normal, splitSeed} from '../../src/random.js';
import {values} from '../helpers.js';

/** The same tests on both backends. */
export function onBackends(name: string, tests: (backend: string) => void): void {
  describe.each(['cpu', 'wasm'])(`${name} on %s`, backend => {
    beforeAll(async () => {
      expect(await tf.setBackend(backend)).toBe(true);
    });
    tests(backend);
  });
}

export const random = (m: number, n: number, seed: number): tf.Tensor2D =>
  normal([m, n], seed) as tf.Tensor2D;

/** `[m, n]` of the rank given, at most. */
export const ofRank = (m: number, n: number, rank: number, seed: number): tf.Tensor2D =>
  rank === 0
    ? tf.zeros([m, n])
    : tf.matMul(random(m, rank, splitSeed(seed, 'left')), random(rank, n, splitSeed(seed, 'right')));

/** Largest entry of |A - B|, over that of |B| where that is not zero. */
export function distance(a: tf.Tensor, b: tf.Tensor): number {
  expect(a.shape).toEqual(b.shape);
  const [x, y] = [values(a), values(b)];
  if (x.some(value => !Number.isFinite(value))) return Infinity;
  const size = Math.max(...y.map(Math.abs), 0) || 1;
  return x.reduce((worst, value, i) => Math.max(worst, Math.abs(value - y[i]!)), 0) / size;
}

/** Largest entry of |Q^T Q - I|. */
export const skew = (q: tf.Tensor2D): number => distance(tf.matMul(tf.transpose(q), q), tf.eye(q.shape[1]));

/** U diag(s) V^T */
export const assembled = (u: tf.Tensor2D, s: readonly number[], v: tf.Tensor2D): tf.Tensor2D =>
  tf.matMul(tf.mul(u, tf.tensor2d([...s], [1, s.length])), tf.transpose(v));

/** Shapes, ranks, sizes and seeds of all kinds: tall, wide, a row, a column, deficient, zero, tiny, huge. */
export const anyMatrix = fc
  .record({
    m: fc.integer({min: 1, max: 12}),
    n: fc.integer({min: 1, max: 12}),
    rank: fc.integer({min: 0, max: 12}),
    size: fc.constantFrom(1, 1e-30, 1e30),
    seed: fc.integer(),
  })
  .map(({m, n, rank, size, seed}) => ({
    m,
    n,
    size,
    seed,
    make: () => tf.mul(ofRank(m, n, rank, seed), size) as tf.Tensor2D,
  }));
