/** What a LoRA run learned, as one file. */
import * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../optimizer.js';
import {decodeSafetensors, encodeSafetensors, type NamedArray} from './safetensors.js';

/**
 * The factors of every trained weight, as a safetensors file: `<weight>.a` [in, r] and `<weight>.b` [r, out]
 * for a weight that moved by `alpha / r * a b`, `<weight>.weight` for one that was trained whole.
 * The metadata hold the rank and alpha.
 */
export async function encodeAdapter(
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
  {rank, alpha}: {rank: number; alpha: number},
): Promise<Uint8Array> {
  const names = new Map(model.weights.map(weight => [weight.read().id, weight.originalName]));
  const trained = optimizer.explain(model, null).filter(row => row.treatment !== 'freeze');
  const variables = new Map(
    model.weights.map(weight => [(weight.read() as tf.Variable).name, weight.read()]),
  );
  const tensors: NamedArray[] = [];
  for (const {name} of trained) {
    for (const [factor, tensor] of Object.entries(optimizer.factors(name))) {
      const weight = names.get(variables.get(name)!.id)!;
      const values = (await tensor.data()) as Float32Array;
      tensors.push({name: `${weight}.${factor}`, shape: tensor.shape, values});
    }
  }
  return encodeSafetensors(tensors, {format: 'tfjs-lora', rank: String(rank), alpha: String(alpha)});
}

/**
 * Adds an adapter to the model it was trained on: every weight W becomes W + alpha / r * a b.
 * @param file what `encodeAdapter` gave
 * @throws Error if the model has no weight of that name
 */
export function mergeAdapter(model: tf.LayersModel, file: Uint8Array): void {
  const {tensors, metadata} = decodeSafetensors(file);
  const scale = Number(metadata['alpha']) / Number(metadata['rank']);
  const factors = new Map(tensors.map(tensor => [tensor.name, tensor]));
  const toTensor = ({values, shape}: NamedArray) => tf.tensor(values, shape);
  const weights = new Map(model.weights.map(weight => [weight.originalName, weight.read() as tf.Variable]));
  for (const [name, tensor] of factors) {
    const [, weightName, factor] = /^(.*)\.(\w+)$/.exec(name) ?? [];
    const weight = weights.get(weightName ?? '');
    if (weight === undefined) throw new Error(`the model has no weight for the adapter's ${name}`);
    if (factor === 'weight') tf.tidy(() => weight.assign(toTensor(tensor)));
    if (factor !== 'a') continue;
    tf.tidy(() => {
      const change = tf.matMul(toTensor(tensor), toTensor(factors.get(`${weightName}.b`)!)).mul(scale);
      weight.assign(weight.add(change.reshape(weight.shape)));
    });
  }
}
