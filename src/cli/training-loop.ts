/** What every training of a command does: a step after another, until the last, a signal, or a refusal. */
import {setImmediate} from 'node:timers/promises';
import type * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../optimizer.js';
import type {Step} from './progress.js';

export interface LoopOptions {
  /** Steps in all. */
  steps: number;
  /** Losses of steps that were taken before, by a run that this one goes on from; it grows by those of this one. */
  loss?: number[];
  /** What a step is made of, for the progress line: tokens, examples. */
  tokens: number;
  /** Called after every step, and waited for. */
  onStep?: ((step: Step) => unknown) | undefined;
  /** Ends the training after the step at hand when it is aborted. */
  signal?: AbortSignal | undefined;
}

/** What happened in a training. */
export interface Training {
  /** Of every step taken, also before. */
  readonly loss: number[];
  /** Steps that were taken now. */
  readonly taken: number;
  /** Median time of a step, in milliseconds; 0 without a step. */
  readonly msPerStep: number;
  /** Whether the loss or a gradient was no number at the step after the last: it moved nothing. */
  readonly diverged: boolean;
}

/** The errors of a ProjectedOptimizer that refuses a step. */
const refusal = /NaN or infinity|too large to square/;

/**
 * Trains. The first step that the optimizer refuses ends it; any other error passes through.
 * @param takeStep takes a step, counted from 0, and gives its loss
 */
export async function trainingLoop(
  takeStep: (index: number) => Promise<number>,
  {steps, loss = [], tokens, onStep, signal}: LoopOptions,
): Promise<Training> {
  const times: number[] = [];
  let diverged = false;
  while (loss.length < steps && !signal?.aborted && !diverged) {
    const start = performance.now();
    let value: number;
    try {
      value = await takeStep(loss.length);
    } catch (error) {
      if (!(error instanceof Error && refusal.test(error.message))) throw error;
      diverged = true;
      continue;
    }
    times.push(performance.now() - start);
    loss.push(value);
    await onStep?.({step: loss.length, steps, loss: value, tokens});
    // Lets signals such as Ctrl-C be seen: nothing above waits for anything.
    await setImmediate();
  }
  return {loss, taken: times.length, msPerStep: median(times), diverged};
}

/** Of an even number the upper of the two in the middle. */
const median = (times: number[]): number => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;

/** Takes one step of an optimizer down a cost, and gives the cost before it. */
export async function minimized(
  optimizer: tf.Optimizer,
  cost: () => tf.Scalar,
  variables: tf.Variable[],
): Promise<number> {
  const before = optimizer.minimize(cost, true, variables)!;
  const [value] = await before.data();
  before.dispose();
  // On webgpu it is known only now whether the step was refused. To tfjs all that minimizes is an instance of every
  // optimizer class.
  if ('checked' in optimizer) await (optimizer as ProjectedOptimizer).checked();
  return value!;
}
