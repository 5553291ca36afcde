import * as tf from '@tensorflow/tfjs';
import {normal} from '../../src/index.js';

const init = (seed: number) => tf.initializers.glorotNormal({seed});

/** 6 -> 8 (tanh) -> 3: the kernels hold 48 and 24 numbers, so rank 2 saves something in both. */
export function mlp(name = 'mlp'): tf.Sequential {
  return tf.sequential({
    name,
    layers: [
      tf.layers.dense({
        name: 'hidden',
        inputShape: [6],
        units: 8,
        activation: 'tanh',
        kernelInitializer: init(1),
      }),
      tf.layers.dense({name: 'out', units: 3, kernelInitializer: init(2)}),
    ],
  });
}

/** 16 rows for `mlp`. */
export const data = () => ({x: normal([16, 6], 11) as tf.Tensor2D, y: normal([16, 3], 12) as tf.Tensor2D});

/** One step through tfjs-layers; the loss. */
export async function step(model: tf.LayersModel, x: tf.Tensor, y: tf.Tensor): Promise<number> {
  return (await model.trainOnBatch(x, y)) as number;
}

export async function losses(model: tf.LayersModel, steps: number): Promise<number[]> {
  const {x, y} = data();
  const result: number[] = [];
  for (let i = 0; i < steps; i++) result.push(await step(model, x, y));
  tf.dispose([x, y]);
  return result;
}

/** Every weight of a model, by position. */
export const weightsOf = (model: tf.LayersModel): number[][] =>
  model.getWeights().map(w => Array.from(w.dataSync()));

export const variable = (model: tf.LayersModel, layer: string, index = 0): tf.Variable =>
  model.getLayer(layer).weights[index]!.read() as tf.Variable;

/** The numbers of a weight. */
export const kernel = (model: tf.LayersModel, layer: string): number[] =>
  Array.from(variable(model, layer).dataSync());
