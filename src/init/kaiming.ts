import {splitSeed, uniform} from '../random.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/**
 * `a ~ U(-1/sqrt(m), 1/sqrt(m))`, `b = 0`: the default of microsoft/LoRA and PEFT (kaiming_uniform with a = sqrt(5)).
 */
export const kaiming = /* @__PURE__ */ recipe('kaiming', (): Initializer => ({weight, rank, seed}) => {
  const m = weight.shape[0];
  const bound = 1 / Math.sqrt(Math.max(m, 1));
  return {a: uniform([m, rank], splitSeed(seed, 'a'), {low: -bound, high: bound})};
});
