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
  /** Whether the loss or a gradient was no number at the step after the last: it moved nothing. */
  diverged: boolean;
}

/** The errors of a ProjectedOptimizer that refuses a step. */
const refusal = /NaN or infinity|too large to square/;

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
  let diverged = false;
  for (let step = 1; step <= steps && !signal?.aborted && !diverged; step++) {
    const start = performance.now();
    const {bytes, next} = randomBatch(text, batch, context, random);
    let bits: number;
    try {
      const cost = optimizer.minimize(
        () => crossEntropy(next, model.apply(bytes, {training: true}) as tf.Tensor),
        true,
        variables,
      )!;
      bits = (await cost.data())[0]! / Math.LN2;
      cost.dispose();
    } catch (error) {
      if (!(error instanceof Error && refusal.test(error.message))) throw error;
      diverged = true;
      continue;
    } finally {
      tf.dispose([bytes, next]);
    }
    times.push(performance.now() - start);
    loss.push(bits);
    onStep?.({step, steps, loss: bits, tokens: batch * context});
    // Lets signals such as Ctrl-C be seen: nothing above waits for anything.
    await setImmediate();
  }
  const msPerStep = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  return {loss, msPerStep, diverged};
}
