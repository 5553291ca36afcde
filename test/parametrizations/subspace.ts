import * as tf from '@tensorflow/tfjs';
import {denseGradient, normal, type Parametrization, splitSeed} from '../../src/index.js';
import * as calculus from '../../src/calculus.js';
import type {Shape} from './exercise.js';

/** What the oracles of methods whose subspace is chosen anew are made of. */

export const gradientAt = ([m, n]: Shape, step: number, seed = 5) =>
  normal([m, n], splitSeed(seed, step)) as tf.Tensor2D;

/** W - W0 after a run along given gradients, from a weight of this name. Disposes the optimizer. */
export function movedBy(
  optimizer: tf.Optimizer,
  gradients: readonly tf.Tensor2D[],
  {name = 'weight', start = tf.zerosLike(gradients[0]!)}: {name?: string; start?: tf.Tensor} = {},
): tf.Tensor2D {
  const weight = tf.variable(start, true, name);
  for (const gradient of gradients) optimizer.applyGradients({[name]: gradient});
  const moved = tf.sub(weight, start) as tf.Tensor2D;
  optimizer.dispose();
  weight.dispose();
  return moved;
}

/** What a step of SGD from the start of this seed subtracts from W, over eta: DPhi DPhi* G but for terms of eta. */
export function applied(p: Parametrization, gradient: tf.Tensor2D, seed: number, eta = 1): tf.Tensor2D {
  return tf.tidy(() => {
    const operator = denseGradient(gradient, gradient.shape);
    const {factors, frozen = {}} = p.init({weight: tf.zerosLike(gradient), gradient: operator, seed});
    const state = {factors, frozen};
    const grads = calculus.pullback(p, state, operator);
    const stepped = Object.fromEntries(
      Object.entries(factors).map(([key, factor]) => [key, tf.sub(factor, tf.mul(grads[key]!, eta))]),
    );
    return tf.mul(calculus.lift(p, state, {factors: stepped, frozen}), -1 / eta) as tf.Tensor2D;
  });
}

export const norm2 = (x: tf.Tensor) => tf.tidy(() => tf.sum(tf.square(x)).dataSync()[0]!);
export const dot = (x: tf.Tensor, y: tf.Tensor) => tf.tidy(() => tf.sum(tf.mul(x, y)).dataSync()[0]!);
export const cosine = (x: tf.Tensor, y: tf.Tensor) => dot(x, y) / Math.sqrt(norm2(x) * norm2(y));
/** ||x - y|| / ||y||. */
export const apart = (x: tf.Tensor, y: tf.Tensor) => Math.sqrt(tf.tidy(() => norm2(tf.sub(x, y))) / norm2(y));

/** Mean and standard error over draws 1 … count. */
export function meanOver(count: number, draw: (seed: number) => number): {mean: number; error: number} {
  const seen = Array.from({length: count}, (_, i) => draw(i + 1));
  const mean = seen.reduce((sum, x) => sum + x, 0) / count;
  const variance = seen.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (count - 1);
  return {mean, error: Math.sqrt(variance / count)};
}

/**
 * How far the mean of H(G) over many draws is from `mean * G`, in standard errors of the worst of a few fixed
 * directions, G itself among them.
 */
export function meanOf(
  p: Parametrization,
  gradient: tf.Tensor2D,
  {draws = 800, mean = 1, eta = 1}: {draws?: number; mean?: number; eta?: number} = {},
): {sigmas: number; noise: {mean: number; error: number}; length: {mean: number; error: number}} {
  const probes = [gradient, ...[1, 2, 3].map(i => normal(gradient.shape, splitSeed(99, i)))];
  const rows = Array.from({length: draws}, (_, seed) => {
    const moved = applied(p, gradient, splitSeed(7, seed), eta);
    const row = {
      along: probes.map(probe => dot(moved, probe)),
      noise: tf.tidy(() => norm2(tf.sub(moved, tf.mul(gradient, mean)))) / norm2(gradient),
      length: norm2(moved) / norm2(gradient),
    };
    moved.dispose();
    return row;
  });
  const of = (pick: (row: (typeof rows)[number]) => number) => meanOver(draws, i => pick(rows[i - 1]!));
  const deviations = probes.map((probe, i) => {
    const {mean: got, error} = of(row => row.along[i]!);
    return Math.abs(got - mean * dot(gradient, probe)) / error;
  });
  return {sigmas: Math.max(...deviations), noise: of(row => row.noise), length: of(row => row.length)};
}
