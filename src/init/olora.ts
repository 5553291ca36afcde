import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, pad, slice, transpose} from '@tensorflow/tfjs-core';
import {orthonormalize} from '../linalg/orthonormal.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/**
 * OLoRA: `W0^T = Q R`, `a = R_r^T`, `b = Q_r^T`: the rows of b are an orthonormal basis of the first r rows of W0, and
 * `a b` is W0 seen in that basis. Not divided by s, as in the paper. Needs the first r rows of W0 and one product.
 *
 * W stays at W0. Where r exceeds min(m, n) the rest is zero. Source: arXiv:2406.01775.
 */
export const olora = /* @__PURE__ */ recipe('olora', (): Initializer => ({weight, rank, seed}) => {
  const [m, n] = weight.shape;
  const count = Math.min(rank, m, n);
  const q = orthonormalize(transpose(slice(weight, [0, 0], [count, n])) as Tensor2D, {seed});
  const missing = rank - count;
  return {
    a: pad(matMul(weight, q), [
      [0, 0],
      [0, missing],
    ]),
    b: pad(transpose(q), [
      [0, missing],
      [0, 0],
    ]),
  };
});
