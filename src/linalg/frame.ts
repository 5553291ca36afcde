import type {Tensor2D} from '@tensorflow/tfjs-core';
import {read} from './read.js';
import {dot} from './vector.js';

/** A matrix on the host, in float64, by rows. */
export type Rows = readonly Float64Array[];

/** Orthonormal rows, and what the same combinations make of other rows. */
export interface Frame {
  readonly rows: Rows;
  readonly along: Rows;
}

/**
 * Orthonormal rows with the span of `rows` (Gram-Schmidt with pivoting, each row twice). Row i of `along` goes with row i
 * of `rows`: with `along` = P^T G for `rows` = P^T the result holds Q and Q^T G, for any P, of full rank or not.
 *
 * A row is left out when it is zero, or when its angle to the span of the others is below `tolerance`: 1e-4 is what
 * float32 products tell apart, because an error of 1e-7 in `along` grows by the inverse of that angle.
 */
export function orthonormalRows(rows: Rows, along: Rows = [], tolerance = 1e-4): Frame {
  const left = rows.flatMap((row, i) => {
    const size = Math.sqrt(dot(row, row));
    return size > 0 ? [{row: scaled(row, 1 / size), along: scaled(along[i] ?? NONE, 1 / size)}] : [];
  });
  const found: {row: Float64Array; along: Float64Array}[] = [];
  while (left.length > 0) {
    const sizes = left.map(({row}) => Math.sqrt(dot(row, row)));
    const largest = Math.max(...sizes);
    if (largest < tolerance) break;
    const [next] = left.splice(sizes.indexOf(largest), 1);
    for (const before of found) remove(next!, before);
    const size = Math.sqrt(dot(next!.row, next!.row));
    const unit = {row: scaled(next!.row, 1 / size), along: scaled(next!.along, 1 / size)};
    for (const other of left) remove(other, unit);
    found.push(unit);
  }
  return {rows: found.map(({row}) => row), along: found.map(({along}) => along)};
}

/** `||A B^T||_F^2` of two matrices with rows of one length. */
export function overlap(a: Rows, b: Rows): number {
  let sum = 0;
  for (const row of a) for (const other of b) sum += dot(row, other) ** 2;
  return sum;
}

/** `||A||_F^2` */
export const squares = (a: Rows): number => a.reduce((sum, row) => sum + dot(row, row), 0);

/** Reads a tensor. */
export function rowsOf(tensor: Tensor2D): Float64Array[] {
  const [m, n] = tensor.shape;
  const values = read(tensor);
  return Array.from({length: m}, (_, i) => Float64Array.from(values.subarray(i * n, (i + 1) * n)));
}

/** Reads a tensor, by columns: the rows of its transpose. */
export function columnsOf(tensor: Tensor2D): Float64Array[] {
  const [m, n] = tensor.shape;
  const values = read(tensor);
  return Array.from({length: n}, (_, j) => Float64Array.from({length: m}, (_, i) => values[i * n + j]!));
}

const NONE = new Float64Array();

const scaled = (v: Float64Array, by: number): Float64Array => v.map(x => x * by);

/** Takes the part along a unit row out of a row, and the same combination out of what goes with it. */
function remove(
  from: {row: Float64Array; along: Float64Array},
  unit: {row: Float64Array; along: Float64Array},
): void {
  const part = dot(from.row, unit.row);
  for (let i = 0; i < from.row.length; i++) from.row[i]! -= part * unit.row[i]!;
  for (let i = 0; i < from.along.length; i++) from.along[i]! -= part * unit.along[i]!;
}
