import type * as tf from '@tensorflow/tfjs';
import {cosine, type Parametrization, projected, type ProjectedOptimizer} from '../../index.js';
import {innerOptimizer} from '../inner.js';
import {UsageError} from '../usage-error.js';
import {methodOf} from './method-names.js';
import type {Method} from './methods.js';

/** Steps in which the learning rate rises. */
const warmup = 10;

/** A method and all that it needs to train. */
export interface Plan {
  method: string;
  /** Null for a method without one; alpha too. */
  rank: number | null;
  alpha: number | null;
  lr: number;
  steps: number;
  inner: string;
  seed: number;
  targets: RegExp | undefined;
}

/** A matrix of a model. */
export interface Matrix {
  name: string;
  shape: [m: number, n: number];
}

/**
 * The matrices of a model that `targets` names.
 * @throws UsageError if there is none
 */
export function targetsOf(model: tf.LayersModel, targets: RegExp | undefined): Matrix[] {
  const matrices = model.weights
    .map(weight => ({name: weight.originalName, shape: weight.shape as [number, number]}))
    .filter(({shape}) => shape.length === 2);
  const chosen = matrices.filter(({name}) => targets?.test(name) ?? true);
  if (chosen.length > 0) return chosen;
  const kinds = [...new Set(matrices.map(({name}) => name.replace(/^block\d+/, 'block*')))];
  throw new UsageError(`--targets ${targets?.source} names no matrix; there is ${kinds.join(', ')}`);
}

/**
 * The optimizer that a plan describes.
 * @throws UsageError if the targets name no matrix, the rank saves nothing on one of them, or the method and the inner
 *     optimizer do not go together
 */
export function buildOptimizer(model: tf.LayersModel, plan: Plan): ProjectedOptimizer {
  const {lr, steps, inner, seed} = plan;
  const matrices = targetsOf(model, plan.targets);
  const learningRate = cosine(lr, {steps, warmup: Math.min(warmup, steps - 1), floor: lr / 10});
  const newInner = () => innerOptimizer(inner, lr);
  try {
    const method = methodOf(plan.method);
    const [rank, alpha] = [plan.rank ?? 0, plan.alpha ?? 0];
    const built = method.build({rank, alpha, steps, lr, rate: learningRate, inner: newInner});
    if (plan.rank !== null) expectSaving(method, built.parametrization, rank, matrices);
    return projected(built.inner ?? newInner(), built.parametrization, {
      learningRate,
      ...built.options,
      targets: matrices.map(({name}) => name),
      seed,
    });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--method ${plan.method}: ${(error as Error).message}`);
  }
}

/** Numbers that a parametrization trains of a matrix. */
export const trainedOf = (parametrization: Parametrization, [m, n]: [number, number]): number =>
  parametrization.trained?.([m, n]) ?? m * n;

/** The parametrization of a method at a rank, to ask it what it trains. */
export function parametrizationAt(method: Method, rank: number): Parametrization {
  const alpha = (method.alpha ?? 0) * rank;
  const inner = () => innerOptimizer('adam', method.defaultRate);
  return method.build({rank, alpha, steps: 3, lr: method.defaultRate, rate: () => 0, inner}).parametrization;
}

function expectSaving(
  method: Method,
  parametrization: Parametrization,
  rank: number,
  matrices: Matrix[],
): void {
  const saves = (p: Parametrization, {shape: [m, n]}: Matrix) => trainedOf(p, [m, n]) < m * n;
  const wasteful = matrices.find(matrix => !saves(parametrization, matrix));
  if (!wasteful) return;
  let largest = rank - 1;
  while (largest > 0 && !saves(parametrizationAt(method, largest), wasteful)) largest--;
  const {name, shape} = wasteful;
  const fix = largest > 0 ? `give at most ${largest}` : 'leave it out of --targets';
  throw new UsageError(`--rank ${rank} saves nothing on ${name} [${shape.join(' x ')}]: ${fix}`);
}

/** Trained numbers and all numbers of the model. */
export function countParameters(
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
): {trained: number; all: number} {
  const rows = optimizer.explain(model, null);
  return {
    trained: rows.reduce((sum, row) => sum + row.trained, 0),
    all: rows.reduce((sum, row) => sum + row.of, 0),
  };
}
