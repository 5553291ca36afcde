import {io, type Optimizer} from '@tensorflow/tfjs-core';
import {expectOptions} from '../options.js';
import type {Adapter} from './adapter.js';
import {adapterOf} from './adapter-of.js';
import {fromArtifacts, toArtifacts} from './artifacts.js';
import {expectWeights} from './expect.js';
import {filePath, node} from './file-system.js';
import {decodeAdapter, encodeAdapter} from './format.js';
import {given, isAdapter} from './given.js';
import {ioHandler} from './io.js';
import type {LayerLike, WeightsOf} from './paths.js';
import {errorOf, isRecord} from './untrusted.js';
import {withWeightData} from './weight-stream.js';
import {writeWhole} from './whole-file.js';

/** A model of tfjs-layers that was compiled with one of our optimizers. */
export interface CompiledModel extends LayerLike {
  readonly optimizer: unknown;
}

export interface SaveAdapterOptions {
  /**
   * What the weights are called by, when an optimizer is saved: a model, variables, or variables by path. Default: the
   * variables' own names.
   */
  readonly model?: WeightsOf;
  /** Whatever shall be kept with it; text by name. Added to what an adapter has already. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Saves what one training added to a model, without the model.
 *
 *     await saveAdapter(model, 'indexeddb://my-adapter')
 *     await saveAdapter(optimizer, 'file://adapter.safetensors', {model})
 *
 * An address that begins with `file://` and ends in `.safetensors` is one file, written whole or not at all. All others
 * go to tfjs: `localstorage://`, `indexeddb://`, `downloads://`, `http(s)://`, `file://` for a folder, and what a program
 * registered itself. What is stored there is in tfjs's own form, which `tf.io.listModels`, `copyModel` and `removeModel`
 * know; to load it as a model is refused by tfjs.
 *
 * @param source An adapter, a `ProjectedOptimizer`, or a model that was compiled with one.
 * @param destination An address, or a `tf.io.IOHandler`.
 * @returns What the handler tells, as `model.save()` does.
 * @throws Before anything is written: when nothing was trained yet, weights were refreshed (see `extractAdapter`), or the
 *     adapter could not be read again.
 */
export async function saveAdapter(
  source: Adapter | Optimizer | CompiledModel,
  destination: string | io.IOHandler,
  options: SaveAdapterOptions = {},
): Promise<io.SaveResult> {
  expectOptions('saveAdapter', options, ['model', 'metadata']);
  if (options.model !== undefined) expectWeights('saveAdapter: model', options.model);
  const adapter = await adapterFrom(source, options);
  if (typeof destination === 'string' && isSafetensors(destination) && destination.startsWith('file://')) {
    await writeWhole(filePath(destination), encodeAdapter(adapter));
    return {modelArtifactsInfo: io.getModelArtifactsInfoForJSON(toArtifacts(adapter))};
  }
  if (typeof destination === 'string' && isSafetensors(destination)) {
    throw errorOf(
      `saveAdapter: only file:// writes a single .safetensors file, not '${destination}': leave the ending away, or ` +
        'store the bytes that encodeAdapter(adapter) gives yourself',
    );
  }
  const handler = ioHandler(destination, 'save');
  if (typeof destination === 'string') await expectNoModel(destination);
  return handler.save!(toArtifacts(adapter));
}

/**
 * Reads an adapter that `saveAdapter` wrote, in either form; nothing to dispose, nothing is merged (see `mergeAdapter`).
 *
 * @param source An address; a `tf.io.IOHandler`; or the bytes of a `.safetensors` file. An address that ends in
 *     `.safetensors` is one file, read from disk with `file://` and fetched with `http(s)://`.
 * @throws One line that says what is wrong, with which weight, in which part of the file.
 */
export async function readAdapter(
  source: string | io.IOHandler | Uint8Array | ArrayBuffer,
): Promise<Adapter> {
  const bytes = await bytesOf(source);
  if (bytes) return decodeAdapter(bytes);
  const handler = ioHandler(source as string | io.IOHandler, 'load');
  return fromArtifacts(await withWeightData('not a readable adapter', await handler.load!()));
}

/** Stores keep models and adapters under one kind of name: a model must not be lost by one. */
async function expectNoModel(address: string): Promise<void> {
  if (!/^(file|indexeddb|localstorage):/.test(address)) return;
  let format: string | undefined;
  try {
    const there = await ioHandler(address, 'load').load!();
    if (isRecord(there.userDefinedMetadata) && 'tfjsLora' in there.userDefinedMetadata) return;
    format = there.format ?? 'layers-model';
  } catch {
    // Nothing is there, or nothing that could be used.
    return;
  }
  throw errorOf(
    `saveAdapter: there is a model at ${address} (${format}), and it would be lost: take another address, or remove ` +
      'it first (tf.io.removeModel, or the folder)',
  );
}

async function adapterFrom(
  source: Adapter | Optimizer | CompiledModel,
  {model, metadata}: SaveAdapterOptions,
): Promise<Adapter> {
  if (isOptimizer(source)) return adapterOf(source, model, metadata ? {metadata} : {});
  if (isRecord(source) && 'optimizer' in source) {
    const {optimizer} = source;
    if (!isOptimizer(optimizer)) {
      throw new TypeError(
        'saveAdapter: this model was not compiled with an optimizer of tfjs-lora, so there is no adapter: compile it ' +
          'with loraAdam(…) or projected(…), or pass the optimizer you trained with and {model}',
      );
    }
    return adapterOf(optimizer, model ?? (source as CompiledModel), metadata ? {metadata} : {});
  }
  if (isAdapter(source)) return metadata ? {...source, metadata: {...source.metadata, ...metadata}} : source;
  const {kind, words} = given(source);
  throw new TypeError(
    `saveAdapter: the source must be an adapter, a ProjectedOptimizer, or a model compiled with one, and this is ${words}` +
      (kind === 'promise' ? ': await it first' : ''),
  );
}

const isOptimizer = (source: unknown): source is Optimizer =>
  isRecord(source) && 'attached' in source && typeof source['explain'] === 'function';

const isSafetensors = (address: string) => /\.safetensors(?:[?#].*)?$/i.test(address);

/** The bytes of a single file, or null for what tfjs loads. */
async function bytesOf(source: unknown): Promise<Uint8Array | null> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof source !== 'string' || !isSafetensors(source)) return null;
  if (source.startsWith('file://')) {
    return node()
      .fs.readFile(filePath(source))
      .catch((error: Error) => {
        throw errorOf(`readAdapter: ${source} cannot be read: ${error.message}`, {cause: error});
      });
  }
  if (!/^https?:\/\//.test(source)) return null;
  const response = await fetch(source).catch((error: Error) => {
    throw errorOf(`readAdapter: ${source} cannot be fetched: ${error.message}`, {cause: error});
  });
  if (!response.ok) throw errorOf(`readAdapter: ${source} answers ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}
