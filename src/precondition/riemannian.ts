import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, transpose} from '@tensorflow/tfjs-core';
import {inverseGram} from '../linalg/inverse.js';
import {expectNumber, expectOptions} from '../options.js';
import {recipe} from '../recipe.js';
import type {Preconditioner} from './preconditioner.js';

export interface RiemannianOptions {
  /** Added to the Gram matrices, in their units; 0 takes the pseudo-inverse. Default 1e-2. */
  regularisation?: number;
  /** Divide by s^2 as well, so that alpha does not act on the step. Default false. */
  divideByScale?: boolean;
}

/**
 * Scaled gradient descent on the factors of a product:
 *
 *     g_A <- g_A (B B^T + reg I)^-1        g_B <- (A^T A + reg I)^-1 g_B        both from the factors before the step
 *
 * With reg = 0 the change of W is, to first order, `-eta s^2 (Pi_A G + G Pi_B)`. Source: arXiv:2402.02347.
 */
export const riemannian = /* @__PURE__ */ recipe(
  'riemannian',
  (options: RiemannianOptions = {}): Preconditioner => {
    expectOptions('riemannian', options, ['regularisation', 'divideByScale']);
    const {regularisation = 1e-2, divideByScale = false} = options;
    expectNumber('riemannian: regularisation', regularisation, 'a number of at least 0', reg => reg >= 0);
    return ({factors: {a, b}}, grads, _, scale) => {
      const by = divideByScale ? scale ** -2 : 1;
      const [right, left] = [transpose(b) as Tensor2D, a as Tensor2D].map(factor =>
        mul(inverseGram(factor, regularisation), by),
      );
      return {a: matMul(grads.a, right!), b: matMul(left!, grads.b)};
    };
  },
);
