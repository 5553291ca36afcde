import type {Tensor} from '@tensorflow/tfjs-core';
import {expectOneOf, expectOptions} from '../options.js';
import type {Start} from '../parametrization.js';
import {splitSeed, uniform} from '../random.js';
import {recipe} from '../recipe.js';

/**
 * Where the factors of kron(c, d) start. `shapes` says which there are: `{c, d}` or `{c, d1, d2}`. A factor left out
 * starts at zero. Returning all is a start away from zero: what they make is subtracted, and W begins at W0.
 */
export type KroneckerInitializer = (
  start: Start & {
    readonly rank: number;
    readonly shapes: Readonly<Record<string, readonly [number, number]>>;
  },
) => Readonly<Record<string, Tensor>>;

/**
 * Every factor U(-1/sqrt(k), 1/sqrt(k)), k its number of rows, except the one at zero: `c` (PEFT's start), or with
 * `zero: 'd'` the `d` or `d1` (that of LyCORIS).
 */
export const kroneckerUniform = /* @__PURE__ */ recipe(
  'kroneckerUniform',
  (options: {zero?: 'c' | 'd'} = {}): KroneckerInitializer => {
    expectOptions('kroneckerUniform', options, ['zero']);
    const {zero = 'c'} = options;
    expectOneOf('kroneckerUniform: zero', zero, ['c', 'd']);
    return ({shapes, seed}) => {
      const zeroed = zero === 'c' ? 'c' : 'd' in shapes ? 'd' : 'd1';
      const moving = Object.entries(shapes).filter(([key]) => key !== zeroed);
      return Object.fromEntries(
        moving.map(([key, shape]) => {
          const bound = 1 / Math.sqrt(shape[0]);
          return [key, uniform(shape, splitSeed(seed, key), {low: -bound, high: bound})];
        }),
      );
    };
  },
);
