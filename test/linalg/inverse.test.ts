import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {expect, test} from 'vitest';
import {inverseGram} from '../../src/linalg/inverse.js';
import {values} from '../helpers.js';
import {anyMatrix, distance, ofRank, onBackends, random} from './matrices.js';

const gram = (a: tf.Tensor2D) => tf.matMul(tf.transpose(a), a);

onBackends('inverseGram', () => {
  test('the inverse, with and without regularisation', () => {
    const a = random(40, 5, 1);
    expect(distance(tf.matMul(inverseGram(a), gram(a)), tf.eye(5))).toBeLessThan(1e-5);
    const regular = tf.add(gram(a), tf.mul(tf.eye(5), 3)) as tf.Tensor2D;
    expect(distance(tf.matMul(inverseGram(a, 3), regular), tf.eye(5))).toBeLessThan(1e-5);
  });

  test('Penrose: C X C = C, X C X = X for singular C, wide A, zero A', () => {
    fc.assert(
      fc.property(anyMatrix, ({n, size, make}) => {
        fc.pre(size === 1);
        tf.tidy(() => {
          const a = make();
          const x = inverseGram(a);
          expect(x.shape).toEqual([n, n]);
          expect(distance(x, tf.transpose(x))).toBeLessThan(1e-6);
          // A X A^T projects on the columns of A.
          const projected = tf.matMul(tf.matMul(a, x), tf.matMul(tf.transpose(a), a));
          expect(distance(projected, a)).toBeLessThan(1e-2);
        });
      }),
      {numRuns: 150},
    );
    const low = ofRank(20, 6, 2, 3);
    const x = inverseGram(low);
    expect(distance(tf.matMul(x, tf.matMul(gram(low), x)), x)).toBeLessThan(1e-4);
    expect(values(inverseGram(tf.zeros([4, 3])))).toEqual(Array(9).fill(0));
  });

  test('a condition number of 1e5, whose square float32 could not bear', () => {
    const a = tf.mul(random(60, 3, 1), tf.tensor2d([[1, 1e-3, 1e-5]])) as tf.Tensor2D;
    const plain = inverseGram(random(60, 3, 1));
    const undone = tf.mul(
      inverseGram(a),
      tf.tensor2d([
        [1, 1e-3, 1e-5],
        [1e-3, 1e-6, 1e-8],
        [1e-5, 1e-8, 1e-10],
      ]),
    );
    expect(distance(undone, plain)).toBeLessThan(1e-4);
  });

  test('tiny and huge: finite; with regularisation, 1/eps and the inverse', () => {
    const tiny = tf.mul(random(20, 3, 1), 1e-30) as tf.Tensor2D;
    expect(values(inverseGram(tiny))).toEqual(Array(9).fill(0));
    expect(distance(inverseGram(tiny, 0.5), tf.mul(tf.eye(3), 2))).toBeLessThan(1e-15);
    for (const eps of [0, 1]) {
      expect(
        values(inverseGram(tf.mul(random(20, 3, 1), 1e30), eps)).every(
          x => Number.isFinite(x) && Math.abs(x) < 1e-37,
        ),
      ).toBe(true);
    }
    expect(
      distance(tf.mul(inverseGram(tf.mul(random(20, 3, 1), 1e-15)), 1e-30), inverseGram(random(20, 3, 1))),
    ).toBeLessThan(1e-5);
  });

  test('refuses NaN and a negative regularisation', () => {
    expect(() => inverseGram(tf.tensor2d([[NaN]]))).toThrow('inverseGram: the matrix has an entry');
    expect(() => inverseGram(tf.eye(2), -1)).toThrow('0 or more, not -1');
    expect(() => inverseGram(tf.eye(2), NaN)).toThrow('not NaN');
  });
});
