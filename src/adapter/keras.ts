import {expectOptions} from '../options.js';
import {lora} from '../parametrizations/lora.js';
import type {Adapter, AdapterWeight, HostTensor} from './adapter.js';
import {expectAdapter, expectBytes} from './expect.js';
import {product} from './host.js';
import {type Json, parseStrictJson} from './json.js';
import {kindOf, layerOf, ownName} from './layers.js';
import {NoPlace} from './no-place.js';
import {exactProduct} from './product.js';
import {decodeSafetensors, encodeSafetensors} from './safetensors.js';
import {errorOf} from './untrusted.js';

export interface ToKerasOptions {
  /** The path of the layer in Keras, or null to leave the weight out. Default: the path here without the weight's name. */
  layers?: (path: string) => string | null;
  /** Leaves out what Keras has no place for, instead of an error. Default false. */
  skip?: boolean;
}

/**
 * An adapter in the names and shapes of Keras 3, as a safetensors file: `<layer>/lora_kernel_a` `[…, in, r]` and
 * `lora_kernel_b` `[r, out]` for Dense and Conv1D to Conv3D, `lora_embeddings_a` `[vocab, r]` and `lora_embeddings_b`
 * `[r, dim]` for Embedding. The orientation is ours, nothing is transposed. The metadata's `layers` is JSON with
 * `lora_rank` and `lora_alpha` of each layer: W = W0 + lora_alpha / lora_rank A B. What was trained whole stands
 * under `<layer>/<its own name>`.
 *
 * Keras reads no such file by itself: its own files hold the merged kernel alone, and loading one sets the factors to
 * zero. What it has are the variables: call `layer.enable_lora(lora_rank, lora_alpha=lora_alpha)` and assign both. It
 * has no rsLoRA (lora_alpha here makes up for it), and no LoRA on recurrent, depthwise, separable and transposed layers.
 *
 * @throws Error for these, for DoRA, for changes that are no product and for numbers that are not finite, naming the
 *   weight.
 */
export function toKeras(adapter: Adapter, options: ToKerasOptions = {}): Uint8Array {
  expectOptions('toKeras', options, ['layers', 'skip']);
  expectAdapter('toKeras', adapter);
  const {layers = layerOf, skip = false} = options;
  const paths = new Set(adapter.weights.map(({path}) => path));
  const tensors = new Map<string, HostTensor>();
  const settings = new Map<string, {lora_rank: number; lora_alpha: number}>();
  for (const weight of adapter.weights) {
    const layer = layers(weight.path);
    if (layer === null) continue;
    let made: ReturnType<typeof layerTensors>;
    try {
      made = layerTensors(weight, paths);
    } catch (error) {
      if (skip && error instanceof NoPlace) continue;
      throw error;
    }
    for (const [name, tensor] of Object.entries(made.tensors)) {
      if (tensors.has(`${layer}/${name}`)) {
        throw errorOf(
          `toKeras: ${layer}/${name} would be of two weights, one of them ${weight.path}; tell them apart by \`layers\``,
        );
      }
      const bad = tensor.values.find(value => !Number.isFinite(value));
      if (bad !== undefined)
        throw errorOf(`toKeras: ${weight.path} has ${bad} in ${name}; it must be finite`);
      tensors.set(`${layer}/${name}`, tensor);
    }
    if (made.settings) settings.set(layer, made.settings);
  }
  if (tensors.size === 0) throw errorOf('toKeras: nothing is left to write');
  const metadata = {format: FORMAT, layers: JSON.stringify(Object.fromEntries(settings))};
  return encodeSafetensors({tensors, metadata});
}

export interface FromKerasOptions {
  /** The path here of a weight of a Keras layer (`kernel`, `embeddings`, …), or null to leave it out. Default: joined by a slash. */
  paths?: (layer: string, weight: string) => string | null;
}

/**
 * An adapter from what `toKeras` writes, or a Python program in the same names.
 *
 * @throws Error for half a pair, shapes that disagree and settings that are missing; each names the layer.
 */
