import type {Scalar, Tensor1D, Tensor2D} from '@tensorflow/tfjs-core';
import {
  cast,
  equal,
  gather,
  matMul,
  mul,
  ones,
  reshape,
  scatterND,
  square,
  sum,
  transpose,
} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';
import {timesTransposed} from './layout.js';
import {type Consumer, type ConsumingNode, sameShape} from './node.js';

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
    norm2: () => {
      // Rows of one index add up: ||G||^2 = sum of <delta_i, delta_j> where i and j ask for the same row.
      const t = indices.size;
      if (shape[0] * shape[1] < Math.max(LARGE, t * t)) return sum(square(scatter(delta))) as Scalar;
      const isSame = equal(reshape(indices, [t, 1]), reshape(indices, [1, t]));
      return sum(mul(timesTransposed(delta, delta), cast(isSame, 'float32'))) as Scalar;
    },
    dense: () => scatter(delta),
    // x holds a one in each row, at the index: x^T x is diagonal, and counts how often each was asked for.
    inputGram: q => mul(scatter(ones([indices.size, 1]) as Tensor2D), q),
  };
}

/** Numbers of a table that is not formed for its norm. */
const LARGE = 2 ** 16;

/** `y = rows of W at the indices`: an embedding. Gathering along another axis, or in batches, has no factored form here. */
export function gatherConsumer({inputs, saved, attrs, transposed, shape}: ConsumingNode): Consumer | string {
  const indices = saved[1];
  if (transposed) return 'gather from the transpose';
  if (attrs['axis'] !== 0) return `gather along axis ${attrs['axis'] as number}`;
  if (attrs['batchDims']) return 'gather in batches';
  if (inputs['x']!.rank !== 2) return 'gather from more than two axes';
  if (!indices || !sameShape(indices, inputs['indices'])) return 'gather with indices that were changed';
  return {
    others: () => ({indices: () => indices}),
    part: dy => ({
      tensors: [reshape(indices, [-1]), reshape(dy, [-1, shape[1]])],
      gradient: ([rows, delta]) => gatherGradient(rows as Tensor1D, delta as Tensor2D, shape),
    }),
  };
}
