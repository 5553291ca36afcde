/** How a model does on examples. */
import {setImmediate} from 'node:timers/promises';
import type * as tf from '@tensorflow/tfjs';
import {batchOf, type Examples} from './examples.js';
import type {Task} from './task.js';

/** Shares and nats for classes; for numbers in the units of the labels. */
export type Scores = ClassScores | NumberScores;

export interface ClassScores {
  /** Share of examples whose likeliest class is the right one. */
  readonly accuracy: number;
  /** Mean of `-log(p + 1e-7)` of the right class, in nats. */
  readonly loss: number;
  /** Examples by right and by likeliest class. */
  readonly confusion: readonly (readonly number[])[];
}

export interface NumberScores {
  /** Root of the mean squared error, over all outputs. */
  readonly rmse: number;
  /** Mean of the absolute error. */
  readonly mae: number;
  /** Mean of the squared error. */
  readonly loss: number;
}

const batch = 128;
const least = 1e-7;

/**
 * What the model gives for every example, one after the other.
 * @param signal ends it by an AbortError when it is aborted
 */
export async function outputsOf(
  model: tf.LayersModel,
  examples: Examples,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const units = model.outputs[0]!.shape[1] as number;
  const all = new Float32Array(examples.size * units);
  for (let from = 0; from < examples.size; from += batch) {
    signal?.throwIfAborted();
    const indices = Int32Array.from({length: Math.min(batch, examples.size - from)}, (_, i) => from + i);
    const {inputs} = batchOf(examples, indices);
    const outputs = model.predict(inputs) as tf.Tensor;
    all.set((await outputs.data()) as Float32Array, from * units);
    inputs.dispose();
    outputs.dispose();
    await setImmediate();
  }
  return all;
}

/** Compares outputs with what they should be. */
export function scoresOf(task: Task, outputs: Float32Array, targets: Float32Array): Scores {
  return task.kind === 'numbers' ? numberScores(outputs, targets) : classScores(task, outputs, targets);
}

function numberScores(outputs: ArrayLike<number>, targets: Float32Array): NumberScores {
  let [squares, sizes] = [0, 0];
  targets.forEach((target, i) => {
    squares += (outputs[i]! - target) ** 2;
    sizes += Math.abs(outputs[i]! - target);
  });
  const loss = squares / targets.length;
  return {rmse: Math.sqrt(loss), mae: sizes / targets.length, loss};
}

function classScores(
  task: Task & {kind: 'classes'},
  outputs: Float32Array,
  targets: Float32Array,
): ClassScores {
  const {length} = task.classes;
  const confusion = task.classes.map(() => new Array<number>(length).fill(0));
  let [right, loss] = [0, 0];
  targets.forEach((target, i) => {
    const shares = probabilities(task, outputs, i);
    const likeliest = shares.indexOf(Math.max(...shares));
    if (likeliest >= 0) confusion[target]![likeliest]!++;
    if (likeliest === target) right++;
    loss -= Math.log(shares[target]! + least);
  });
  return {accuracy: right / targets.length, loss: loss / targets.length, confusion};
}

function probabilities(
  {outputs: kind, classes}: Task & {kind: 'classes'},
  all: Float32Array,
  i: number,
): number[] {
  if (kind === 'probability') return [1 - all[i]!, all[i]!];
  const row = [...all.subarray(i * classes.length, (i + 1) * classes.length)];
  if (kind === 'probabilities') return row;
  const most = Math.max(...row);
  const powers = row.map(logit => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map(power => power / sum);
}

/** What one gets without looking at an example: each class by its share in training, or the mean. */
export function baselineOf(task: Task, train: Examples, heldOut: Examples): Scores {
  const {targets, width} = train;
  if (task.kind === 'numbers') {
    const means = Array.from({length: width}, (_, k) => {
      const column = targets.filter((_, i) => i % width === k);
      return column.reduce((sum, value) => sum + value, 0) / column.length;
    });
    return numberScores(
      heldOut.targets.map((_, i) => means[i % width]!),
      heldOut.targets,
    );
  }
  const shares = task.classes.map(() => 0);
  for (const target of targets) shares[target]! += 1 / targets.length;
  const outputs = Float32Array.from(
    {length: heldOut.size * shares.length},
    (_, i) => shares[i % shares.length]!,
  );
  return classScores({...task, outputs: 'probabilities'}, outputs, heldOut.targets);
}
