import * as tf from '@tensorflow/tfjs';
import {randomWindows} from './corpus.js';

/**
 * A batch of random windows of a text: the bytes the model sees, and for each the byte that follows it.
 * Both int32 [count, length]; the caller disposes them. `random` gives numbers in [0, 1).
 */
export function randomBatch(
  text: Uint8Array,
  count: number,
  length: number,
  random: () => number,
): {bytes: tf.Tensor2D; next: tf.Tensor2D} {
  return tf.tidy(() => {
    const windows = tf.tensor2d(randomWindows(text, count, length + 1, random), [count, length + 1], 'int32');
    return {bytes: windows.slice([0, 0], [count, length]), next: windows.slice([0, 1], [count, length])};
  });
}
