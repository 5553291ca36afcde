/** Trains a byte-level model on a text, one step after another. */
import {setImmediate} from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs';
import type {Step} from '../progress.js';
import {seededRandom} from '../random.js';
import {randomBatch} from './batch.js';
import {contextLength, crossEntropy, trainableVariables} from './model.js';

export interface AdaptationOptions {
  steps: number;
  seed: number;
  /** Windows in a step (8). */
  batch?: number;
  /** Bytes predicted in a window (128). */
  context?: number;
  /** Called after every step. */
  onStep?: (step: Step) => void;
  /** Ends the training after the step at hand when it is aborted. */
  signal?: AbortSignal;
}

/** What happened in an adaptation. */
export interface Adaptation {
  /** Bits per byte of every step taken. */
  loss: number[];
  /** Median time of a step. */
  msPerStep: number;
}

/** Trains `model` with `optimizer` on random windows of `text`. */
export async function adaptation(
  model: tf.LayersModel,
  optimizer: tf.Optimizer,
  text: Uint8Array,
  {steps, seed, batch = 8, context = contextLength, onStep, signal}: AdaptationOptions,
): Promise<Adaptation> {
  const random = seededRandom(seed);
  const variables = trainableVariables(model);
  const loss: number[] = [];
  const times: number[] = [];
  for (let step = 1; step <= steps && !signal?.aborted; step++) {
    const start = performance.now();
    const {bytes, next} = randomBatch(text, batch, context, random);
    const cost = optimizer.minimize(
      () => crossEntropy(next, model.apply(bytes, {training: true}) as tf.Tensor),
      true,
      variables,
    )!;
    const bits = (await cost.data())[0]! / Math.LN2;
    tf.dispose([bytes, next, cost]);
    times.push(performance.now() - start);
    loss.push(bits);
    onStep?.({step, steps, loss: bits, tokens: batch * context});
    // Lets signals such as Ctrl-C be seen: nothing above waits for anything.
    await setImmediate();
  }
  const msPerStep = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  return {loss, msPerStep};
}
