/** What lies at a path: an adapter in any of its forms, a checkpoint, a model, or factors of someone else's. */
import {existsSync, readFileSync, statSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import type {io} from '@tensorflow/tfjs-core';
import type {Adapter} from '../adapter/adapter.js';
import {fromArtifacts} from '../adapter/artifacts.js';
import {type Described, describeSafetensors} from '../adapter/describe.js';
import {nodeFiles} from '../adapter/files.js';
import {decodeAdapter} from '../adapter/format.js';
import {fromKeras} from '../adapter/keras.js';
import {fromPeft, type FromPeftOptions} from '../adapter/peft/from-peft.js';
import {openSafetensors} from '../adapter/safetensors.js';
import {type Contents, fromArtifacts as checkpointFrom} from '../resume/contents.js';
import {UsageError} from './usage-error.js';

export type Source = {readonly path: string; readonly bytes: number} & (
  | {
      readonly kind: 'adapter';
      readonly form: 'tfjs-lora' | 'tfjs' | 'PEFT' | 'Keras';
      readonly adapter: Adapter;
    }
  | {readonly kind: 'model'; readonly artifacts: io.ModelArtifacts}
  | {readonly kind: 'checkpoint'; readonly contents: Contents}
  | {readonly kind: 'factors'; readonly described: Described}
);

const PEFT_CONFIG = 'adapter_config.json';
const PEFT_WEIGHTS = 'adapter_model.safetensors';

/**
 * Reads a file or folder for what it is: `.safetensors`, a folder of PEFT, a run of `tfjs-lora adapt`, or a `model.json`
 * with its weights (a model, an adapter or a checkpoint).
 * @param peft how names of PEFT are read
 * @throws UsageError for what is missing, damaged or none of these
 */
export async function readSource(given: string, peft: FromPeftOptions = {}): Promise<Source> {
  const path = given.replace(/^file:\/\//, '');
  if (!existsSync(path)) throw new UsageError(`there is nothing at ${path}`);
  try {
    const isFolder = statSync(path).isDirectory();
    if (!isFolder && path.endsWith('.safetensors')) return readSafetensors(path, peft);
    if (!isFolder && basename(path) === PEFT_CONFIG) return readPeft(dirname(path), peft);
    if (isFolder && existsSync(join(path, PEFT_CONFIG))) return readPeft(path, peft);
    if (isFolder && existsSync(join(path, 'adapter.safetensors'))) {
      return readSafetensors(join(path, 'adapter.safetensors'), peft);
    }
    if (isFolder && !existsSync(join(path, 'model.json'))) {
      throw new UsageError(
        `${path} holds neither model.json nor adapter.safetensors nor ${PEFT_CONFIG}: name the file`,
      );
    }
    if (!isFolder && !path.endsWith('.json')) {
      throw new UsageError(`${path} is neither .safetensors nor a model.json: what is it?`);
    }
    return await readArtifacts(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** @throws UsageError for anything but an adapter */
export async function readAdapterAt(
  path: string,
  peft: FromPeftOptions = {},
): Promise<Source & {kind: 'adapter'}> {
  const source = await readSource(path, peft);
  if (source.kind === 'adapter') return source;
  const what = {
    model: 'a model',
    checkpoint: 'a checkpoint of a training',
    factors: 'factors in a naming that is not known: `inspect` describes them',
  }[source.kind];
  throw new UsageError(`${path} is no adapter but ${what}`);
}

/** @throws UsageError for anything but a model */
export async function readModelAt(path: string): Promise<Source & {kind: 'model'}> {
  const source = await readSource(path);
  if (source.kind === 'model') return source;
  throw new UsageError(`${path} is no model but ${source.kind === 'adapter' ? 'an adapter' : source.kind}`);
}

function readSafetensors(path: string, peft: FromPeftOptions): Source {
  const bytes = readFileSync(path);
  const common = {path, bytes: bytes.length};
  const {metadata, entries} = openSafetensors(bytes);
  if (metadata['format'] === 'tfjs-lora') {
    return {...common, kind: 'adapter', form: 'tfjs-lora', adapter: decodeAdapter(bytes)};
  }
  if (basename(path) === PEFT_WEIGHTS && existsSync(join(dirname(path), PEFT_CONFIG))) {
    return readPeft(dirname(path), peft);
  }
  const isKeras = entries.some(({name}) => /\/lora_(kernel|embeddings)_a$/.test(name));
  if (isKeras && 'layers' in metadata) {
    return {...common, kind: 'adapter', form: 'Keras', adapter: fromKeras(bytes)};
  }
  return {...common, kind: 'factors', described: describeSafetensors(bytes)};
}

function readPeft(folder: string, options: FromPeftOptions): Source {
  const file = join(folder, PEFT_WEIGHTS);
  if (!existsSync(file)) throw new UsageError(`${folder} has ${PEFT_CONFIG} and no ${PEFT_WEIGHTS}`);
  const [config, weights] = [readFileSync(join(folder, PEFT_CONFIG), 'utf8'), readFileSync(file)];
  const bytes = weights.length + config.length;
  return {path: folder, bytes, kind: 'adapter', form: 'PEFT', adapter: fromPeft({config, weights}, options)};
}

async function readArtifacts(path: string): Promise<Source> {
  const artifacts = await nodeFiles(path).load!();
  const data = [artifacts.weightData ?? []].flat();
  const bytes = data.reduce((sum, {byteLength}) => sum + byteLength, 0);
  const user = artifacts.userDefinedMetadata ?? {};
  if ('tfjs-lora-checkpoint' in user) {
    return {path, bytes, kind: 'checkpoint', contents: checkpointFrom(path, artifacts).contents};
  }
  if ('tfjsLora' in user || artifacts.format === 'tfjs-lora') {
    return {path, bytes, kind: 'adapter', form: 'tfjs', adapter: fromArtifacts(artifacts)};
  }
  if (!artifacts.modelTopology)
    throw new UsageError(`${path} is JSON, and no model: it has no modelTopology`);
  return {path, bytes, kind: 'model', artifacts};
}
