import {pad} from '@tensorflow/tfjs-core';
import {topEigen} from '../linalg/range-finder.js';
import {expectNumber, expectOptions} from '../options.js';
import {recipe} from '../recipe.js';
import {fromGradient} from './directions.js';
import type {Initializer} from './initializer.js';

export interface EvaOptions {
  /** Rounds of subspace iteration, one thin product with `x^T x` each. Default 8. */
  iterations?: number;
}

/**
 * EVA: the columns of `a` are the r directions in which the layer's inputs x are largest, the first eigenvectors of
 * `x^T x`; `b = 0`. No direction of the inputs that holds more is left out, and W stays at W0.
 *
 * From the inputs of the first batch. An error where they are not known: see `Gradient.inputGram`.
 * Source: arXiv:2410.07170.
 */
export const eva = /* @__PURE__ */ recipe('eva', (options: EvaOptions = {}): Initializer => {
  expectOptions('eva', options, ['iterations']);
  const {iterations = 8} = options;
  expectNumber('eva: iterations', iterations, 'a whole number', k => Number.isInteger(k) && k >= 0);
  const start: Initializer = ({weight, gradient, rank, seed}) => {
    const [m, n] = weight.shape;
    if (!gradient.inputGram) {
      throw new Error(
        `eva: the inputs of this [${m}, ${n}] weight are not known. They are where its gradient is taken as a product ` +
          "(see explain(): 'factored'), not with capture: 'dense' or applyGradients. Give this weight another init, " +
          'such as kaiming()',
      );
    }
    const count = Math.min(rank, m);
    const {vectors} = topEigen(q => gradient.inputGram!(q), m, {rank: count, iterations, seed});
    return {
      a: pad(vectors, [
        [0, 0],
        [0, rank - count],
      ]),
    };
  };
  return fromGradient(start, {}, rank => rank);
});
