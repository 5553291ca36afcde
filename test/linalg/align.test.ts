import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {Matrix} from 'ml-matrix';
import {expect, test} from 'vitest';
import {aligned, assignment} from '../../src/linalg/align.js';
import {orthonormalize} from '../../src/linalg/orthonormal.js';
import {values} from '../helpers.js';
import {onBackends, random, skew} from './matrices.js';

const anyBasis = fc
  .record({r: fc.integer({min: 1, max: 8}), more: fc.integer({min: 0, max: 10}), seed: fc.integer()})
  .map(({r, more, seed}) => ({r, m: r + more, seed}));
const shuffle = (r: number, seed: number) => {
  const keys = values(random(1, r, seed));
  return Array.from({length: r}, (_, i) => i).sort((i, j) => keys[i]! - keys[j]!);
};

onBackends('aligned', () => {
  test('aligned undoes any order and signs, to the bit', () => {
    fc.assert(
      fc.property(anyBasis, ({m, r, seed}) => {
        tf.tidy(() => {
          const old = orthonormalize(random(m, r, seed));
          const signs = tf.sign(random(1, r, seed + 1));
          const mixed = tf.mul(tf.gather(old, shuffle(r, seed + 2), 1), signs) as tf.Tensor2D;
          expect(values(aligned(mixed, old)).map(x => x + 0)).toEqual(values(old).map(x => x + 0));
        });
      }),
      {numRuns: 80},
    );
  });

  test('aligned never does worse than leaving the basis as it is, and is a basis still', () => {
    fc.assert(
      fc.property(anyBasis, ({m, r, seed}) => {
        tf.tidy(() => {
          const [old, other] = [orthonormalize(random(m, r, seed)), orthonormalize(random(m, r, seed + 3))];
          const near = (basis: tf.Tensor2D) => tf.sum(tf.square(tf.sub(basis, old))).dataSync()[0]!;
          const ordered = aligned(other, old);
          expect(near(ordered)).toBeLessThanOrEqual(near(other) + 1e-4);
          expect(skew(ordered)).toBeLessThan(2e-6);
        });
      }),
      {numRuns: 80},
    );
    const [one, two] = [tf.slice(tf.eye(6), [0, 0], [6, 3]), tf.slice(tf.eye(6), [0, 3], [6, 3])];
    expect(skew(aligned(one as tf.Tensor2D, two as tf.Tensor2D))).toBeLessThan(1e-6);
  });

  test('errors name both shapes', () => {
    expect(() => aligned(tf.zeros([3, 2]), tf.zeros([3, 1]))).toThrow('differ in shape, [3,1] and [3,2]');
    expect(() => aligned(tf.fill([3, 1], NaN), tf.zeros([3, 1]))).toThrow(/product of the two bases/);
  });
});

test('assignment finds the least sum among all orders', () => {
  const orders = (items: number[]): number[][] =>
    items.length === 0
      ? [[]]
      : items.flatMap((item, i) => orders(items.toSpliced(i, 1)).map(rest => [item, ...rest]));
  fc.assert(
    fc.property(
      fc.integer({min: 1, max: 6}),
      fc.infiniteStream(fc.integer({min: -9, max: 9})),
      (r, numbers) => {
        const cost = new Matrix(r, r);
        for (let i = 0; i < r; i++) for (let j = 0; j < r; j++) cost.set(i, j, numbers.next().value!);
        const total = (order: number[]) => order.reduce((sum, j, i) => sum + cost.get(i, j), 0);
        const found = assignment(cost);
        expect([...found].sort((x, y) => x - y)).toEqual(Array.from({length: r}, (_, i) => i));
        expect(total(found)).toBe(Math.min(...orders([...found]).map(total)));
      },
    ),
    {numRuns: 200},
  );
});
