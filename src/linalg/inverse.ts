import type {Tensor2D} from '@tensorflow/tfjs-core';
import {Matrix} from 'ml-matrix';
import {gramOf} from './gram-basis.js';
import {fromHost, toHost} from './host.js';

/**
 * `(A^T A + eps I)^-1`, `[r, r]`, for a thin A `[m, r]`; with eps 0 and dependent columns the pseudo-inverse.
 *
 * From the singular values of A itself, in float64 on the host: a Gram matrix in float32 would lose half the digits.
 * Columns count as dependent where a singular value is below 1e-6 of the first. A direction whose inverse float32 cannot
 * hold (singular value below 1e-19) counts as zero too. Throws when an entry is not finite.
 *
 * @param regularisation eps, at least 0, in the units of A^T A.
 */
export function inverseGram(a: Tensor2D, regularisation = 0): Tensor2D {
  if (!(regularisation >= 0)) {
    throw new RangeError(`inverseGram: regularisation must be 0 or more, not ${regularisation}`);
  }
  const {v, values} = gramOf(toHost(a, 'inverseGram: the matrix'));
  const inverse = values.map(value => {
    const total = value + regularisation;
    return total < 1e-38 ? 0 : 1 / total;
  });
  return fromHost(v.mmul(Matrix.diag(inverse)).mmul(v.transpose()));
}
