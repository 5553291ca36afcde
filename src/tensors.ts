import type {Scalar, Tensor, TensorContainer} from '@tensorflow/tfjs-core';
import {addN, engine, mul, reshape, square, sum, tidy, Variable} from '@tensorflow/tfjs-core';
import {joined} from './pack.js';

/** Tensors by name. */
export type Named = Readonly<Record<string, Tensor>>;

/** `tf.tidy` for any shape of result; tensors anywhere in it survive. */
export function tidied<T>(compute: () => T): T {
  return tidy(() => compute() as TensorContainer) as T;
}

export function mapValues<T, U>(
  record: Readonly<Record<string, T>>,
  change: (value: T, key: string) => U,
): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value, key)]));
}

export function isEmpty(record: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(record).length === 0;
}

/**
 * A reshape with data of its own. tfjs's reshape shares the data, and the wasm backend remembers the shape that data
 * was made in: its fused matMul refuses a bias that was made as a matrix.
 */
export function reshaped(tensor: Tensor, shape: number[]): Tensor {
  return String(tensor.shape) === String(shape) ? tensor : mul(reshape(tensor, shape), 1);
}

/** New handles on the same data. */
export const clones = (tensors: Named): Record<string, Tensor> =>
  mapValues(tensors, tensor => tensor.clone());

/** Sum of the squares of all their numbers, in few launches where the tensors are small. */
export function sumOfSquares(tensors: readonly Tensor[]): Scalar {
  const sums = joined(tensors).map(tensor => sum(square(tensor)) as Scalar);
  return sums.length === 1 ? sums[0]! : (addN(sums) as Scalar);
}

/** Whether a variable was disposed: `isDisposed` stays false after `tf.disposeVariables()`. */
export function isGone(tensor: Tensor): boolean {
  return tensor instanceof Variable && engine().registeredVariables[tensor.name] !== tensor;
}
