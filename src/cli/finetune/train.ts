/** Trains a model on examples, one batch after another. */
import type * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../../index.js';
import {seededRandom} from '../random.js';
import {type LoopOptions, minimized, type Training, trainingLoop} from '../training-loop.js';
import {batchOf, type Examples} from './examples.js';
import {lossOf} from './loss.js';
import {shuffle} from './split.js';
import type {Task} from './task.js';

export interface TrainingOptions extends Omit<LoopOptions, 'tokens'> {
  /** Examples in a batch; the last of an epoch may have fewer. */
  batch: number;
  seed: number;
}

export async function training(
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
  task: Task,
  examples: Examples,
  {batch, seed, ...loop}: TrainingOptions,
): Promise<Training> {
  const variables = model.trainableWeights.map(weight => weight.read() as tf.Variable);
  const order = ordered(examples.size, batch, seed);
  const takeStep = async (step: number) => {
    const {inputs, targets} = batchOf(examples, order(step));
    const cost = () => lossOf(task, model.apply(inputs, {training: true}) as tf.Tensor, targets);
    try {
      return await minimized(optimizer, cost, variables);
    } finally {
      inputs.dispose();
    }
  };
  return trainingLoop(takeStep, {...loop, tokens: Math.min(batch, examples.size)});
}

/** The examples of each step: every epoch in an order of its own, which depends on the seed and the epoch alone. */
export function ordered(size: number, batch: number, seed: number): (step: number) => Int32Array {
  const perEpoch = Math.ceil(size / batch);
  let known = -1;
  let order = new Int32Array();
  return step => {
    const epoch = Math.floor(step / perEpoch);
    if (epoch !== known) {
      order = Int32Array.from({length: size}, (_, i) => i);
      shuffle(order, seededRandom(seed * 1_000_003 + epoch));
      known = epoch;
    }
    const from = (step % perEpoch) * batch;
    return order.slice(from, from + batch);
  };
}
