import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/** `a ~ N(0, std^2)`, `b = 0`. Default std: 1/rank, as PEFT's `init_lora_weights="gaussian"`. */
export const gaussian = /* @__PURE__ */ recipe(
  'gaussian',
  ({std}: {std?: number} = {}): Initializer =>
    ({weight, rank, seed}) => ({
      a: normal([weight.shape[0], rank], splitSeed(seed, 'a'), {std: std ?? 1 / rank}),
    }),
);
