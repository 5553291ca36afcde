import type {Tensor2D} from '@tensorflow/tfjs-core';
import {tensor2d} from '@tensorflow/tfjs-core';
import {Matrix} from 'ml-matrix';
import {read} from './read.js';
import {dot} from './vector.js';

// Small dense problems are solved on the host in float64: the same numbers on every backend, and no float32 rounding
// in what decides about directions.

/** A matrix that cannot be decomposed, because an entry is NaN or infinite. */
export class NotFiniteError extends Error {}

/** A tensor read to the host, in float64. Throws a `NotFiniteError` when an entry is not finite; `what` names the matrix in it. */
export function toHost(tensor: Tensor2D, what = 'the matrix'): Matrix {
  const [rows, columns] = tensor.shape;
  const values = read(tensor, what);
  const bad = values.findIndex((value: number) => !Number.isFinite(value));
  if (bad >= 0) {
    const place = `[${Math.floor(bad / columns)}, ${bad % columns}]`;
    throw new NotFiniteError(
      `${what} has an entry that is not finite: ${values[bad]} at ${place} of [${rows}, ${columns}]`,
    );
  }
  return Matrix.from1DArray(rows, columns, values);
}

/** A host matrix as a float32 tensor. */
export function fromHost(matrix: Matrix): Tensor2D {
  return tensor2d(Float32Array.from(matrix.to1DArray()), [matrix.rows, matrix.columns]);
}

/** Columns of a matrix in memory of their own. */
export function columnsOf(matrix: Matrix): Float64Array[] {
  return Array.from({length: matrix.columns}, (_, j) =>
    Float64Array.from({length: matrix.rows}, (_, i) => matrix.get(i, j)),
  );
}

export function fromColumns(columns: readonly Float64Array[]): Matrix {
  const matrix = new Matrix(columns[0]!.length, columns.length);
  columns.forEach((column, j) => column.forEach((value, i) => matrix.set(i, j, value)));
  return matrix;
}

/** `A^T A` in float64, from the lower half. */
export function gram(a: Matrix): Matrix {
  const columns = columnsOf(a);
  const result = new Matrix(columns.length, columns.length);
  columns.forEach((column, i) => {
    for (let j = 0; j <= i; j++) {
      const product = dot(column, columns[j]!);
      result.set(i, j, product);
      result.set(j, i, product);
    }
  });
  return result;
}

/** The matrix times a power of two that brings its largest entry near 1, and the factor that undoes it. */
export function scaled(a: Matrix): {matrix: Matrix; size: number} {
  let largest = 0;
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < a.columns; j++) {
      const value = Math.abs(a.get(i, j));
      if (!Number.isFinite(value))
        throw new NotFiniteError(`the matrix has an entry that is not finite: ${value}`);
      largest = Math.max(largest, value);
    }
  }
  const size = largest === 0 ? 1 : 2 ** Math.floor(Math.log2(largest));
  return {matrix: Matrix.div(a, size), size};
}
