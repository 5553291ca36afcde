/**
 * A matrix is a two-dimensional `ndarray` over a Float64Array: data, shape and strides.
 * Every function here returns a new matrix, except `transpose`, which returns a view of the same numbers.
 */
import ndarray, {type NdArray} from 'ndarray';
import ops from 'ndarray-ops';

export type Matrix = NdArray<Float64Array>;
export type Shape = readonly [rows: number, columns: number];

/** A matrix of this shape from its values in row-major order. */
export function matrix([rows, columns]: Shape, values: ArrayLike<number>): Matrix {
  if (values.length !== rows * columns) {
    throw new Error(`A [${rows}, ${columns}] matrix needs ${rows * columns} values, got ${values.length}`);
  }
  return ndarray(Float64Array.from(values), [rows, columns]);
}

/** A matrix from its rows, `[[1, 2], [3, 4]]`. */
export function fromRows(rows: readonly (readonly number[])[]): Matrix {
  const columns = rows[0]?.length ?? 0;
  if (rows.some(row => row.length !== columns)) throw new Error('The rows differ in length');
  return matrix([rows.length, columns], rows.flat());
}

/** The rows of a matrix as plain arrays; views are read through their strides. */
export function toArray(a: Matrix): number[][] {
  const [rows, columns] = shapeOf(a);
  return range(rows).map(i => range(columns).map(j => a.get(i, j)));
}

export function filled(shape: Shape, value: number): Matrix {
  return matrix(shape, new Float64Array(shape[0] * shape[1]).fill(value));
}

export function zeros(shape: Shape): Matrix {
  return filled(shape, 0);
}

export function identity(size: number): Matrix {
  const result = zeros([size, size]);
  for (let i = 0; i < size; i++) result.set(i, i, 1);
  return result;
}

/** The same numbers in memory of their own. */
export function copy(a: Matrix): Matrix {
  const result = zeros(shapeOf(a));
  ops.assign(result, a);
  return result;
}

/** A' as a view: the strides trade places, no number moves. */
export function transpose(a: Matrix): Matrix {
  return a.transpose(1, 0);
}

/** (A B)_ij = sum_k A_ik B_kj;  [m, k] [k, n] -> [m, n]. */
export function product(a: Matrix, b: Matrix): Matrix {
  const [rows, inner] = shapeOf(a);
  const [innerB, columns] = shapeOf(b);
  if (inner !== innerB) throw new Error(`Cannot multiply [${a.shape}] by [${b.shape}]`);
  const result = zeros([rows, columns]);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += a.get(i, k) * b.get(k, j);
      result.set(i, j, sum);
    }
  }
  return result;
}

/** <A, B> = sum_ij A_ij B_ij. */
export function inner(a: Matrix, b: Matrix): number {
  const result = zeros(sameShape(a, b));
  ops.mul(result, a, b);
  return ops.sum(result);
}

/** ||A||_F = sqrt(sum_ij A_ij^2). */
export function frobenius(a: Matrix): number {
  return ops.norm2(a);
}

/** max_ij |A_ij - B_ij|; NaN when either holds a NaN, so that a test cannot pass on one. */
export function maxDifference(a: Matrix, b: Matrix): number {
  const result = zeros(sameShape(a, b));
  ops.sub(result, a, b);
  return result.data.reduce((worst, x) => Math.max(worst, Math.abs(x)), 0);
}

/** A 1;  [m, n] -> [m, 1]. */
export function rowSums(a: Matrix): Matrix {
  return product(a, filled([shapeOf(a)[1], 1], 1));
}

/** 1' A;  [m, n] -> [1, n]. */
export function columnSums(a: Matrix): Matrix {
  return product(filled([1, shapeOf(a)[0]], 1), a);
}

export function shapeOf(a: Matrix): Shape {
  return a.shape as unknown as Shape;
}

/** The one shape of two matrices; nothing is ever broadcast from matrix to matrix. */
export function sameShape(a: Matrix, b: Matrix): Shape {
  const [rows, columns] = shapeOf(a);
  if (rows !== b.shape[0] || columns !== b.shape[1]) {
    throw new Error(`Shapes differ: [${a.shape}] and [${b.shape}]`);
  }
  return [rows, columns];
}

function range(size: number): number[] {
  return Array.from({length: size}, (_, i) => i);
}
