import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {expect} from 'vitest';
import {
  denseGradient,
  type Initializer,
  lora,
  type LoraOptions,
  normal,
  type Parametrization,
  projected,
  splitSeed,
} from '../../src/index.js';
import {values} from '../helpers.js';

export const backends = ['cpu', 'wasm'];

export const random = (m: number, n: number, seed: number): tf.Tensor2D =>
  normal([m, n], seed) as tf.Tensor2D;

/** What `init` returns for a weight and a gradient; both factors must be there. */
export function begin(
  init: Initializer,
  rank: number,
  {
    weight,
    gradient,
    seed = 3,
    scale = 1,
  }: {weight?: tf.Tensor2D; gradient?: tf.Tensor2D; seed?: number; scale?: number},
): {a: tf.Tensor2D; b: tf.Tensor2D} {
  const shape = (weight ?? gradient)!.shape;
  const given = {
    weight: weight ?? tf.zeros<tf.Rank.R2>(shape),
    gradient: denseGradient(gradient ?? tf.zeros(shape), shape),
  };
  const {a, b} = init({...given, rank, seed, scale});
  expect(a!.shape).toEqual([shape[0], rank]);
  if (b) expect(b.shape).toEqual([rank, shape[1]]);
  return {a: a as tf.Tensor2D, b: (b ?? tf.zeros([rank, shape[1]])) as tf.Tensor2D};
}

/** Largest entry of |A - B| over the largest of |B|; infinite where something is not finite. */
export function distance(got: tf.Tensor, want: tf.Tensor): number {
  expect(got.shape).toEqual(want.shape);
  const [x, y] = [values(got), values(want)];
  if ([...x, ...y].some(value => !Number.isFinite(value))) return Infinity;
  const size = Math.max(...y.map(Math.abs), 0) || 1;
  return x.reduce((worst, value, i) => Math.max(worst, Math.abs(value - y[i]!)), 0) / size;
}

/** The same columns, each with the sign that suits: singular vectors have none of their own. */
export function columnDistance(got: tf.Tensor2D, want: tf.Tensor2D): number {
  return distance(tf.mul(got, tf.sign(tf.sum(tf.mul(got, want), 0, true))), want);
}

export const rowDistance = (got: tf.Tensor2D, want: tf.Tensor2D): number =>
  columnDistance(tf.transpose(got), tf.transpose(want));

/** Least squares, x W = y, through `projected`: the losses of `steps` steps. */
export function trainingLosses(parametrization: Parametrization, steps = 25): number[] {
  const [x, y] = [random(20, 12, 1), random(20, 9, 2)];
  const weight = tf.variable(tf.mul(random(12, 9, 3), 0.3));
  const optimizer = projected(tf.train.adam(0.03, 0.9, 0.999, 1e-7), parametrization, {targets: () => true});
  const loss = () => tf.mean(tf.square(tf.sub(tf.matMul(x, weight as tf.Tensor2D), y))) as tf.Scalar;
  const losses = Array.from({length: steps}, () => optimizer.minimize(loss, true, [weight])!.dataSync()[0]!);
  optimizer.dispose();
  weight.dispose();
  return losses;
}

/** W after six steps, taken in one go, or with the optimizer saved and loaded into a new one after `pause` of them. */
export async function sixSteps(options: LoraOptions, pause?: number): Promise<number[]> {
  const build = () => projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), lora(options), {targets: () => true});
  const weight = tf.variable(random(10, 9, 4), true, 'six');
  let optimizer = build();
  for (let step = 0; step < 6; step++) {
    if (step === pause) {
      const next = build();
      await next.setWeights(await optimizer.getWeights());
      optimizer.dispose();
      optimizer = next;
    }
    optimizer.applyGradients({six: random(10, 9, splitSeed(9, step))});
  }
  const result = values(weight);
  optimizer.dispose();
  weight.dispose();
  return result;
}
