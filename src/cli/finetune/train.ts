/** Trains a model on examples, one batch after another. */
import {setImmediate} from 'node:timers/promises';
import type * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../../index.js';
import type {Step} from '../progress.js';
import {seededRandom} from '../random.js';
import {batchOf, type Examples} from './examples.js';
import {lossOf} from './loss.js';
import {shuffle} from './split.js';
import type {Task} from './task.js';

export interface TrainingOptions {
  steps: number;
  /** Examples in a batch; the last of an epoch may have fewer. */
  batch: number;
  seed: number;
  /** Losses of steps that were taken before, by a run that this one goes on from. */
  loss: number[];
  /** Called after every step. */
  onStep: (step: Step) => Promise<void> | void;
  /** Ends the training after the step at hand when it is aborted. */
  signal: AbortSignal;
}

export interface Training {
  /** Of every step taken. */
  readonly loss: number[];
  /** Median time of a step. */
  readonly msPerStep: number;
  /** Whether the loss or a gradient was no number at the step after the last: it moved nothing. */
  readonly diverged: boolean;
}

/** The errors of a ProjectedOptimizer that refuses a step. */
const refusal = /NaN or infinity|too large to square/;

export async function training(
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
  task: Task,
  examples: Examples,
  {steps, batch, seed, loss, onStep, signal}: TrainingOptions,
): Promise<Training> {
  const variables = model.trainableWeights.map(weight => weight.read() as tf.Variable);
  const times: number[] = [];
  let diverged = false;
  const order = ordered(examples.size, batch, seed);
  while (loss.length < steps && !signal.aborted && !diverged) {
    const start = performance.now();
    const indices = order(loss.length);
    const {inputs, targets} = batchOf(examples, indices);
    let value: number;
    try {
      const cost = optimizer.minimize(
        () => lossOf(task, model.apply(inputs, {training: true}) as tf.Tensor, targets),
        true,
        variables,
      )!;
      value = (await cost.data())[0]!;
      cost.dispose();
    } catch (error) {
      if (!(error instanceof Error && refusal.test(error.message))) throw error;
      diverged = true;
      continue;
    } finally {
      inputs.dispose();
    }
    times.push(performance.now() - start);
    loss.push(value);
    await onStep({step: loss.length, steps, loss: value, tokens: Math.min(batch, examples.size)});
    // Lets signals such as Ctrl-C be seen: nothing above waits for anything.
    await setImmediate();
  }
  const msPerStep = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  return {loss, msPerStep, diverged};
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
