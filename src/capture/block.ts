import type {Tensor2D} from '@tensorflow/tfjs-core';
import {addN, pad, slice} from '@tensorflow/tfjs-core';
import {type Gradient, sumOfGradients} from './gradient.js';

/** A part of a matrix: `rows` rows from `top` on, `columns` columns from `left` on. */
export interface Block {
  readonly top: number;
  readonly rows: number;
  readonly left: number;
  readonly columns: number;
}

export const wholeBlock = ([rows, columns]: readonly [number, number]): Block => ({
  top: 0,
  rows,
  left: 0,
  columns,
});

export const isWhole = ({rows, columns}: Block, [m, n]: readonly [number, number]): boolean =>
  rows === m && columns === n;

/** A block of a block, as a block of what the outer one is part of. `transposed`: inner is counted in its transpose. */
export function blockWithin(outer: Block, inner: Block, transposed: boolean): Block {
  const {top, rows, left, columns} = transposed
    ? {top: inner.left, rows: inner.columns, left: inner.top, columns: inner.rows}
    : inner;
  return {top: outer.top + top, rows, left: outer.left + left, columns};
}

/**
 * What a slice of a tensor cuts out of the matrix `[all axes but the last, last axis]`; null when that is not one
 * block, or empty.
 */
export function blockOfSlice(
  shape: readonly number[],
  begin: readonly number[],
  size: readonly number[],
): Block | null {
  const last = shape.length - 1;
  if (last < 0 || size.includes(0)) return null;
  // Rows are in one piece when every axis inside of the first that is longer than 1 is taken whole.
  const first = size.findIndex((length, axis) => length > 1 || axis === last);
  for (let axis = first + 1; axis < last; axis++) if (size[axis] !== shape[axis]) return null;
  let [top, rows] = [0, 1];
  for (let axis = 0; axis < last; axis++) {
    top = top * shape[axis]! + begin[axis]!;
    rows *= size[axis]!;
  }
  return {top, rows, left: begin[last]!, columns: size[last]!};
}

/**
 * The gradient of a weight `[m, n]` of which only a block was used: G holds the block's gradient B, and zeros around it.
 *
 *     P^T G = [0, P_rows^T B, 0]     G Q = [0; B Q_columns; 0]     ||G|| = ||B||
 */
export function embedded(gradient: Gradient, block: Block, shape: readonly [m: number, n: number]): Gradient {
  if (isWhole(block, shape)) return gradient;
  const [m, n] = shape;
  const {top, rows, left, columns} = block;
  const above: [number, number] = [top, m - top - rows];
  const beside: [number, number] = [left, n - left - columns];
  const placed = (part: Tensor2D, vertical: [number, number], horizontal: [number, number]) =>
    [...vertical, ...horizontal].some(zeros => zeros > 0) ? pad(part, [vertical, horizontal]) : part;
  const taken = (a: Tensor2D, from: number, count: number) =>
    count === a.shape[0] ? a : slice(a, [from, 0], [count, a.shape[1]]);
  const whole: [number, number] = [0, 0];
  const {inputGram} = gradient;
  return {
    shape,
    leftMul: p => placed(gradient.leftMul(taken(p, top, rows)), whole, beside),
    rightMul: q => placed(gradient.rightMul(taken(q, left, columns)), above, whole),
    rowSums: () => placed(gradient.rowSums(), above, whole),
    columnSums: () => placed(gradient.columnSums(), whole, beside),
    norm2: () => gradient.norm2(),
    dense: () => placed(gradient.dense(), above, beside),
    // Rows left out are inputs that this use did not have.
    ...(inputGram && rows === m && {inputGram}),
  };
}

/** The sum of gradients of blocks of one weight. The norms of blocks that do not overlap add up. */
export function sumOfBlocks(
  parts: readonly {readonly gradient: Gradient; readonly block: Block}[],
  shape: readonly [m: number, n: number],
): Gradient {
  const sum = sumOfGradients(parts.map(({gradient, block}) => embedded(gradient, block, shape)));
  const isDisjoint = parts.every(({block}, i) =>
    parts.slice(i + 1).every(other => !meet(block, other.block)),
  );
  return isDisjoint && parts.length > 1
    ? {...sum, norm2: () => addN(parts.map(({gradient}) => gradient.norm2()))}
    : sum;
}

const meet = (a: Block, b: Block): boolean =>
  a.top < b.top + b.rows &&
  b.top < a.top + a.rows &&
  a.left < b.left + b.columns &&
  b.left < a.left + a.columns;
