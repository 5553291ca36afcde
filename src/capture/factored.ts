import type {Scalar, Tensor2D} from '@tensorflow/tfjs-core';
import {add, concat, matMul, mul, square, sum, tidy, transpose} from '@tensorflow/tfjs-core';
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
 * stacked along t and multiplied once; many large ones a few at a time, because a stack is a copy.
 */
export function factoredGradient(terms: readonly Term[], shape: readonly [m: number, n: number]): Gradient {
  const stacks = stacksOf(terms, Math.max(LARGE, 4 * shape[0] * shape[1]));
  return stacks.length === 1 ? stackedGradient(terms, shape) : sumOfStacks(stacks, shape);
}

/** Numbers that a stack may hold, or four times those of the weight. */
const LARGE = 2 ** 18;

/** The terms in groups that hold no more numbers than the limit; at least one each. */
function stacksOf(terms: readonly Term[], limit: number): Term[][] {
  const stacks: Term[][] = [];
  let held = Infinity;
  for (const term of terms) {
    const size = term.x.size + term.delta.size;
    if (held + size > limit) {
      stacks.push([]);
      held = 0;
    }
    stacks.at(-1)!.push(term);
    held += size;
  }
  return stacks;
}

/** Each product is linear in the terms: a stack is made for it, multiplied, and released. */
function sumOfStacks(stacks: readonly Term[][], shape: readonly [m: number, n: number]): Gradient {
  const total = (of: (gradient: Gradient) => Tensor2D): Tensor2D =>
    stacks
      .map(terms => (): Tensor2D => tidy(() => of(stackedGradient(terms, shape))))
      .reduce((before, next) => () => tidy(() => add<Tensor2D>(before(), next())))();
  const dense = () => total(gradient => gradient.dense());
  const isInputKnown = !stacks.flat().some(({swapped}) => swapped);
  return {
    shape,
    leftMul: p => total(gradient => gradient.leftMul(p)),
    rightMul: q => total(gradient => gradient.rightMul(q)),
    rowSums: () => total(gradient => gradient.rowSums()),
    columnSums: () => total(gradient => gradient.columnSums()),
    norm2: () => tidy(() => sum(square(dense()))),
    dense,
    ...(isInputKnown && {inputGram: (q: Tensor2D) => total(gradient => gradient.inputGram!(q))}),
  };
}

function stackedGradient(terms: readonly Term[], shape: readonly [m: number, n: number]): Gradient {
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
