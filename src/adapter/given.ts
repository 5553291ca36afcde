import {Tensor, Variable} from '@tensorflow/tfjs-core';
import type {Adapter} from './adapter.js';
import {isRecord, quote} from './untrusted.js';

/** What kinds of things get into each other's places. */
export type Kind =
  | 'adapter'
  | 'bytes'
  | 'extracted'
  | 'GraphModel'
  | 'handler'
  | 'list'
  | 'model'
  | 'object'
  | 'optimizer'
  | 'peft files'
  | 'promise'
  | 'text'
  | 'trainable'
  | 'variable'
  | 'other';

/** What a value is, as far as it is one of the things this library deals in, and how to say that. */
export function given(value: unknown): {readonly kind: Kind; readonly words: string} {
  if (typeof value === 'string') return {kind: 'text', words: quote(value)};
  if (typeof value === 'function') return {kind: 'other', words: 'a function'};
  if (typeof value !== 'object' || value === null) return {kind: 'other', words: String(value)};
  if (Array.isArray(value)) return {kind: 'list', words: `a list of ${value.length}`};
  if (value instanceof Variable) return {kind: 'variable', words: `a tf.Variable [${value.shape}]`};
  if (value instanceof Tensor) return {kind: 'other', words: `a tensor [${value.shape}]`};
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    const name = value instanceof Uint8Array ? 'Uint8Array' : (value[Symbol.toStringTag as never] as string);
    return {kind: 'bytes', words: `a ${name} of ${value.byteLength} bytes`};
  }
  const known = KINDS.find(({is}) => is(value as Record<string, unknown>));
  return known ? {kind: known.kind, words: known.words} : {kind: 'object', words: keysOf(value)};
}

/** An adapter, by what every adapter has. */
export const isAdapter = (value: unknown): value is Adapter =>
  isRecord(value) && Array.isArray(value['weights']) && typeof value['generatedBy'] === 'string';

const has = (value: Record<string, unknown>, ...methods: string[]) =>
  methods.every(name => typeof value[name] === 'function');

/** Asked in this order: models have a `save` as handlers do. */
const KINDS: readonly {kind: Kind; words: string; is(value: Record<string, unknown>): boolean}[] = [
  {kind: 'promise', words: 'a Promise that was not awaited', is: value => has(value, 'then')},
  {kind: 'adapter', words: 'an adapter', is: isAdapter},
  {kind: 'optimizer', words: 'an optimizer', is: value => has(value, 'applyGradients')},
  {
    kind: 'GraphModel',
    words: 'a GraphModel',
    is: value => has(value, 'predict', 'execute') && !value['layers'],
  },
  {
    kind: 'model',
    words: 'a model',
    is: value => Array.isArray(value['weights']) && typeof value['name'] === 'string',
  },
  {
    kind: 'trainable',
    words: 'what trainableGraphModel gives',
    is: value => has(value, 'restore', 'predict') && isRecord(value['variables']),
  },
  {kind: 'peft files', words: 'the files of toPeft', is: value => 'adapter_config.json' in value},
  {
    kind: 'extracted',
    words: 'what extractAdapter gives',
    is: value => isAdapter(value['adapter']) && 'certificates' in value,
  },
  {kind: 'other', words: 'an AdapterSet', is: value => has(value, 'use', 'add', 'remove')},
  {kind: 'other', words: 'what checkpoints(…) gives', is: value => has(value, 'step', 'save', 'onBatchEnd')},
  {kind: 'other', words: 'a Map', is: value => value instanceof Map},
  {kind: 'handler', words: 'a tf.io.IOHandler', is: value => has(value, 'load') || has(value, 'save')},
];

function keysOf(value: object): string {
  const keys = Object.keys(value);
  if (keys.length === 0) return 'an object without properties';
  return `an object with ${keys.slice(0, 3).map(quote).join(', ')}${keys.length > 3 ? ', …' : ''}`;
}
