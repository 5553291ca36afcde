import type {Scalar, Tensor, TensorContainer} from '@tensorflow/tfjs-core';
import {addN, engine, mul, reshape, square, sum, tidy, Variable} from '@tensorflow/tfjs-core';

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

/** New handles on the same data. */
export const clones = (tensors: Named): Record<string, Tensor> =>
  mapValues(tensors, tensor => tensor.clone());

/**
 * The numbers of a matrix in the shape of a weight, a new tensor for the weight to take over. Not by `reshape` alone: that shares
 * the data, and wasm's fused matMul asks a bias for the shape its data was made with.
 */
export const inShape = (matrix: Tensor, shape: readonly number[]): Tensor =>
  shape.length === 2 ? matrix.clone() : mul(reshape(matrix, [...shape]), 1);

export const sumOfSquares = (tensors: Named): Scalar =>
  addN(Object.values(tensors).map(tensor => sum(square(tensor)))) as Scalar;

/** Whether a variable was disposed: `isDisposed` stays false after `tf.disposeVariables()`. */
export function isGone(tensor: Tensor): boolean {
  return tensor instanceof Variable && engine().registeredVariables[tensor.name] !== tensor;
}
