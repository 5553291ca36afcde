import type {Optimizer} from '@tensorflow/tfjs-core';
import {expectOptimizer} from '../adapter/expect-optimizer.js';
import {expectWeights} from '../adapter/expect.js';
import type {WeightsOf} from '../adapter/paths.js';
import type {CompiledModel} from '../adapter/save.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {errorOf} from '../adapter/untrusted.js';

/** What a checkpoint is of: one of our optimizers, or a model of tfjs-layers that was compiled with one. */
export type CheckpointSource = Optimizer | CompiledModel;

/** The optimizer, and the model where it is known. Throws where the optimizer is none of ours. */
export function partsOf(
  where: string,
  source: CheckpointSource,
  given?: WeightsOf,
): {optimizer: ProjectedOptimizer; model: WeightsOf | undefined} {
  const isModel = source !== null && typeof source === 'object' && 'layers' in source;
  const optimizer: unknown = isModel ? source.optimizer : source;
  if (isModel && !optimizer) {
    throw new TypeError(
      `${where}: the model was not compiled: compile it with an optimizer of tfjs-lora, or give the optimizer and {model}`,
    );
  }
  expectOptimizer(where, optimizer);
  if (given !== undefined) expectWeights(`${where}: model`, given);
  return {optimizer, model: given ?? (isModel ? source : undefined)};
}

/** A checkpoint is a folder, or an entry of a browser's store; `.safetensors` is for adapters. */
export function expectNoAdapter(where: string, address: unknown): void {
  if (typeof address !== 'string' || !/\.safetensors$/.test(address)) return;
  throw errorOf(
    `${where}: ${address} is an address for an adapter (saveAdapter, loadAdapter), which holds no moments and no ` +
      'counters. A checkpoint is a folder: give an address without the ending',
  );
}
