import {denseGradient} from '../capture/gradient.js';
import {topSingular} from '../linalg/range-finder.js';
import {expectNumber, expectOptions} from '../options.js';
import {recipe} from '../recipe.js';
import {balanced} from './balanced.js';
import type {Initializer} from './initializer.js';

export interface PissaOptions {
  /** Rounds of subspace iteration, two thin products with the weight each. Default 8. */
  iterations?: number;
}

/**
 * PiSSA: the factors start as the largest part of the weight, `W0 = U S V^T`,
 * `a = U_r sqrt(S_r/s)`, `b = sqrt(S_r/s) V_r^T`, so that `s a b` is the best approximation of W0 of rank r.
 *
 * W stays at W0, which lora sees to: it moves `W0 - s a0 b0 + s a b`. Source: arXiv:2404.02948.
 */
export const pissa = /* @__PURE__ */ recipe('pissa', (options: PissaOptions = {}): Initializer => {
  expectOptions('pissa', options, ['iterations']);
  const {iterations = 8} = options;
  expectNumber('pissa: iterations', iterations, 'a whole number', k => Number.isInteger(k) && k >= 0);
  return ({weight, rank, seed, scale = 1}) => {
    const [m, n] = weight.shape;
    const count = Math.min(rank, m, n);
    const {u, s, v} = topSingular(denseGradient(weight, [m, n]), {rank: count, iterations, seed});
    return balanced(
      u,
      s.map(value => value / scale),
      v,
      rank,
    );
  };
});
