import * as tf from '@tensorflow/tfjs';
import {lora, type Preconditioner, projected, splitSeed} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, toTensor, values} from '../helpers.js';
import {matrix, type Shape} from '../parametrizations/exercise.js';

/** What every preconditioner is put through. */

export type Pair = {a: tf.Tensor2D; b: tf.Tensor2D};

export const pair = ([m, n]: Shape, rank: number, seed: number): Pair => ({
  a: matrix([m, rank], splitSeed(seed, 'a')),
  b: matrix([rank, n], splitSeed(seed, 'b')),
});

export const hosted = ({a, b}: Pair): reference.LoraFactors => ({a: fromTensor(a), b: fromTensor(b)});

/** g_A and g_B of a gradient, bent. */
export function bent(precondition: Preconditioner, factors: Pair, G: tf.Tensor2D, s: number): Pair {
  const grads = {
    a: tf.mul(tf.matMul(G, factors.b, false, true), s),
    b: tf.mul(tf.matMul(factors.a, G, true), s),
  };
  return precondition({factors, frozen: {}}, grads, null as never, s) as Pair;
}

/** The path of W, from the factors (A T, T^-1 B): steps of SGD along the same gradients. */
export function path(
  precondition: Preconditioner | undefined,
  turn: reference.Matrix | null,
  {eta = 0.05, steps = 5, shape = [9, 7] as Shape, rank = 3} = {},
): number[] {
  const {a, b} = pair(shape, rank, 3);
  const start = turn
    ? {a: tf.matMul(a, toTensor(turn)), b: tf.matMul(toTensor(reference.inverse(turn)), b)}
    : {a, b};
  const weight = tf.variable(matrix(shape, 1));
  const p = lora({rank, alpha: 2 * rank, init: () => start, ...(precondition && {precondition})});
  const {trained: _, ...always} = p;
  const optimizer = projected(tf.train.sgd(eta), always, {targets: () => true});
  const seen: number[] = [];
  for (let step = 0; step < steps; step++) {
    optimizer.applyGradients({[weight.name]: matrix(shape, 50 + step)});
    seen.push(...values(weight));
  }
  optimizer.dispose();
  weight.dispose();
  return seen.map((w, i) => w - values(matrix(shape, 1))[i % (shape[0] * shape[1])]!);
}

/** How far W's path depends on the T of A -> A T, B -> T^-1 B. */
export function dependence(precondition: Preconditioner | undefined, options = {}): number {
  const turn = reference.fromRows([
    [2, 0.5, -1],
    [0.3, 0.6, 0.2],
    [-0.5, 1, 3],
  ]);
  return relativeError(path(precondition, turn, options), path(precondition, null, options));
}
