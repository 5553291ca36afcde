import type {Tensor2D} from '@tensorflow/tfjs-core';
import {Matrix} from 'ml-matrix';
import {fromHost, toHost} from './host.js';
import {hostSvd} from './svd.js';

/** `A^T A = V diag(values) V^T` with orthogonal V. */
export interface GramBasis {
  /** V, `[r, r]`. */
  readonly vectors: Tensor2D;
  /** In float64, largest first; 0 where `inverseGram` counts columns of A as dependent. */
  readonly values: readonly number[];
}

/** Eigenvectors and eigenvalues of `A^T A`, `[r, r]`, for a thin A `[m, r]`: from A itself, in float64 on the host. */
export function gramBasis(a: Tensor2D): GramBasis {
  const {v, values} = gramOf(toHost(a, 'gramBasis: the matrix'));
  return {vectors: fromHost(v), values};
}

/**
 * The same on the host, from the singular values of A itself: a Gram matrix in float32 would lose half the digits.
 * A direction counts as zero where its singular value is below 1e-6 of the first, or below 1e-19, whose inverse square
 * float32 cannot hold.
 */
export function gramOf(host: Matrix): {v: Matrix; values: readonly number[]} {
  // Zero rows change no Gram matrix, and give a wide A all its right vectors.
  const rows = Math.max(host.rows, host.columns);
  const {s, v} = hostSvd(new Matrix(rows, host.columns).setSubMatrix(host, 0, 0));
  return {v, values: s.map(value => (value > 1e-6 * s[0]! && value > 1e-19 ? value ** 2 : 0))};
}
