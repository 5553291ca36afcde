import {Variable} from '@tensorflow/tfjs-core';
import type {Adapter} from './adapter.js';
import {given, isAdapter, type Kind} from './given.js';
import type {WeightsOf} from './paths.js';
import {visible} from './untrusted.js';

type Fixes = Partial<Record<Kind, string>> & {readonly other: string};

function refuse(where: string, what: string, value: unknown, fixes: Fixes): never {
  const {kind, words} = given(value);
  throw new TypeError(visible(`${where}: ${what}, and this is ${words}: ${fixes[kind] ?? fixes.other}`));
}

const AWAIT = 'await it first';

/** Throws, in one line that names the call to make instead, unless this is an adapter. */
export function expectAdapter(where: string, value: unknown): asserts value is Adapter {
  if (isAdapter(value)) return;
  refuse(where, 'an adapter is needed', value, {
    promise: AWAIT,
    model: 'await adapterOf(model.optimizer, model) gives that of a trained model',
    optimizer: 'await adapterOf(optimizer, model) gives what it trained',
    text: 'await readAdapter(address) reads one',
    handler: 'await readAdapter(handler) reads one',
    bytes: 'await readAdapter(bytes) reads one',
    'peft files': 'fromPeft({config, weights}) reads them',
    extracted: 'give its .adapter',
    list: 'one at a time; combine([{adapter, weight}, …]) makes one of several',
    other: 'readAdapter, adapterOf, extractAdapter and fromPeft give one',
  });
}

/** Throws, in one line that names the call to make instead, unless this may be a model or variables. */
export function expectWeights(where: string, value: unknown): asserts value is WeightsOf {
  if (Array.isArray(value)) {
    const index = value.findIndex(each => !(each instanceof Variable));
    if (index < 0) return;
    const each: unknown = value[index];
    return refuse(where, `a list must be of tf.Variables, and its item ${index} is none`, each, {
      ...MODEL,
      other:
        typeof (each as {read?: unknown} | null)?.read === 'function'
          ? 'give the model itself, or variables, weights.map(weight => weight.read())'
          : 'tf.variable(tensor) makes one',
    });
  }
  const {kind} = given(value);
  if (kind === 'model') return;
  if (kind === 'object') {
    for (const [path, each] of Object.entries(value as object) as [string, unknown][]) {
      if (!(each instanceof Variable)) refuse(where, `${path} must be a tf.Variable`, each, MODEL);
    }
    return;
  }
  refuse(where, 'a model is needed, or its variables', value, MODEL);
}

const MODEL: Fixes = {
  promise: AWAIT,
  adapter: 'give the model that the adapter is for',
  optimizer: 'give the model that it trains',
  GraphModel: 'trainableGraphModel(model).variables are weights that can change',
  trainable: 'give its .variables',
  text: 'await tf.loadLayersModel(address) loads one',
  variable: 'give it in a list, [variable], or by path, {path: variable}',
  other: 'give a model of tfjs-layers, a list of tf.Variables, or {path: variable}',
};

/** Throws unless these are bytes, as `Uint8Array` (a Buffer of Node is one). */
export function expectBytes(where: string, value: unknown): asserts value is Uint8Array {
  if (value instanceof Uint8Array) return;
  refuse(where, 'the bytes of a file are needed, as a Uint8Array', value, {
    promise: AWAIT,
    bytes: 'new Uint8Array(buffer) has the same bytes',
    text: 'read the file first, await readFile(path)',
    other: 'await readFile(path) gives them, and new Uint8Array(await response.arrayBuffer())',
  });
}

/** Throws unless this is an address, or something that loads or saves by itself. */
export function expectPlace(direction: 'save' | 'load', value: unknown): void {
  const {kind, words} = given(value);
  if (kind === 'text') return;
  const isHandler = kind === 'handler';
  if (isHandler && typeof (value as Record<string, unknown>)[direction] === 'function') return;
  throw new TypeError(
    `to ${direction} there must be an address such as 'indexeddb://name', or a tf.io.IOHandler with ${direction}(), not ` +
      (isHandler ? `one without ${direction}()` : words),
  );
}
