import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {expect, test} from 'vitest';
import {smallSvd} from '../../src/linalg/svd.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {anyMatrix, assembled, distance, ofRank, onBackends, skew} from './matrices.js';

onBackends('smallSvd', () => {
  test('A = U S V^T, U and V orthonormal, S as the reference has it', () => {
    fc.assert(
      fc.property(anyMatrix, ({m, n, size, make}) => {
        tf.tidy(() => {
          const a = make();
          const {u, s, v} = smallSvd(a);
          const p = Math.min(m, n);
          expect([u.shape, s.length, v.shape]).toEqual([[m, p], p, [n, p]]);
          expect(Math.max(skew(u), skew(v))).toBeLessThan(1e-6);
          const unit = s.map(value => value / size);
          expect(distance(assembled(u, unit, v), tf.div(a, size))).toBeLessThan(2e-6);
          const wanted = reference.singularValues(fromTensor(a));
          s.forEach((value, i) =>
            expect(Math.abs(value - wanted[i]!)).toBeLessThanOrEqual(1e-12 * wanted[0]!),
          );
        });
      }),
      {numRuns: 150},
    );
  });

  test('ties: the identity, and a matrix with two pairs of equal singular values', () => {
    for (const a of [
      tf.eye(4),
      tf.mul(tf.eye(5), -3),
      tf.tensor2d([
        [0, 2, 0, 0],
        [2, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
      ]),
    ]) {
      const {u, s, v} = smallSvd(a as tf.Tensor2D);
      expect(distance(assembled(u, s, v), a)).toBeLessThan(1e-6);
      expect([...s]).toEqual([...s].sort((x, y) => y - x));
    }
  });

  test('the sign: the first of the largest entries of a left vector is positive', () => {
    for (let seed = 0; seed < 10; seed++) {
      const {u} = smallSvd(ofRank(7, 4, 3, seed));
      for (const column of tf.unstack(u, 1).map(values)) {
        const largest = Math.max(...column.map(Math.abs));
        expect(column.find(x => Math.abs(x) > 0.998 * largest)).toBeGreaterThan(0);
      }
    }
    // Two entries of one size: rounding must not choose between them.
    const pair = smallSvd(
      tf.tensor2d([
        [-1, -2],
        [1.0000001, 2],
      ]),
    );
    expect(values(pair.u)[0]).toBeGreaterThan(0);
  });

  test('NaN and infinity are named', () => {
    expect(() => smallSvd(tf.tensor2d([[1, NaN]]))).toThrow(
      'smallSvd: the matrix has an entry that is not finite',
    );
    expect(() => smallSvd(tf.tensor2d([[1, Infinity]]))).toThrow('Infinity at [0, 1]');
  });
});

test('cpu and wasm agree to the bit: all is done on the host', async () => {
  const results = [];
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend);
    const {u, s, v} = smallSvd(
      tf.tensor2d([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    );
    results.push([...values(u), ...s, ...values(v)]);
  }
  expect(results[1]).toEqual(results[0]);
});
