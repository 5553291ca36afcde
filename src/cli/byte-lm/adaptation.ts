/** Trains a byte-level model on a text, one step after another. */
import * as tf from '@tensorflow/tfjs';
import {seededRandom} from '../random.js';
import {type LoopOptions, minimized, type Training, trainingLoop} from '../training-loop.js';
import {randomBatch} from './batch.js';
import {contextLength, crossEntropy, trainableVariables} from './model.js';

export interface AdaptationOptions extends Pick<LoopOptions, 'steps' | 'onStep' | 'signal'> {
  seed: number;
  /** Windows in a step (8). */
  batch?: number;
  /** Bytes predicted in a window (128). */
  context?: number;
}

/** Trains `model` with `optimizer` on random windows of `text`; losses are bits per byte. */
export async function adaptation(
  model: tf.LayersModel,
  optimizer: tf.Optimizer,
  text: Uint8Array,
  {seed, batch = 8, context = contextLength, ...loop}: AdaptationOptions,
): Promise<Training> {
  const random = seededRandom(seed);
  const variables = trainableVariables(model);
  const takeStep = async () => {
    const {bytes, next} = randomBatch(text, batch, context, random);
    const cost = () => crossEntropy(next, model.apply(bytes, {training: true}) as tf.Tensor);
    try {
      return (await minimized(optimizer, cost, variables)) / Math.LN2;
    } finally {
      tf.dispose([bytes, next]);
    }
  };
  return trainingLoop(takeStep, {...loop, tokens: batch * context});
}
