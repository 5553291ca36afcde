import * as tf from '@tensorflow/tfjs';

/** All seven of tfjs, with epsilon given. Adadelta and Adagrad at rates at which they move. */
export const OPTIMIZERS = {
  sgd: () => tf.train.sgd(0.05),
  momentum: () => tf.train.momentum(0.02, 0.9),
  nesterov: () => tf.train.momentum(0.02, 0.9, true),
  adam: () => tf.train.adam(0.01, 0.9, 0.999, 1e-7),
  adamax: () => tf.train.adamax(0.01, 0.9, 0.999, 1e-7, 0.01),
  rmsprop: () => tf.train.rmsprop(0.002, 0.9, 0.5, 1e-7),
  adagrad: () => tf.train.adagrad(0.05),
  adadelta: () => tf.train.adadelta(0.05, 0.95, 1e-7),
} satisfies Record<string, () => tf.Optimizer>;

export type OptimizerName = keyof typeof OPTIMIZERS;
export const OPTIMIZER_NAMES = Object.keys(OPTIMIZERS) as OptimizerName[];
