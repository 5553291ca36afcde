import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {expect, test} from 'vitest';
import {orthonormalize} from '../../src/linalg/orthonormal.js';
import {values} from '../helpers.js';
import {anyMatrix, distance, onBackends, random, skew} from './matrices.js';

onBackends('orthonormalize', () => {
  test('k orthonormal columns, whose span holds the columns that were given', () => {
    fc.assert(
      fc.property(anyMatrix, ({m, n, make}) => {
        fc.pre(n <= m);
        tf.tidy(() => {
          const a = make();
          const q = orthonormalize(a);
          expect(q.shape).toEqual([m, n]);
          expect(skew(q)).toBeLessThan(1e-6);
          expect(distance(tf.matMul(q, tf.matMul(tf.transpose(q), a)), a)).toBeLessThan(2e-6);
        });
      }),
      {numRuns: 150},
    );
  });

  test('the j-th column depends on the first j alone, and points their way', () => {
    const a = random(9, 5, 1);
    const q = orthonormalize(a);
    expect(distance(tf.slice(q, [0, 0], [9, 3]), orthonormalize(tf.slice(a, [0, 0], [9, 3])))).toBe(0);
    const r = values(tf.matMul(q, a, true));
    for (let i = 0; i < 5; i++) {
      expect(r[i * 5 + i]).toBeGreaterThan(0);
      for (let j = 0; j < i; j++) expect(Math.abs(r[i * 5 + j]!)).toBeLessThan(1e-6);
    }
  });

  test('near dependence: columns that differ by one part in a million stay orthonormal', () => {
    const a = random(50, 1, 1);
    const b = tf.add(a, tf.mul(random(50, 1, 2), 1e-5));
    const q = orthonormalize(tf.concat([a, b, a], 1) as tf.Tensor2D);
    expect(skew(q)).toBeLessThan(1e-6);
  });

  test('what is completed follows from the seed', () => {
    const zero = tf.zeros([6, 2]) as tf.Tensor2D;
    expect(values(orthonormalize(zero, {seed: 4}))).toEqual(values(orthonormalize(zero, {seed: 4})));
    expect(distance(orthonormalize(zero, {seed: 4}), orthonormalize(zero, {seed: 5}))).toBeGreaterThan(0.01);
  });

  test('refuses what cannot be', () => {
    expect(() => orthonormalize(tf.zeros([2, 3]))).toThrow('[2, 3] cannot have 3 orthonormal columns');
    expect(() => orthonormalize(tf.tensor2d([[1], [NaN]]))).toThrow('not finite: NaN at [1, 0] of [2, 1]');
  });
});
