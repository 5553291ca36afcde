import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {mul, pad, tensor2d, transpose} from '@tensorflow/tfjs-core';

/**
 * `a = U diag(sqrt(|d|))`, `b = diag(sign(d) sqrt(|d|)) V^T`: the product `U diag(d) V^T` with its lengths shared evenly.
 *
 * Where d is 0 both would be zero and no gradient could ever move that pair: there the column of a is as long as the
 * longest, or 1, and the row of b is zero. Fewer vectors than the rank: the rest is zero on both sides, and nothing is
 * lost: the pairs there are reach every matrix of this shape already.
 */
export function balanced(
  u: Tensor2D,
  d: readonly number[],
  v: Tensor2D,
  rank: number,
): {a: Tensor; b: Tensor} {
  const lengths = d.map(value => Math.sqrt(Math.abs(value)));
  const longest = Math.max(...lengths) || 1;
  const left = lengths.map(length => length || longest);
  const right = lengths.map((length, i) => (d[i]! < 0 ? -length : length));
  const missing = rank - d.length;
  return {
    a: pad(mul(u, tensor2d(left, [1, d.length])), [
      [0, 0],
      [0, missing],
    ]),
    b: pad(mul(transpose(v), tensor2d(right, [d.length, 1])), [
      [0, missing],
      [0, 0],
    ]),
  };
}
