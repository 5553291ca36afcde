/** How a model does on examples. */
import {setImmediate} from 'node:timers/promises';
import type * as tf from '@tensorflow/tfjs';
import {batchOf, type Examples} from './examples.js';
import type {Standard} from './standardise.js';
import type {Task} from './task.js';

/** Shares and nats for classes; for numbers in the units of the labels. */
export type Scores = ClassScores | NumberScores;

export interface ClassScores {
  /** Share of examples whose likeliest class is the right one. */
  readonly accuracy: number;
  /** Mean of `-log(p + 1e-7)` of the right class, in nats; of logits without the 1e-7. */
  readonly loss: number;
  /** Examples by right and by likeliest class. */
  readonly confusion: readonly (readonly number[])[];
}

export interface NumberScores {
  /** Root of the mean squared error, over all outputs. */
  readonly rmse: number;
  /** Mean of the absolute error. */
  readonly mae: number;
  /** Mean of the squared error, of standardised labels where they are; what is made small. */
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

/**
 * Compares outputs with what they should be.
 * @param standard of the labels, where they were standardised: root and absolute errors are in their own units again
 */
export function scoresOf(
  task: Task,
  outputs: ArrayLike<number>,
  targets: Float32Array,
  standard: Standard | null = null,
): Scores {
  if (task.kind === 'classes') return classScores(task, outputs as Float32Array, targets);
  return numberScores(outputs, targets, standard?.deviation ?? [1]);
}

function numberScores(
  outputs: ArrayLike<number>,
  targets: Float32Array,
  units: readonly number[],
): NumberScores {
  let [squares, sizes, loss] = [0, 0, 0];
  targets.forEach((target, i) => {
    const error = outputs[i]! - target;
    const unit = units[i % units.length]!;
    loss += error ** 2 / targets.length;
    squares += (unit * error) ** 2;
    sizes += Math.abs(unit * error);
  });
  return {rmse: Math.sqrt(squares / targets.length), mae: sizes / targets.length, loss};
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
    loss -= logOf(task, shares, outputs, i, target);
  });
  return {accuracy: right / targets.length, loss: loss / targets.length, confusion};
}

/** `log(p + 1e-7)` of the right class; of logits `log p`, which is exact however small p is. */
function logOf(
  {outputs: kind, classes}: Task & {kind: 'classes'},
  shares: readonly number[],
  all: Float32Array,
  i: number,
  target: number,
): number {
  if (kind !== 'logits') return Math.log(shares[target]! + least);
  const row = all.subarray(i * classes.length, (i + 1) * classes.length);
  const most = Math.max(...row);
  return row[target]! - most - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
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
export function baselineOf(
  task: Task,
  train: Examples,
  heldOut: Examples,
  standard: Standard | null,
): Scores {
  const {targets, width} = train;
  if (task.kind === 'numbers') {
    const means = Array.from({length: width}, (_, k) => {
      const column = targets.filter((_, i) => i % width === k);
      return column.reduce((sum, value) => sum + value, 0) / column.length;
    });
    const always = heldOut.targets.map((_, i) => means[i % width]!);
    return scoresOf(task, always, heldOut.targets, standard);
  }
  const shares = task.classes.map(() => 0);
  for (const target of targets) shares[target]! += 1 / targets.length;
  const outputs = Float32Array.from(
    {length: heldOut.size * shares.length},
    (_, i) => shares[i % shares.length]!,
  );
  return classScores({...task, outputs: 'probabilities'}, outputs, heldOut.targets);
}
