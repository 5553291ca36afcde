import * as tf from '@tensorflow/tfjs';
import type {AdapterWeight, HostTensor} from '../../src/adapter/adapter.js';
import {fromJson} from '../../src/recipe.js';
import type {Parametrization} from '../../src/index.js';
import type {Json, Stored} from './damages.js';
import {tidied} from '../../src/tensors.js';
import {applied} from './learned.js';

/**
 * What files mean, read a second time without the library's readers: by the letter of the formats, and trusting. Null
 * where a file breaks a rule of its format, and so must not be read at all.
 */

export interface Container {
  readonly tensors: ReadonlyMap<string, HostTensor>;
  readonly metadata: Json;
}

const BYTES: Json = {F64: 8, F32: 4, I32: 4, F16: 2, BF16: 2};
const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
const sizeOf = (shape: readonly number[]) => shape.reduce((size, axis) => size * axis, 1);
const isPlain = (value: unknown): value is Json =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** A safetensors file; numbers of two or eight bytes are not read, only counted. */
export function readContainer(bytes: Uint8Array): Container | null {
  if (bytes.length < 8) return null;
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > bytes.length - 8) return null;
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(bytes.subarray(8, 8 + length)));
  } catch {
    return null;
  }
  if (!isPlain(header)) return null;
  const {__metadata__: metadata = {}, ...entries} = header;
  if (
    metadata !== null &&
    (!isPlain(metadata) || !Object.values(metadata).every(v => typeof v === 'string'))
  ) {
    return null;
  }
  const data = bytes.slice(8 + length);
  const all = Object.entries(entries) as [string, Json][];
  for (const [, entry] of all) {
    if (!isPlain(entry) || Object.keys(entry).sort().join() !== 'data_offsets,dtype,shape') return null;
    const {dtype, shape, data_offsets: offsets} = entry;
    if (typeof dtype !== 'string' || !Object.hasOwn(BYTES, dtype)) return null;
    if (!Array.isArray(shape) || !shape.every(isCount)) return null;
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) return null;
    if (offsets[1] - offsets[0] !== BYTES[dtype] * sizeOf(shape)) return null;
  }
  all.sort(
    ([, a], [, b]) =>
      a['data_offsets'][0] - b['data_offsets'][0] || a['data_offsets'][1] - b['data_offsets'][1],
  );
  let end = 0;
  for (const [, {data_offsets: offsets}] of all) {
    if (offsets[0] !== end) return null;
    end = offsets[1];
  }
  if (end !== data.length) return null;
  const tensors = all.map(([name, {dtype, shape, data_offsets: offsets}]) => {
    const {buffer} = data.slice(offsets[0], offsets[1]);
    const values = dtype === 'I32' ? new Int32Array(buffer) : new Float32Array(dtype === 'F32' ? buffer : []);
    return [name, {shape, values}] as const;
  });
  return {tensors: new Map(tensors), metadata: metadata ?? {}};
}

/** What tfjs stores, as far as an adapter may be made of it. */
export function readStored({weightSpecs, weightData, userDefinedMetadata}: Stored): Container | null {
  const shards = Array.isArray(weightData) ? weightData : [weightData];
  if (!Array.isArray(weightSpecs) || !shards.every(shard => shard instanceof ArrayBuffer)) return null;
  const data = Buffer.concat(shards.map(shard => new Uint8Array(shard)));
  const tensors = new Map<string, HostTensor>();
  let at = 0;
  for (const spec of weightSpecs) {
    if (!isPlain(spec) || !Array.isArray(spec['shape']) || !spec['shape'].every(isCount)) return null;
    const {name, shape, dtype} = spec;
    if (typeof name !== 'string' || tensors.has(name) || !['float32', 'int32'].includes(dtype)) return null;
    const end = at + 4 * sizeOf(shape);
    if (end > data.length) return null;
    const {buffer} = Uint8Array.from(data.subarray(at, end));
    tensors.set(name, {shape, values: dtype === 'int32' ? new Int32Array(buffer) : new Float32Array(buffer)});
    at = end;
  }
  return at === data.length ? {tensors, metadata: userDefinedMetadata?.tfjsLora} : null;
}

