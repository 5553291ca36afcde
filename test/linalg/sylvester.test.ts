import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {gramBasis} from '../../src/linalg/gram-basis.js';
import {inverseGram} from '../../src/linalg/inverse.js';
import {inverseOf, sylvester} from '../../src/linalg/sylvester.js';
import {distance, onBackends, random} from './matrices.js';

const gram = (a: tf.Tensor2D) => tf.matMul(a, a, true) as tf.Tensor2D;
const apply = (p: tf.Tensor2D, q: tf.Tensor2D, x: tf.Tensor2D) => tf.add(tf.matMul(p, x), tf.matMul(x, q));

onBackends('gramBasis and sylvester', () => {
  test('the basis gives the Gram matrix back, and its pseudo-inverse is inverseGram', () => {
    for (const a of [random(9, 4, 1), random(3, 5, 2), tf.zeros([4, 3]) as tf.Tensor2D]) {
      const basis = gramBasis(a);
      const {vectors, values} = basis;
      const back = tf.matMul(
        tf.mul(vectors, tf.tensor2d([...values], [1, values.length])),
        vectors,
        false,
        true,
      );
      expect(distance(back, gram(a))).toBeLessThan(1e-5);
      expect(distance(inverseOf(basis), inverseGram(a))).toBeLessThan(1e-4);
    }
  });

  test('P X + X Q = C, and where P and Q are singular the shortest of the nearest', () => {
    const [a, b, c] = [random(9, 4, 1), random(7, 4, 2), random(4, 4, 3)];
    const x = sylvester(gramBasis(a), gramBasis(b), c);
    expect(distance(apply(gram(a), gram(b), x), c)).toBeLessThan(1e-5);
    const [thin, zero] = [random(2, 4, 4), tf.zeros([7, 4]) as tf.Tensor2D];
    // P X = C, to be met in the range of P only.
    const y = sylvester(gramBasis(thin), gramBasis(zero), c);
    expect(distance(y, tf.matMul(inverseGram(thin), c))).toBeLessThan(1e-4);
    expect(distance(sylvester(gramBasis(zero), gramBasis(zero), c), tf.zeros([4, 4]))).toBe(0);
  });
});
