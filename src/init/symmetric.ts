import {expectNumber, expectOptions} from '../options.js';
import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/**
 * Both factors away from zero: `a ~ N(0, std^2/m)`, `b ~ N(0, std^2/n)`, W = W0 - s A0 B0 + s A B.
 * With std 1 the columns of `a` and the rows of `b` have length 1 in the mean, so that both sides of
 * `s^2 (a a^T G + G b^T b)` weigh the same. Source: Su Jianlin, kexue.fm/archives/9590.
 */
export const symmetric = /* @__PURE__ */ recipe('symmetric', (options: {std?: number} = {}): Initializer => {
  expectOptions('symmetric', options, ['std']);
  const {std = 1} = options;
  expectNumber('symmetric: std', std, 'a number above 0', s => s > 0);
  return ({weight: {shape}, rank, seed}) => ({
    a: normal([shape[0], rank], splitSeed(seed, 'a'), {std: std / Math.sqrt(shape[0])}),
    b: normal([rank, shape[1]], splitSeed(seed, 'b'), {std: std / Math.sqrt(shape[1])}),
  });
});
