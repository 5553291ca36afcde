import type {Tensor2D} from '@tensorflow/tfjs-core';
import {type Matrix, SingularValueDecomposition} from 'ml-matrix';
import {columnsOf, fromColumns, fromHost, scaled, toHost} from './host.js';
import {orthonormalized} from './orthonormal.js';

/** `A = U diag(s) V^T`, p = min(m, n) terms or the first r of them: u `[m, p]`, v `[n, p]`, largest s first. */
export interface Singular<M = Tensor2D> {
  readonly u: M;
  /** In float64. */
  readonly s: readonly number[];
  readonly v: M;
}

/**
 * The singular value decomposition of a small or thin `[m, n]` tensor: read to the host and decomposed in float64.
 *
 * u and v always have orthonormal columns, also where singular values are zero. Of an entry's sign, one is chosen: the
 * first entry of a left vector that is within a thousandth of its largest is positive. Cost: about 4 m n p + 8 p^3
 * multiply-adds on the host, p = min(m, n): a millisecond for `[1024, 16]`, seconds for p = 512.
 * Throws when an entry is not finite.
 */
export function smallSvd(matrix: Tensor2D): Singular {
  return toTensors(hostSvd(toHost(matrix, 'smallSvd: the matrix')));
}

export const toTensors = ({u, s, v}: Singular<Matrix>): Singular => ({u: fromHost(u), s, v: fromHost(v)});

/** The same for a matrix on the host. */
export function hostSvd(a: Matrix): Singular<Matrix> {
  const {matrix, size} = scaled(a);
  const found = new SingularValueDecomposition(matrix, {autoTranspose: true});
  const s = found.diagonal.map(value => value * size);
  return signed({u: found.leftSingularVectors, s, v: found.rightSingularVectors});
}

/** Flips pairs of vectors so that the signs are determined: see `smallSvd`. */
export function signed({u, s, v}: Singular<Matrix>): Singular<Matrix> {
  const [left, right] = [columnsOf(u), columnsOf(v)];
  left.forEach((column, j) => {
    if (!isFlipped(column)) return;
    for (const vector of [column, right[j]!]) vector.forEach((value, i) => (vector[i] = -value));
  });
  return {u: fromColumns(left), s, v: fromColumns(right)};
}

function isFlipped(vector: Float64Array): boolean {
  let largest = 0;
  for (const value of vector) largest = Math.max(largest, Math.abs(value));
  // Not simply the largest: where two are equal, rounding would choose.
  return vector.find(value => Math.abs(value) >= 0.999 * largest)! < 0;
}

/** The first r terms. */
export function leading({u, s, v}: Singular<Matrix>, rank: number): Singular<Matrix> {
  const cut = (matrix: Matrix) => matrix.subMatrix(0, matrix.rows - 1, 0, rank - 1);
  return {u: cut(u), s: s.slice(0, rank), v: cut(v)};
}

/**
 * Singular values below `noise` times the largest become 0, and their vectors random directions that follow from the
 * seed: what is only rounding would differ from backend to backend.
 */
export function withoutNoise({u, s, v}: Singular<Matrix>, noise: number, seed: number): Singular<Matrix> {
  const known = s.filter(value => value > noise * s[0]!).length;
  if (known === s.length) return signed({u, s, v});
  const completed = (matrix: Matrix, label: number) => {
    const columns = columnsOf(matrix).map((column, j) =>
      j < known ? column : new Float64Array(column.length),
    );
    return orthonormalized(fromColumns(columns), seed + label, known);
  };
  return signed({u: completed(u, 1), s: s.map((value, j) => (j < known ? value : 0)), v: completed(v, 2)});
}
