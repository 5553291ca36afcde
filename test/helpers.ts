import {existsSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {expect} from 'vitest';
import {matrix, type Matrix} from '../src/reference/index.js';
import {matrixShape} from '../src/targets.js';

/** A copy of a tensor's numbers. */
export const values = (tensor: tf.Tensor): number[] => Array.from(tensor.dataSync());

export const numTensors = (): number => tf.memory().numTensors;

/** How many tensors `work` leaves behind. */
export async function tensorsLeftBy(work: () => unknown): Promise<number> {
  const before = numTensors();
  await work();
  return numTensors() - before;
}

/** max |actual - expected| / max |expected|; NaN when anything is NaN. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return NaN;
  let [worst, size] = [0, 1e-30];
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return worst / size;
}

export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  const error = relativeError(actual, expected);
  expect(error, `relative error ${error}`).toBeLessThanOrEqual(tolerance);
}

/** A tensor as the float64 reference sees it. */
export const fromTensor = (tensor: tf.Tensor): Matrix =>
  matrix(matrixShape(tensor.shape), tensor.dataSync() as Float32Array);

export const toTensor = (m: Matrix): tf.Tensor2D => {
  const [rows, columns] = m.shape as [number, number];
  const numbers = Array.from({length: rows * columns}, (_, i) => m.get(Math.floor(i / columns), i % columns));
  return tf.tensor2d(numbers, [rows, columns]);
};

/** The folder of real data sets and models, which is not part of the project; null where it is not there. */
export function dataFolder(): string | null {
  const folder =
    process.env['TFJS_LORA_DATA'] ?? fileURLToPath(new URL('../../shared/data', import.meta.url));
  return existsSync(folder) ? folder : null;
}
