import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, io, keep} from '@tensorflow/tfjs-core';
import {bindTo, expectBound, expectLiving} from '../adapter/adapter-of.js';
import {digest} from '../adapter/digest.js';
import {ioHandler} from '../adapter/io.js';
import {namedWeights, trainableOf, type WeightsOf} from '../adapter/paths.js';
import {Header, type NamedTensors, pack} from '../checkpoint.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {expectOptions} from '../options.js';
import {isGone} from '../tensors.js';
import {
  expectJson,
  MODEL,
  OPTIMIZER,
  type SavedModelWeight,
  type StillWeight,
  toArtifacts,
} from './contents.js';
import {type CheckpointSource, expectNoAdapter, partsOf} from './source.js';
import {errorOf} from '../adapter/untrusted.js';

export interface SaveCheckpointOptions {
  /**
   * The model, its variables, or variables by path. Default: the model that was given in place of an optimizer, else the
   * weights the optimizer trains.
   */
  model?: WeightsOf;
  /** Where the data stands, or whatever else a resumed run must know: any JSON value. Default null. */
  data?: unknown;
}

/**
 * Saves all that a run needs to go on as if it had not stopped: factors, frozen parts, moments, counters, gradients that
 * are being gathered, learning rates; the weights that are trained and those that are not trainable (statistics of
 * normalisation), bit for bit; and `data`. Of weights that nothing moves only a digest is kept, so that `loadCheckpoint`
 * finds out when they are others.
 *
 *     await saveCheckpoint(model, 'file://runs/checkpoint', {data: {epoch, batch}}); // a compiled model
 *     await saveCheckpoint(optimizer, 'file://runs/checkpoint', {model, data: {epoch, batch}});
 *
 * Everything is as it is at the call: training may go on before the promise is fulfilled. With `file://` under Node the
 * checkpoint appears whole or not at all, and the one before stays until then.
 *
 * @param source A model of tfjs-layers that was compiled with an optimizer of ours, or such an optimizer.
 * @param destination An address of any scheme tfjs knows, or a tf.io.IOHandler.
 * @throws Before anything is written: where a weight that is trained was disposed or is not in the model, and where the
 *     optimizer was loaded with the state of weights that it has not seen yet and no model is given.
 */
export async function saveCheckpoint(
  source: CheckpointSource,
  destination: string | io.IOHandler,
  options: SaveCheckpointOptions = {},
): Promise<io.SaveResult> {
  expectOptions('saveCheckpoint', options, ['model', 'data']);
  const {data = null} = options;
  expectNoAdapter('saveCheckpoint', destination);
  const {optimizer, model} = partsOf('saveCheckpoint', source, options.model);
  const handler = ioHandler(destination, 'save');
  expectJson('saveCheckpoint: data', data);
  // Up to the first await nothing else runs, so all of it is of one moment.
  const header = new Header();
  const handles: Tensor[] = [];
  const handleOf = (tensor: Tensor) => {
    handles.push(keep(tensor.clone()));
    return handles.at(-1)!;
  };
  try {
    expectLiving('saveCheckpoint', optimizer.attached);
    const named = model ? namedWeights(model) : attachedWeights(optimizer);
    expectNoneGone(named);
    if (model) bindTo(optimizer, model);
    expectBound('saveCheckpoint', optimizer, model !== undefined);
    const checkpoint = optimizer.checkpoint();
    const list: NamedTensors = pack(checkpoint, header).map(({name, tensor}) => ({
      name: OPTIMIZER + name,
      tensor: handleOf(tensor),
    }));
    const config = String(optimizer.getConfig()['name']);
    const trained = new Map(checkpoint.weights.map(({weight, gone}, i) => [gone ? '' : weight, i]));
    expectAllOf(optimizer, [...named.values()]);
    const chosen = trainableOf(model ?? [...named.values()]);
    const weights: SavedModelWeight[] = [];
    const still: Promise<StillWeight>[] = [];
    for (const [path, variable] of named) {
      const index = trained.get(variable.name) ?? null;
      const {shape} = variable;
      const trainable = chosen.has(variable);
      if (index === null && variable.trainable) {
        still.push(digestOf(variable, handleOf).then(known => ({path, shape, digest: known, trainable})));
      } else {
        weights.push({path, shape, trained: index, trainable});
        list.push({name: MODEL + path, tensor: handleOf(variable)});
      }
    }
    const frozen = Promise.all(still);
    frozen.catch(() => {}); // awaited below, unless something else fails first
    const {data: bytes, specs} = await io.encodeWeights(list);
    const contents = {
      version: 1,
      step: checkpoint.steps,
      config,
      weights,
      still: await frozen,
      isWhole: model !== undefined,
      data,
    } as const;
    return await handler.save!(toArtifacts(contents, specs, bytes));
  } finally {
    header.dispose();
    dispose(handles);
  }
}

/** The weights an optimizer trains, by the names they had when they were attached. */
export function attachedWeights(optimizer: ProjectedOptimizer): Map<string, Variable> {
  return new Map(
    optimizer.attached.filter(({weight}) => !isGone(weight)).map(({name, weight}) => [name, weight]),
  );
}

function expectNoneGone(named: ReadonlyMap<string, Variable>): void {
  for (const [path, variable] of named) {
    if (isGone(variable)) throw errorOf(`saveCheckpoint: the model's ${path} was disposed: save before that`);
  }
}

function expectAllOf(optimizer: ProjectedOptimizer, variables: readonly Variable[]): void {
  const left = [...attachedWeights(optimizer).values()].filter(weight => !variables.includes(weight));
  if (left.length === 0) return;
  throw errorOf(
    `saveCheckpoint: the optimizer trains ${left.map(({name}) => name).join(', ')}, which the model given does not ` +
      'have: pass the model that it trains, or all variables by path',
  );
}

/** Digests of numbers that have not changed since; assigning to a variable gives it other data. */
const digests = new WeakMap<object, Promise<string>>();

export function digestOf(variable: Variable, handleOf: (tensor: Tensor) => Tensor): Promise<string> {
  // That of the handle may be another: on wasm a clone is a copy.
  const {dataId} = variable;
  const known = digests.get(dataId);
  if (known) return known;
  const found = handleOf(variable)
    .data()
    .then(values => digest(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)));
  digests.set(dataId, found);
  found.catch(() => digests.delete(dataId));
  return found;
}
