import type {Scalar, Tensor, TensorContainer} from '@tensorflow/tfjs-core';
import {addN, square, sum, tidy} from '@tensorflow/tfjs-core';

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

export const sumOfSquares = (tensors: Named): Scalar =>
  addN(Object.values(tensors).map(tensor => sum(square(tensor)))) as Scalar;
