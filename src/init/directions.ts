import type {Tensor2D} from '@tensorflow/tfjs-core';
import {fill} from '@tensorflow/tfjs-core';
import {NotFiniteError} from '../linalg/host.js';
import {topSingular} from '../linalg/range-finder.js';
import {addToSketch, beginSketch, type Sketch, topOfSketch} from '../linalg/sketch.js';
import type {Singular} from '../linalg/svd.js';
import {expectNumber} from '../options.js';
import type {Start} from '../parametrization.js';
import {splitSeed} from '../random.js';
import type {Initializer} from './initializer.js';

// What starts that look at the gradient have in common: its singular vectors, from one gradient or from the sum of k.

export interface GradientOptions {
  /** Gradients to look at before the start; until then nothing moves. Default 1. */
  steps?: number;
  /** Rounds of subspace iteration for a single gradient, two thin products each. Default 4. */
  iterations?: number;
}

export function expectGradientOptions(where: string, {steps = 1, iterations = 4}: GradientOptions): void {
  expectNumber(`${where}: steps`, steps, 'a whole number of at least 1', k => Number.isInteger(k) && k >= 1);
  expectNumber(`${where}: iterations`, iterations, 'a whole number', k => Number.isInteger(k) && k >= 0);
}

/** The first singular vectors of the gradient, or of the sum of the gradients seen; norm2 where that is estimated. */
export function topOfGradient(
  {gradient, sketch, seed}: Start,
  rank: number,
  {iterations = 4}: GradientOptions,
): Singular & {readonly norm2?: number} {
  if (sketch) return topOfSketch(sketch as Sketch, {rank});
  return topSingular(gradient, {rank, iterations, seed: splitSeed(seed, 'directions')});
}

/**
 * The start, and what it wants to see before.
 *
 * A gradient that holds NaN has no singular vectors: then the factors are NaN, so that the optimizer meets them as it
 * meets NaN in any projected gradient, and throws, skips or ignores it as it was told.
 *
 * @param width How many singular vectors the start takes, for a rank.
 */
export function fromGradient(
  start: Initializer,
  {steps = 1}: GradientOptions,
  width: (rank: number) => number,
): Initializer {
  const guarded: Initializer = given => {
    try {
      return start(given);
    } catch (error) {
      if (!(error instanceof NotFiniteError)) throw error;
      const [m, n] = given.weight.shape;
      return {a: fill([m, given.rank], NaN) as Tensor2D, b: fill([given.rank, n], NaN) as Tensor2D};
    }
  };
  if (steps === 1) return guarded;
  return Object.assign(guarded, {
    observe: {
      steps,
      begin: ({shape, rank, seed}: {shape: readonly [number, number]; rank: number; seed: number}) =>
        beginSketch({shape, rank: width(rank), seed: splitSeed(seed, 'sketch')}),
      add: (sums, gradient) => addToSketch(sums as Sketch, gradient),
    } satisfies NonNullable<Initializer['observe']>,
  });
}
