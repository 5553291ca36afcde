import type {Scalar, Tensor2D} from '@tensorflow/tfjs-core';
import {concat, matMul, mul, square, sum, transpose} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';

/** One use of a weight: its gradient is `x^T delta`, which is not formed. */
export interface Term {
  /** `[t, m]` */
  readonly x: Tensor2D;
  /** `[t, n]` */
  readonly delta: Tensor2D;
}

/**
 * `G = sum_i x_i^T delta_i` as an operator. Several terms (a weight used more than once, an RNN kernel over time) are
 * stacked along t and multiplied once. Only thin matrices are transposed: tfjs's wasm matMul is slow with its flags.
 */
export function factoredGradient(terms: readonly Term[], shape: readonly [m: number, n: number]): Gradient {
  const {x, delta} =
    terms.length === 1
      ? terms[0]!
      : {
          x: concat<Tensor2D>(terms.map(term => term.x)),
          delta: concat<Tensor2D>(terms.map(term => term.delta)),
        };
  const t = x.shape[0];
  const [m, n] = shape;
  return {
    shape,
    // P^T G = (x P)^T delta
    leftMul: p => matMul(transpose(matMul(x, p)), delta),
    // G Q = x^T (delta Q) = ((delta Q)^T x)^T
    rightMul: q => transpose<Tensor2D>(matMul<Tensor2D>(transpose(matMul<Tensor2D>(delta, q)), x)),
    rowSums: () => transpose<Tensor2D>(matMul<Tensor2D>(transpose(sum<Tensor2D>(delta, 1, true)), x)),
    columnSums: () => matMul(transpose(sum<Tensor2D>(x, 1, true)), delta),
    norm2: () => {
      // ||G||^2 = <x x^T, delta delta^T>, unless the Gram matrices are larger than G.
      if (t * t > m * n) return sum(square(matMul(transpose(x), delta))) as Scalar;
      return sum(mul(matMul(x, transpose(x)), matMul(delta, transpose(delta)))) as Scalar;
    },
    dense: () => matMul(transpose(x), delta),
  };
}
