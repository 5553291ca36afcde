import * as tf from '@tensorflow/tfjs';
import {UsageError} from './usage-error.js';

/** tfjs's optimizers by name, with a rate that suits LoRA and epsilon always the same. */
const inners: Record<string, {rate: number; build: (rate: number) => tf.Optimizer}> = {
  sgd: {rate: 0.3, build: rate => tf.train.sgd(rate)},
  momentum: {rate: 0.02, build: rate => tf.train.momentum(rate, 0.9)},
  adagrad: {rate: 0.1, build: rate => tf.train.adagrad(rate)},
  // tfjs's Adadelta takes the steps of plain SGD.
  adadelta: {rate: 0.3, build: rate => tf.train.adadelta(rate, 0.95, 1e-6)},
  adam: {rate: 5e-3, build: rate => tf.train.adam(rate, 0.9, 0.999, 1e-7)},
  adamax: {rate: 5e-3, build: rate => tf.train.adamax(rate, 0.9, 0.999, 1e-7)},
  rmsprop: {rate: 2e-3, build: rate => tf.train.rmsprop(rate, 0.9, 0, 1e-7)},
};

export const innerNames = Object.keys(inners);

/** The rate of a run with `inner` when the user gives none. */
export function defaultRate(inner: string, rate: number = inners['adam']!.rate, meantFor = 'adam'): number {
  // With another optimizer than the one it is for: what suits LoRA there, by as much larger or smaller as it is here.
  return inner === meantFor ? rate : Number(((find(inner).rate * rate) / find(meantFor).rate).toPrecision(3));
}

/** @throws UsageError for an unknown name */
export function innerOptimizer(inner: string, rate: number): tf.Optimizer {
  return find(inner).build(rate);
}

function find(inner: string) {
  if (!Object.hasOwn(inners, inner)) {
    throw new UsageError(`unknown optimizer "${inner}": --inner takes ${innerNames.join(', ')}`);
  }
  return inners[inner]!;
}
