import type {Tensor2D} from '@tensorflow/tfjs-core';
import {add, matMul, sub, tensor2d, transpose, zerosLike} from '@tensorflow/tfjs-core';
import * as linalg from './linalg/frame.js';
import type {Tangent} from './parametrization.js';

/** What a subspace catches of a gradient G, as far as it has to be asked while G is there. */
export interface Caught {
  readonly tangent: Tangent;
  /** `left^T G`, `[p, n]` */
  readonly leftProduct?: Tensor2D;
  /** `G right^T`, `[m, q]` */
  readonly rightProduct?: Tensor2D;
}

/**
 * `||Pi G||^2`, with Pi the orthogonal projector on the tangent space. With Pi_L and Pi_R the projectors on the columns
 * of `left` and the rows of `right`:
 *
 *     sum        Pi G = Pi_L G + G Pi_R - Pi_L G Pi_R;   ||Pi_L G||^2 + ||G Pi_R||^2 - ||Pi_L G Pi_R||^2
 *     product    Pi G = Pi_L G Pi_R
 *
 * With one side alone both are `Pi_L G` or `G Pi_R`. Reads thin matrices, and computes in float64 on the host. A zero
 * factor has rank 0: its side catches nothing.
 *
 * @param norm2 `||G||^2`, which is what the form 'all' catches.
 */
export function caughtNorm2({tangent, leftProduct, rightProduct}: Caught, norm2: number): number {
  if (tangent.form === 'all') return norm2;
  const {form, left, right} = tangent;
  const l = left && linalg.orthonormalRows(linalg.columnsOf(left), linalg.rowsOf(leftProduct!));
  if (l && right && form === 'product') {
    return linalg.overlap(l.along, linalg.orthonormalRows(linalg.rowsOf(right)).rows);
  }
  const r = right && linalg.orthonormalRows(linalg.rowsOf(right), linalg.columnsOf(rightProduct!));
  const both = l && r ? linalg.overlap(l.along, r.rows) : 0;
  return linalg.squares(l?.along ?? []) + linalg.squares(r?.along ?? []) - both;
}

/**
 * How far a subspace is from another: `1 - sum ||P^T Q||_F^2 / sum max(rank P, rank Q)`, both sums over the sides, with
 * orthonormal bases P and Q. 0: the same; 1: orthogonal. Null where nothing is left out, so that nothing can move.
 */
export function drift(before: Tangent, now: Tangent): number | null {
  if (before.form === 'all' || now.form === 'all') return null;
  let [shared, rank] = [0, 0];
  for (const [was, is] of [
    [before.left && linalg.columnsOf(before.left), now.left && linalg.columnsOf(now.left)],
    [before.right && linalg.rowsOf(before.right), now.right && linalg.rowsOf(now.right)],
  ] as const) {
    const [p, q] = [was, is].map(side => linalg.orthonormalRows(side ?? []).rows);
    shared += linalg.overlap(p!, q!);
    rank += Math.max(p!.length, q!.length);
  }
  return rank === 0 ? 0 : within(1 - shared / rank, 0, 1);
}

/** How many dimensions a tangent space has among the matrices `[m, n]`. */
export function dimension(tangent: Tangent, [m, n]: readonly [m: number, n: number]): number {
  if (tangent.form === 'all') return m * n;
  const {left, right} = tangent;
  const p = left && linalg.orthonormalRows(linalg.columnsOf(left)).rows.length;
  const q = right && linalg.orthonormalRows(linalg.rowsOf(right)).rows.length;
  if (tangent.form === 'product') return (p ?? m) * (q ?? n);
  return (p ?? 0) * n + (q ?? 0) * m - (p ?? 0) * (q ?? 0);
}

/** `Pi M`: the part of a matrix `[m, n]` that lies in a tangent space. */
export function projectOn(tangent: Tangent, matrix: Tensor2D): Tensor2D {
  if (tangent.form === 'all') return matrix;
  const {form, left, right} = tangent;
  const onLeft = (x: Tensor2D) => sandwich(linalg.orthonormalRows(linalg.columnsOf(left!)).rows, x);
  const onRight = (x: Tensor2D) =>
    transpose(
      sandwich(linalg.orthonormalRows(linalg.rowsOf(right!)).rows, transpose(x) as Tensor2D),
    ) as Tensor2D;
  if (!left || !right) return left ? onLeft(matrix) : onRight(matrix);
  if (form === 'product') return onLeft(onRight(matrix));
  return add(onLeft(matrix), onRight(sub(matrix, onLeft(matrix))));
}

/** Throws unless a tangent space has the form and the shapes that a weight `[m, n]` needs. */
export function expectTangent(where: string, tangent: Tangent, [m, n]: readonly [number, number]): Tangent {
  if (tangent.form === 'all') return tangent;
  const {form, left, right} = tangent;
  if (form !== 'sum' && form !== 'product') {
    throw new Error(`${where} must have the form 'sum', 'product' or 'all', not ${String(form)}`);
  }
  if (!left && !right)
    throw new Error(`${where} has neither left nor right; without limits it is {form: 'all'}`);
  if (left && (left.rank !== 2 || left.shape[0] !== m)) {
    throw new Error(`${where} has left of shape [${left.shape}], where [${m}, p] is needed`);
  }
  if (right && (right.rank !== 2 || right.shape[1] !== n)) {
    throw new Error(`${where} has right of shape [${right.shape}], where [q, ${n}] is needed`);
  }
  return tangent;
}

export const within = (value: number, least: number, most: number): number =>
  Math.min(most, Math.max(least, value));

/** `Q^T Q M`, for orthonormal rows Q. */
function sandwich(q: linalg.Rows, matrix: Tensor2D): Tensor2D {
  if (q.length === 0) return zerosLike(matrix);
  const rows = tensor2d(
    q.map(row => Array.from(row)),
    [q.length, matrix.shape[0]],
  );
  return matMul(transpose(rows), matMul(rows, matrix));
}
