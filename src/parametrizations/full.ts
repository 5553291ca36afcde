import {sub, zerosLike} from '@tensorflow/tfjs-core';
import {expectOptions} from '../options.js';
import type {Additive} from '../parametrization.js';
import {recipe} from '../recipe.js';

/**
 * W = W0 + delta, delta `[m, n]`: nothing is projected, `pullback G = G`.
 *
 * The yardstick: any inner optimizer through `full` equals the plain optimizer. To train a weight in full at no
 * extra memory use the rule 'train' instead. It has no `trained`: that says when a weight is too small to save anything,
 * and `full` is not meant to.
 */
export const full = /* @__PURE__ */ recipe(
  'full',
  (options: Record<string, never> = {}): Additive<'delta'> => {
    expectOptions('full', options, []);
    return {
      name: 'full',
      init: ({weight}) => ({factors: {delta: zerosLike(weight)}}),
      delta: ({factors: {delta}}) => delta,
      pullback: (_, gradient) => ({delta: gradient.dense()}),
      lift: (state, next) => sub(next.factors.delta, state.factors.delta),
      tangent: () => ({form: 'all'}),
      refresh: ({factors: {delta}}) => ({factors: {delta: zerosLike(delta)}}),
    };
  },
);
