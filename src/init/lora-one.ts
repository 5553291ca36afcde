import {expectNumber, expectOptions} from '../options.js';
import {recipe} from '../recipe.js';
import {balanced} from './balanced.js';
import {expectGradientOptions, fromGradient, type GradientOptions, topOfGradient} from './directions.js';
import type {Initializer} from './initializer.js';

export interface LoraOneOptions extends GradientOptions {
  /** The larger, the shorter the factors. Default 128. */
  gamma?: number;
}

/**
 * LoRA-One: the factors lie along one step down the gradient, `-G = U S V^T`,
 * `a = U_r sqrt(S_r/S_1)/sqrt(gamma)`, `b = sqrt(S_r/S_1) V_r^T/sqrt(gamma)`.
 *
 * In the paper's code the step is taken by the start itself, W0 + s a b. Here W stays at W0, as after every start: the
 * factors have those directions and lengths, and the first step is the optimizer's. Source: arXiv:2502.01235.
 */
export const loraOne = /* @__PURE__ */ recipe('loraOne', (options: LoraOneOptions = {}): Initializer => {
  expectOptions('loraOne', options, ['gamma', 'steps', 'iterations']);
  const {gamma = 128} = options;
  expectNumber('loraOne: gamma', gamma, 'a number above 0', g => g > 0);
  expectGradientOptions('loraOne', options);
  const start: Initializer = given => {
    const {rank, scale = 1} = given;
    const count = Math.min(rank, ...given.weight.shape);
    const {u, s, v} = topOfGradient(given, count, options);
    const unit = -Math.sign(scale) / gamma / (s[0] || 1);
    return balanced(
      u,
      s.map(value => value * unit),
      v,
      rank,
    );
  };
  return fromGradient(start, options, rank => rank);
});
