import * as tf from '@tensorflow/tfjs';
import type {Task} from './task.js';

/** Keeps a probability of 0 from an infinite loss. */
const least = 1e-7;

/**
 * What is made small, the mean over a batch: `-log p` of the right class (p + 1e-7 but for logits, in nats), or the mean squared error of
 * all outputs.
 *
 * @param targets a class for each example, or a number for each output
 */
export function lossOf(task: Task, outputs: tf.Tensor, targets: Float32Array): tf.Scalar {
  return tf.tidy((): tf.Tensor => {
    const [size, units] = outputs.shape as [number, number];
    if (task.kind === 'numbers') {
      return tf.mean(tf.squaredDifference(outputs, tf.tensor2d(targets, [size, units])));
    }
    if (task.outputs === 'probability') {
      const isSecond = tf.tensor2d(targets, [size, 1]);
      // p of the second class, 1 - p of the first: 1 - y + (2 y - 1) p.
      const right = tf.add(tf.sub(1, isSecond), tf.mul(tf.sub(tf.mul(2, isSecond), 1), outputs));
      return tf.neg(tf.mean(tf.log(tf.add(right, least))));
    }
    const isRight = tf.oneHot(tf.tensor1d(Int32Array.from(targets), 'int32'), units).toFloat();
    const logs = task.outputs === 'logits' ? tf.logSoftmax(outputs) : tf.log(tf.add(outputs, least));
    return tf.neg(tf.div(tf.sum(tf.mul(isRight, logs)), size));
  }) as tf.Scalar;
}
