import type {Tensor2D} from '@tensorflow/tfjs-core';
import {EigenvalueDecomposition, Matrix} from 'ml-matrix';
import {splitSeed} from '../random.js';
import {columnsOf, fromColumns, gram, scaled, toHost} from './host.js';
import {orthonormalized} from './orthonormal.js';
import {expectRank} from './range-finder.js';
import {type Singular, signed, toTensors} from './svd.js';

/**
 * The last `rank` of the p = min(m, n) singular values of a weight, still largest first, with their vectors:
 * u `[m, r]`, s, v `[n, r]`. Where a singular value is zero, its vector on the longer side is any that W takes to zero.
 *
 * From all eigenvectors of the smaller Gram matrix, in float64 on the host: there is no short way to the small end of
 * the spectrum. Cost: about m n p + 9 p^3 multiply-adds; measured with p = 256, 512, 1024: 0.2, 1 and 10 seconds.
 * Singular values below 1e-7 of the first come back as 0: float32 weights know no smaller ones.
 */
export function bottomSingular(weight: Tensor2D, {rank, seed = 0}: {rank: number; seed?: number}): Singular {
  const [m, n] = weight.shape;
  expectRank('bottomSingular', rank, m, n);
  const {matrix, size} = scaled(toHost(weight, 'bottomSingular: the weight'));
  // Tall: the eigenvectors of A^T A are the right vectors.
  const tall = m >= n ? matrix : matrix.transpose();
  const p = tall.columns;
  const {realEigenvalues, eigenvectorMatrix} = new EigenvalueDecomposition(gram(tall), {
    assumeSymmetric: true,
  });
  // Eigenvalues come in rising order.
  const values = realEigenvalues.map(value => Math.sqrt(Math.max(value, 0))).reverse();
  const short = fromColumns(columnsOf(eigenvectorMatrix).reverse());
  const known = values.filter(value => value > 1e-7 * values[0]!).length;
  const first = p - rank;

  const bottom = short.subMatrix(0, p - 1, first, p - 1);
  const images = columnsOf(tall.mmul(bottom)).map((column, j) =>
    first + j < known ? column : new Float64Array(column.length),
  );
  const long = completed(fromColumns(images), Math.max(0, known - first), tall, short, values, known, seed);
  const s = values.slice(first).map((value, j) => (first + j < known ? value * size : 0));
  return toTensors(signed(m >= n ? {u: long, s, v: bottom} : {u: bottom, s, v: long}));
}

/** Orthonormal columns; from the one at `from` on, random ones that the matrix takes to zero. */
function completed(
  columns: Matrix,
  from: number,
  tall: Matrix,
  short: Matrix,
  values: readonly number[],
  known: number,
  seed: number,
): Matrix {
  const count = columns.columns - from;
  if (count === 0 || known === 0) return orthonormalized(columns, seed);
  const {rows} = columns;
  // The whole range of the matrix, so that what is random stays out of it.
  const range = tall.mmul(short.subMatrix(0, short.rows - 1, 0, known - 1));
  for (let j = 0; j < known; j++) {
    for (let i = 0; i < rows; i++) range.set(i, j, range.get(i, j) / values[j]!);
  }
  const both = new Matrix(rows, known + count);
  both.setSubMatrix(range, 0, 0);
  const basis = orthonormalized(both, splitSeed(seed, 'kernel'));
  const result = columns.clone();
  result.setSubMatrix(basis.subMatrix(0, rows - 1, known, known + count - 1), 0, from);
  return orthonormalized(result, seed);
}
