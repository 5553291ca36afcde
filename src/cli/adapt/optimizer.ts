import type * as tf from '@tensorflow/tfjs';
import {cosine, lora, loraAdam, projected, type ProjectedOptimizer} from '../../index.js';
import {innerOptimizer} from '../inner.js';
import {UsageError} from '../usage-error.js';
import type {Options} from './options.js';

/** Steps in which the learning rate rises. */
const warmup = 10;

/**
 * The LoRA optimizer that the options describe: `loraAdam`, or LoRA around another of tfjs's optimizers.
 * @throws UsageError if the targets name no matrix, or the rank saves nothing on one of them
 */
export function buildOptimizer(model: tf.LayersModel, options: Options): ProjectedOptimizer {
  const {rank, alpha, lr, steps, inner, seed} = options;
  const matrices = model.weights
    .map(weight => ({name: weight.originalName, shape: weight.shape as number[]}))
    .filter(({shape}) => shape.length === 2);
  const chosen = matrices.filter(({name}) => options.targets?.test(name) ?? true);
  if (chosen.length === 0) {
    const kinds = [...new Set(matrices.map(({name}) => name.replace(/^block\d+/, 'block*')))];
    throw new UsageError(
      `--targets ${options.targets?.source} names no matrix; there is ${kinds.join(', ')}`,
    );
  }
  for (const {name, shape} of chosen) {
    const [m, n] = shape as [number, number];
    const largest = Math.ceil((m * n) / (m + n)) - 1;
    if (rank > largest) {
      throw new UsageError(`--rank ${rank} saves nothing on ${name} [${m} x ${n}]: give at most ${largest}`);
    }
  }
  const targets = chosen.map(({name}) => name);
  const rate = cosine(lr, {steps, warmup: Math.min(warmup, steps - 1), floor: lr / 10});
  return inner === 'adam'
    ? loraAdam(rate, {rank, alpha, targets, seed})
    : projected(innerOptimizer(inner, lr), lora({rank, alpha}), {learningRate: rate, targets, seed});
}
