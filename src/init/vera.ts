import type {Tensor} from '@tensorflow/tfjs-core';
import {fill} from '@tensorflow/tfjs-core';
import {expectNumber, expectOptions} from '../options.js';
import type {Start} from '../parametrization.js';
import {recipe} from '../recipe.js';

/**
 * Where the two scalings of VeRA start: `d` `[rank]`, `b` `[n]`. One that is left out starts at zero. Returning both is
 * a start away from zero: what they make is subtracted, and W begins at W0.
 */
export type VeraInitializer = (start: Start & {readonly rank: number}) => {
  readonly d?: Tensor;
  readonly b?: Tensor;
};

/** Every number of `d` the same, by default 0.1; `b = 0`. As in arXiv:2310.11454. */
export const veraConstant = /* @__PURE__ */ recipe(
  'veraConstant',
  (options: {d?: number} = {}): VeraInitializer => {
    expectOptions('veraConstant', options, ['d']);
    const {d = 0.1} = options;
    expectNumber('veraConstant: d', d, 'a number other than 0', d => d !== 0);
    return ({rank}) => ({d: fill([rank], d)});
  },
);
