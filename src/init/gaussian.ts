import {expectNumber, expectOptions} from '../options.js';
import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/** `a ~ N(0, std^2)`, `b = 0`. Default std: 1/rank, as PEFT's `init_lora_weights="gaussian"`. */
export const gaussian = /* @__PURE__ */ recipe('gaussian', (options: {std?: number} = {}): Initializer => {
  expectOptions('gaussian', options, ['std']);
  const {std} = options;
  if (std !== undefined) expectNumber('gaussian: std', std, 'a number above 0', s => s > 0);
  return ({weight, rank, seed}) => ({
    a: normal([weight.shape[0], rank], splitSeed(seed, 'a'), {std: std ?? 1 / rank}),
  });
});
