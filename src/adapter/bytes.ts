import type {Tensor, Tensor2D, Variable} from '@tensorflow/tfjs-core';
import {dispose, reshape, tensor, tidy} from '@tensorflow/tfjs-core';
import * as calculus from '../calculus.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import type {Parametrization} from '../parametrization.js';
import {fromJson, toJson} from '../recipe.js';
import {matrixShape, plainName} from '../targets.js';
import {type Named, reshaped} from '../tensors.js';
import {decodeSafetensors, encodeSafetensors, type Float32Entry} from './safetensors.js';

/**
 * An adapter file: what one training added to a model, without the model. Safetensors, a tensor per factor under
 * `<weight>/<factor>`; the metadata says how each weight's factors make its change.
 */
interface Layout {
  weights: {
    name: string;
    shape: readonly number[];
    /** Null for a weight that was trained as it is: then its tensor is the weight itself. */
    parametrization: unknown;
    factors: readonly string[];
    frozen: readonly string[];
  }[];
}

/** The adapter of what an optimizer has trained so far. Reads the factors asynchronously. */
export async function encodeAdapter(optimizer: ProjectedOptimizer): Promise<Uint8Array> {
  const tensors = new Map<string, Float32Entry>();
  const layout: Layout = {weights: []};
  for (const {weight, name, parametrization, factors, frozen, refreshed} of optimizer.attached) {
    if (refreshed) {
      throw new Error(
        `${name} was refreshed: its factors hold only what it learned since, so they are no adapter`,
      );
    }
    const [keys, constants] = [Object.keys(factors), Object.keys(frozen)];
    layout.weights.push({
      name,
      shape: weight.shape,
      parametrization: parametrization && toJson(parametrization),
      factors: keys,
      frozen: constants,
    });
    for (const [key, value] of [...Object.entries(factors), ...Object.entries(frozen)]) {
      tensors.set(`${name}/${key}`, {shape: value.shape, values: (await value.data()) as Float32Array});
    }
  }
  if (layout.weights.length === 0) throw new Error('nothing was trained yet, so there is no adapter');
  return encodeSafetensors({
    tensors,
    metadata: {format: 'tfjs-lora', version: '1', layout: JSON.stringify(layout)},
  });
}

/**
 * Merges an adapter into the weights of a model: W0 becomes W. All weights are checked before the first is changed.
 *
 * @param variables The model's, e.g. `model.weights.map(weight => weight.read())`.
 * @returns The names of the weights that were changed.
 */
export function mergeAdapterBytes(bytes: Uint8Array, variables: readonly Variable[]): string[] {
  const {tensors, metadata} = decodeSafetensors(bytes);
  if (metadata['format'] !== 'tfjs-lora' || metadata['version'] !== '1') {
    throw new Error('a safetensors file, but not an adapter of tfjs-lora version 1');
  }
  const {weights} = JSON.parse(metadata['layout'] ?? '{"weights":[]}') as Layout;
  const targets = weights.map(({name, shape}) => {
    const found = variables.find(v => v.name === name) ?? variables.find(v => plainName(v.name) === name);
    if (!found) throw new Error(`the adapter is for ${name} [${shape}], which this model does not have`);
    if (String(found.shape) === String(shape)) return found;
    throw new Error(`the adapter is for ${name} [${shape}], and the model's is [${found.shape}]`);
  });
  const merged: Tensor[] = [];
  try {
    weights.forEach(({name, parametrization, factors, frozen}, i) => {
      const read = (keys: readonly string[]) =>
        Object.fromEntries(
          keys.map(key => {
            const entry = tensors.get(`${name}/${key}`);
            if (!entry) throw new Error(`the adapter has no ${name}/${key}`);
            return [key, tensor(entry.values, [...entry.shape], 'float32')];
          }),
        );
      merged.push(tidy(() => mergedWeight(targets[i]!, parametrization, read(factors), read(frozen))));
    });
    targets.forEach((target, i) => target.assign(merged[i]!));
  } finally {
    dispose(merged);
  }
  return targets.map(({name}) => name);
}

function mergedWeight(weight: Variable, json: unknown, factors: Named, frozen: Named): Tensor {
  if (json === null) return factors['weight']!.clone();
  const parametrization = fromJson(json, 'parametrization') as Parametrization;
  const base = reshape(weight, matrixShape(weight.shape)) as Tensor2D;
  return reshaped(calculus.weightAt(parametrization, {factors, frozen, base}), weight.shape);
}
