import {createHash} from 'node:crypto';
import type * as tf from '@tensorflow/tfjs';

/** Tells apart weights that differ in a single bit. */
export function digestOfWeights(weights: readonly tf.Tensor[]): string {
  const hash = createHash('sha256');
  for (const weight of weights) {
    const values = weight.dataSync();
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex');
}
