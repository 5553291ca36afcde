import type {Scalar, Tensor1D, Tensor2D} from '@tensorflow/tfjs-core';
import {gather, matMul, reshape, scatterND, square, sum, transpose} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';

/**
 * The gradient of an embedding: row `indices[i]` of G is the sum of the rows `delta[i]`.
 *
 * @param indices `[t]`, int32, rows of the weight.
 * @param delta `[t, n]`
 */
export function gatherGradient(
  indices: Tensor1D,
  delta: Tensor2D,
  shape: readonly [m: number, n: number],
): Gradient {
  const scatter = (rows: Tensor2D) =>
    scatterND(reshape(indices, [-1, 1]), rows, [shape[0], rows.shape[1]]) as Tensor2D;
  return {
    shape,
    // P^T G = (P at the indices)^T delta: rows that were not touched cost nothing.
    leftMul: p => matMul(transpose(gather(p, indices)), delta),
    rightMul: q => scatter(matMul(delta, q)),
    rowSums: () => scatter(sum(delta, 1, true) as Tensor2D),
    columnSums: () => sum(delta, 0, true) as Tensor2D,
    norm2: () => sum(square(scatter(delta))) as Scalar,
    dense: () => scatter(delta),
  };
}