/** Numbers of one weight. */
export interface Numbers {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** Makes of the weights before what they are to be; throws where there is no saying. */
export type Meant = (before: ReadonlyMap<string, Numbers>) => Map<string, ArrayLike<number>>;

/** An adapter of ours. Each of its weights is for the model's weight of its shape. */
export const meantByOurs =
  ({tensors, metadata}: Container): Meant =>
  before => {
    const {weights} = JSON.parse(metadata['adapter']) as {weights: Json[]};
    const after = new Map<string, ArrayLike<number>>();
    for (const {path, shape, parametrization, factors, frozen} of weights) {
      const [place, base] = only([...before].filter(([, weight]) => String(weight.shape) === String(shape)));
      const weight: AdapterWeight = {
        path,
        shape,
        parametrization: parametrization && (fromJson(parametrization, '') as Parametrization),
        factors: Object.fromEntries(factors.map((name: string) => [name, tensors.get(`${path}/${name}`)!])),
        frozen: Object.fromEntries(
          frozen.map(({name}: Json) => [name, tensors.get(`${path}/frozen/${name}`)!]),
        ),
        base: null,
      };
      after.set(place, applied(weight, {shape, values: Float32Array.from(base.values)}));
    }
    return after;
  };

/** Files of PEFT: `W0 + s (B A)^T` with `s = lora_alpha / r`, or `lora_alpha / sqrt(r)`. */
export const meantByPeft =
  ({tensors}: Container, config: Json): Meant =>
  before => {
    const by = (patterns: Json | undefined, module: string) =>
      Object.entries(patterns ?? {}).find(([key]) => module === key || module.endsWith(`.${key}`))?.[1];
    const after = new Map<string, ArrayLike<number>>();
    for (const [name, tensor] of tensors) {
      const [, module, key] =
        /^base_model\.model\.(.+?)\.(lora_A\.weight|(?:base_layer\.)?bias)$/.exec(name) ?? [];
      if (module === undefined) continue;
      if (key !== 'lora_A.weight') {
        after.set(`${module}/bias`, tensor.values);
        continue;
      }
      const up = tensors.get(`base_model.model.${module}.lora_B.weight`)!;
      const rank = by(config['rank_pattern'], module) ?? config['r'] ?? 8;
      const alpha = by(config['alpha_pattern'], module) ?? config['lora_alpha'] ?? 8;
      const scale = alpha / (config['use_rslora'] ? Math.sqrt(rank) : rank);
      after.set(
        `${module}/kernel`,
        plus(before.get(`${module}/kernel`)!, transposed(tensor), transposed(up), scale),
      );
    }
    return after;
  };

/** Files in the names of Keras: `W0 + lora_alpha / lora_rank A B`. */
export const meantByKeras =
  ({tensors, metadata}: Container): Meant =>
  before => {
    const layers = JSON.parse(metadata['layers']) as Json;
    const after = new Map<string, ArrayLike<number>>();
    for (const [name, tensor] of tensors) {
      const [, layer, key] = /^(.+)\/([^/]+)$/.exec(name)!;
      if (key === 'lora_kernel_b') continue;
      if (key !== 'lora_kernel_a') {
        after.set(name, tensor.values);
        continue;
      }
      const {lora_rank: rank, lora_alpha: alpha} = layers[layer!];
      const right = tensors.get(`${layer}/lora_kernel_b`)!;
      after.set(`${layer}/kernel`, plus(before.get(`${layer}/kernel`)!, tensor, right, alpha / rank));
    }
    return after;
  };

function plus({values}: Numbers, left: HostTensor, right: HostTensor, scale: number): ArrayLike<number> {
  return tidied(() => {
    const matrix = ({shape, values}: HostTensor) =>
      tf.tensor2d(values.slice(), [shape[0]!, shape[1]!], 'float32');
    const change = tf.mul(tf.matMul(matrix(left), matrix(right)), scale).dataSync();
    return Float64Array.from(values, (value, i) => value + change[i]!);
  });
}

function transposed({shape, values}: HostTensor): HostTensor {
  const [m, n] = shape as [number, number];
  return {
    shape: [n, m],
    values: Float32Array.from(values, (_, i) => values[(i % m) * n + Math.floor(i / m)]!),
  };
}

function only<T>(list: readonly T[]): T {
  if (list.length !== 1) throw new Error(`${list.length} where one is needed`);
  return list[0]!;
}