export function fromKeras(bytes: Uint8Array, options: FromKerasOptions = {}): Adapter {
  expectOptions('fromKeras', options, ['paths']);
  expectBytes('fromKeras', bytes);
  const {paths = (layer, weight) => `${layer}/${weight}`} = options;
  const {tensors, metadata} = decodeSafetensors(bytes);
  const settings = readSettings(metadata['layers']);
  const weights = [...tensors].flatMap(([name, tensor]): AdapterWeight[] => {
    const [, layer, key] =
      /^(.+)\/([^/]+)$/.exec(name) ?? fail(`the tensor '${name}' has no layer before its name`);
    const half = /^lora_(kernel|embeddings)_([ab])$/.exec(key!);
    const path = half?.[2] === 'b' ? null : paths(layer!, half?.[1] ?? key!);
    if (half) {
      const other = `${layer}/lora_${half[1]}_${half[2] === 'a' ? 'b' : 'a'}`;
      if (!tensors.has(other)) fail(`'${name}' is there and '${other}' is not`);
    }
    if (path === null) return [];
    const found = half
      ? pairOf(layer!, tensor, tensors.get(`${layer}/lora_${half[1]}_b`)!, settings)
      : {
          shape: tensor.shape,
          parametrization: null,
          factors: {weight: {shape: tensor.shape, values: tensor.values}},
        };
    return [{path, ...found, frozen: {}, base: null}];
  });
  if (weights.length === 0) fail('the file holds no weight');
  const twice = weights.find(({path}, i) => weights.some((other, j) => j < i && other.path === path));
  if (twice) fail(`two weights would be ${twice.path}; tell them apart by \`paths\``);
  return {weights, generatedBy: 'Keras', metadata: {}};
}

const FORMAT = 'keras-lora';

function layerTensors(
  weight: AdapterWeight,
  paths: ReadonlySet<string>,
): {tensors: Record<string, HostTensor>; settings?: {lora_rank: number; lora_alpha: number}} {
  const {path, shape, parametrization, factors} = weight;
  const name = ownName(path);
  if (parametrization === null) {
    const whole = factors['weight'];
    if (whole) return {tensors: {[name]: whole}};
    throw errorOf(`toKeras: ${path} was trained whole, and the adapter has no 'weight' for it`);
  }
  const kind = kindOf(path, shape, paths);
  const slot = kind === 'embedding' ? 'embeddings' : 'kernel';
  if (!['dense', 'conv', 'embedding'].includes(kind) || name !== slot) {
    throw new NoPlace(
      `toKeras: ${path} [${shape}] is a ${kind} weight '${name}', which Keras has no LoRA for; leave it out by \`layers\` or skip: true`,
    );
  }
  const {left, right, scale, scaling, magnitude} = exactProduct(weight);
  if (magnitude)
    throw new NoPlace(
      `toKeras: ${path} is DoRA, and Keras has no place for it in every layer; merge it instead`,
    );
  const rank = right.shape[0]!;
  const floats = (values: Iterable<number>) => Float32Array.from(values);
  return {
    tensors: {
      [`lora_${slot}_a`]: {shape: [...shape.slice(0, -1), rank], values: floats(left.values)},
      [`lora_${slot}_b`]: {shape: right.shape, values: floats(right.values)},
    },
    settings: {
      lora_rank: rank,
      lora_alpha: scaling && !scaling.rankStabilised && scaling.rank === rank ? scaling.alpha : scale * rank,
    },
  };
}

function pairOf(
  layer: string,
  a: HostTensor,
  b: HostTensor,
  settings: ReadonlyMap<string, Json>,
): Pick<AdapterWeight, 'shape' | 'parametrization' | 'factors'> {
  const [rank, n] = b.shape as [number, number];
  if (a.shape.length < 2 || b.shape.length !== 2 || a.shape.at(-1) !== rank || rank === 0) {
    fail(`${layer} has the factors [${a.shape}] and [${b.shape}]; needed are […, in, r] and [r, out]`);
  }
  const own = settings.get(layer);
  const alpha = own instanceof Map ? (own.get('lora_alpha') as Json | undefined) : undefined;
  const told = own instanceof Map ? (own.get('lora_rank') as Json | undefined) : undefined;
  if (told !== rank || typeof alpha !== 'number' || alpha === 0) {
    fail(
      `${layer} has factors of rank ${rank}, and the metadata's layers give no such lora_rank with a lora_alpha`,
    );
  }
  return {
    shape: [...a.shape.slice(0, -1), n],
    parametrization: lora({rank, alpha: alpha as number}),
    factors: {
      a: {shape: [product(a.shape.slice(0, -1)), rank], values: a.values},
      b: {shape: b.shape, values: b.values},
    },
  };
}

function readSettings(text: string | undefined): ReadonlyMap<string, Json> {
  try {
    const read = parseStrictJson(text ?? '', 2);
    if (read instanceof Map) return read as ReadonlyMap<string, Json>;
  } catch {
    // Said below.
  }
  return fail("the metadata has no 'layers' with lora_rank and lora_alpha of each, as JSON");
}

function fail(reason: string): never {
  throw errorOf(`fromKeras: ${reason}`);
}
