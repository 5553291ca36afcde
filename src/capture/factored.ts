import type {Scalar, Tensor2D} from '@tensorflow/tfjs-core';
import {concat, matMul, mul, square, sum, transpose} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';
import {timesTransposed, transposedTimes} from './layout.js';

/** One use of a weight: its gradient is `x^T delta`, which is not formed. */
export interface Term {
  /** `[t, m]` */
  readonly x: Tensor2D;
  /** `[t, n]` */
  readonly delta: Tensor2D;
  /** The weight was used transposed: here the layer's input is delta, and x is dL/dy. */
  readonly swapped?: boolean;
}

/**
 * `G = sum_i x_i^T delta_i` as an operator. Several terms (a weight used more than once, an RNN kernel over time) are
 * stacked along t and multiplied once.
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
  const dense = () => transposedTimes(x, delta);
  const isInputKnown = !terms.some(({swapped}) => swapped);
  return {
    shape,
    // P^T G = (x P)^T delta = (delta^T (x P))^T
    leftMul: p => transpose(transposedTimes(delta, matMul(x, p))),
    // G Q = x^T (delta Q)
    rightMul: q => transposedTimes(x, matMul(delta, q)),
    rowSums: () => transposedTimes(x, sum(delta, 1, true)),
    columnSums: () => transpose(transposedTimes(delta, sum(x, 1, true))),
    norm2: () => {
      // ||G||^2 = <x x^T, delta delta^T>, unless G itself takes fewer multiplications.
      if (t * (m + n) > m * n) return sum(square(dense())) as Scalar;
      return sum(mul(timesTransposed(x, x), timesTransposed(delta, delta))) as Scalar;
    },
    dense,
    ...(isInputKnown && {inputGram: (q: Tensor2D) => transposedTimes(x, matMul(x, q))}),
  };
}
