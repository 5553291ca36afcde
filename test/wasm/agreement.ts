/** Checking the wasm backend against the cpu backend. */
import * as tf from '@tensorflow/tfjs';
import {expect} from 'vitest';

export type Build = () => tf.Tensor | tf.Tensor[];

/** The values `build` gives on a backend, and how many data it left there; the current backend is wasm afterwards. */
export async function on(backend: 'cpu' | 'wasm', build: Build): Promise<number[][]> {
  await tf.setBackend(backend);
  const before = {...tf.memory(), dataIds: tf.backend().numDataIds()};
  const tensors = [tf.tidy(build)].flat();
  const values = tensors.map(tensor => [...tensor.dataSync()]);
  tf.dispose(tensors);
  const after = {...tf.memory(), dataIds: tf.backend().numDataIds()};
  await tf.setBackend('wasm');
  expect(after.numTensors, 'tensors left behind').toBe(before.numTensors);
  expect(after.numDataBuffers, 'data left behind').toBe(before.numDataBuffers);
  expect(after.dataIds, 'data ids left behind').toBe(before.dataIds);
  return values;
}

/** That numbers agree, relative to the largest of each list (or to 1, if that is more). */
export function expectClose(actual: number[][], expected: number[][], tolerance: number): void {
  expect(actual.map(list => list.length)).toEqual(expected.map(list => list.length));
  actual.forEach((list, i) => {
    const largest = Math.max(1, ...expected[i]!.map(Math.abs));
    const errors = list.map((value, j) => Math.abs(value - expected[i]![j]!) / largest);
    // The comparison is this way round so that NaN fails.
    const worst = errors.find(error => !(error <= tolerance));
    expect(worst, `relative error in list ${i}`).toBeUndefined();
  });
}

/** That `build` gives the same on wasm as on cpu, and leaves no tensor or data behind. */
export async function expectAgreement(build: Build, tolerance = 1e-5): Promise<void> {
  const expected = await on('cpu', build);
  expectClose(await on('wasm', build), expected, tolerance);
}

/** Fixed normal numbers in any shape. */
export function filled(shape: number[], seed: number): tf.Tensor {
  return tf.randomNormal(shape, 0, 1, 'float32', seed);
}

/** The gradients of the sum of `f`'s numbers, each times a fixed number, at `inputs`. */
export function gradients(f: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[]): tf.Tensor[] {
  const weighted = (...xs: tf.Tensor[]) => {
    const y = f(...xs);
    return tf.sum(tf.mul(y, filled(y.shape, 99))) as tf.Scalar;
  };
  return tf.grads(weighted)(inputs);
}
