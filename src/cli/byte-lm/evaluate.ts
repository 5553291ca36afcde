import {setImmediate} from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs';
import {contextLength, crossEntropy} from './model.js';

export interface EvaluateOptions {
  /** How many windows to read at most (64). */
  windows?: number;
  /** Bytes predicted in a window (128). */
  context?: number;
  /** Windows in one pass of the model (8). */
  batch?: number;
  /** Ends the evaluation by an AbortError when it is aborted. */
  signal?: AbortSignal;
}

/**
 * How well a model predicts a text: its mean loss in bits per byte over windows spread evenly over the
 * text, the same ones at every call. Each byte is predicted from those before it in its window.
 * @param bytes at least two
 */
export async function bitsPerByte(
  model: tf.LayersModel,
  bytes: Uint8Array,
  {windows = 64, context = contextLength, batch = 8, signal}: EvaluateOptions = {},
): Promise<number> {
  const length = Math.min(context, bytes.length - 1);
  if (length < 1) throw new RangeError('bits per byte needs a text of two bytes or more');
  const count = Math.min(windows, Math.floor((bytes.length - 1) / length));
  const startOf = (i: number) => Math.floor((i * (bytes.length - 1 - length)) / Math.max(count - 1, 1));
  let nats = 0;
  for (let first = 0; first < count; first += batch) {
    const rows = Math.min(batch, count - first);
    const cut = (shift: number) => {
      const part = new Int32Array(rows * length);
      for (let i = 0; i < rows; i++) {
        const start = startOf(first + i) + shift;
        part.set(bytes.subarray(start, start + length), i * length);
      }
      return tf.tensor2d(part, [rows, length], 'int32');
    };
    const loss = tf.tidy(() => crossEntropy(cut(1), model.apply(cut(0)) as tf.Tensor));
    nats += (await loss.data())[0]! * rows;
    loss.dispose();
    // Lets signals such as Ctrl-C be seen: nothing above waits for anything.
    await setImmediate();
    signal?.throwIfAborted();
  }
  return nats / count / Math.LN2;
}
