import type {Tensor} from '@tensorflow/tfjs-core';
import {normal, splitSeed, uniform} from '../random.js';
import {recipe} from '../recipe.js';
import type {Start} from '../parametrization.js';

/**
 * Where the factors of (a1 b1) o (a2 b2) start: `a1`, `a2` `[m, rank]`, `b1`, `b2` `[rank, n]`. A factor left out
 * starts at zero. Returning all four is a start away from zero: what they make is subtracted, and W begins at W0.
 */
export type HadamardInitializer = (start: Start & {readonly rank: number}) => {
  readonly a1?: Tensor;
  readonly b1?: Tensor;
  readonly a2?: Tensor;
  readonly b2?: Tensor;
};

/** `a1 ~ U(-1/sqrt(m), 1/sqrt(m))`, `b1` and `b2 ~ U(-1/sqrt(r), 1/sqrt(r))`, `a2 = 0`: PEFT's start. */
export const hadamardUniform = /* @__PURE__ */ recipe(
  'hadamardUniform',
  (): HadamardInitializer =>
    ({weight: {shape}, rank, seed}) => {
      const [m, n] = shape;
      const within = (size: number) => ({low: -1 / Math.sqrt(size), high: 1 / Math.sqrt(size)});
      return {
        a1: uniform([m, rank], splitSeed(seed, 'a1'), within(m)),
        b1: uniform([rank, n], splitSeed(seed, 'b1'), within(rank)),
        b2: uniform([rank, n], splitSeed(seed, 'b2'), within(rank)),
      };
    },
);

/** `a1`, `a2 ~ N(0, 1)`, `b1 ~ N(0, 0.1^2)`, `b2 = 0`: the start of LyCORIS. */
export const hadamardNormal = /* @__PURE__ */ recipe(
  'hadamardNormal',
  (): HadamardInitializer =>
    ({weight: {shape}, rank, seed}) => ({
      a1: normal([shape[0], rank], splitSeed(seed, 'a1')),
      b1: normal([rank, shape[1]], splitSeed(seed, 'b1'), {std: 0.1}),
      a2: normal([shape[0], rank], splitSeed(seed, 'a2')),
    }),
);

/**
 * All four `N(0, sigma^2)`, sigma^8 = 2/(m r^2), so that (a1 b1) o (a2 b2) has He's variance 2/m: a start away from
 * zero, in the spirit of FedPara, which trains such a product from nothing (arXiv:2108.06098).
 */
export const hadamardHe = /* @__PURE__ */ recipe(
  'hadamardHe',
  (): HadamardInitializer =>
    ({weight: {shape}, rank, seed}) => {
      const [m, n] = shape;
      const std = (2 / (m * rank * rank)) ** (1 / 8);
      const draw = (key: string, size: readonly number[]) => normal(size, splitSeed(seed, key), {std});
      return {
        a1: draw('a1', [m, rank]),
        b1: draw('b1', [rank, n]),
        a2: draw('a2', [m, rank]),
        b2: draw('b2', [rank, n]),
      };
    },
);
