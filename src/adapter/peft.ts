import {expectOptions} from '../options.js';
import {dora} from '../parametrizations/dora.js';
import {lora} from '../parametrizations/lora.js';
import {matrixShape} from '../targets.js';
import type {Adapter, AdapterWeight, HostTensor} from './adapter.js';
import {type HostArray, permuted, product} from './host.js';
import {type Json, parseStrictJson} from './json.js';
import {isBias, kindOf, layerOf, type LayerKind} from './layers.js';
import {namedWeights, type WeightsOf} from './paths.js';
import {type PeftConfig, readPeftConfig, writePeftConfig} from './peft-config.js';
import {type ExactProduct, exactProduct} from './product.js';
import {decodeSafetensors, encodeSafetensors, type FloatDtype} from './safetensors.js';

/** What PEFT (Hugging Face) saves and loads as a folder. */
export interface PeftFiles {
  readonly 'adapter_config.json': string;
  readonly 'adapter_model.safetensors': Uint8Array;
  readonly 'README.md': string;
}

/** The name of the PyTorch module that a weight belongs to, or null to leave the weight out. */
export type ModuleNames = (path: string) => string | null;

export interface ToPeftOptions {
  /** Default: the path without the weight's own name, with dots: `block0/query/kernel` is of `block0.query`. */
  names?: ModuleNames;
  /** The model: tells the kernel of a recurrent layer by its `recurrent_kernel`, also where only the first was trained. */
  model?: WeightsOf;
  /** How numbers are written. Default 'F32'. */
  dtype?: FloatDtype;
  /** Leaves out what PEFT has no place for, instead of an error. Default false. */
  skip?: boolean;
  /** The dense layers are GPT-2's `Conv1D`, which holds its weight as `[in, out]`. Default false. */
  fanInFanOut?: boolean;
  /** For `base_model_name_or_path`: which model this belongs to. */
  baseModel?: string;
  /** For `task_type`, e.g. 'CAUSAL_LM'. */
  taskType?: string;
}

/**
 * An adapter as the files of PEFT. A weight `[in, out]` here is `[out, in]` there, so `s A B` becomes `lora_A = A^T`,
 * `lora_B = B^T`; a kernel `[kh, kw, in, out]` becomes `[r, in, kh, kw]` and `[out, r, 1, 1]`. What was trained whole
 * goes to `modules_to_save`, a bias alone beside them.
 *
 * @throws Error for a change that is no product of two factors, for recurrent, depthwise and transposed kernels, for
 *   DoRA beside LoRA, and for two weights of one name; each names the weight and what to do.
 */
export function toPeft(adapter: Adapter, options: ToPeftOptions = {}): PeftFiles {
  const known = ['names', 'model', 'dtype', 'skip', 'fanInFanOut', 'baseModel', 'taskType'];
  expectOptions('toPeft', options, known);
  const {names = moduleOf, model, dtype = 'F32', skip = false, fanInFanOut = false} = options;
  const paths = new Set(adapter.weights.map(({path}) => path));
  if (model) for (const path of namedWeights(model).keys()) paths.add(path);

  const places = new Map<string, Place>();
  for (const weight of adapter.weights) {
    const module = names(weight.path);
    if (module === null) continue;
    try {
      const place = placeOf(weight, module, kindOf(weight.path, weight.shape, paths));
      const taken = places.get(place.parameter);
      if (taken) {
        throw new Clash(
          `toPeft: ${taken.weight.path} and ${weight.path} would both be ${place.parameter}; tell them apart by \`names\``,
        );
      }
      places.set(place.parameter, place);
    } catch (error) {
      if (!skip || error instanceof Clash) throw error;
    }
  }
  const all = [...places.values()];
  const pairs = all.filter((place): place is Place & {pair: ExactProduct} => place.pair !== null);
  if (pairs.length === 0) {
    throw new Error(
      'toPeft: no weight has learned through factors, and PEFT has no adapter without; save the model itself',
    );
  }
  const isDora = pairs.some(({pair}) => pair.magnitude);
  const plain = pairs.find(({pair}) => !pair.magnitude);
  if (isDora && plain) {
    throw new Error(
      `toPeft: ${plain.weight.path} is LoRA and others are DoRA, and PEFT has one use_dora for all; write two adapters, ` +
        'with `names` that return null for the weights of the other',
    );
  }
  // Of rank-stabilised factors as they are; what was made of others has its scale in alpha.
  const rankStabilised = pairs.every(({pair}) => pair.scaling?.rankStabilised);
  const adapted = new Set(pairs.map(({module}) => module));
  const whole = all.filter(place => place.pair === null);
  const saved = new Set(whole.filter(place => !isBias(place.weight.path)).map(({module}) => module));

  const tensors = new Map<string, HostTensor>();
  const put = (name: string, {shape, values}: HostArray) =>
    tensors.set(PREFIX + name, {
      shape,
      values: values instanceof Float64Array ? Float32Array.from(values) : values,
    });
  for (const {module, kind, weight, pair} of pairs) {
    for (const [name, tensor] of Object.entries(pairTensors(kind, weight.shape, pair)))
      put(`${module}.${name}`, tensor);
  }
  for (const {module, kind, weight, parameter} of whole) {
    const tensor = weight.factors['weight'];
    if (!tensor)
      throw new Error(`toPeft: ${weight.path} was trained whole, and the adapter has no 'weight' for it`);
    const isInside = isBias(weight.path) && adapted.has(module);
    put(isInside ? `${module}.base_layer.bias` : parameter, wholeTensor(kind, tensor, fanInFanOut));
  }
  const settings = pairs.map(({module, pair}) => ({
    module,
    rank: pair.left.shape[1]!,
    alpha: alphaOf(pair, rankStabilised),
  }));
  const inverse = Object.fromEntries(all.map(({parameter, weight}) => [parameter, weight.path]));
  return {
    'adapter_config.json': writePeftConfig(settings, {
      rankStabilised,
      dora: isDora,
      fanInFanOut,
      bias: whole.some(({weight, module}) => isBias(weight.path) && !saved.has(module)) ? 'all' : 'none',
      modulesToSave: [...saved],
      baseModel: options.baseModel,
      taskType: options.taskType,
    }),
    'adapter_model.safetensors': encodeSafetensors(
      {tensors, metadata: {format: 'pt', [PATHS]: JSON.stringify(inverse)}},
      dtype,
    ),
    'README.md': readme(options.baseModel, adapter.generatedBy),
  };
}

export interface FromPeftOptions {
  /** The model it is for: weights are found by their module's name, and their shapes are checked. */
  model?: WeightsOf;
  /** The module of each weight of `model`; the same function as in `toPeft`. */
  names?: ModuleNames;
  /** Without a model, or before it: the path of a module's weight or bias, or null to leave it out. */
  paths?: (module: string, part: 'weight' | 'bias') => string | null;
}

/**
 * An adapter from the files of PEFT. The path of a weight comes from `paths`, or from `model`, or from what `toPeft`
 * noted, or is the module's name with slashes and `/kernel`.
 *
 * @param files `config`: the text of `adapter_config.json` or what it says; `weights`: `adapter_model.safetensors`.
 * @throws Error for other methods than LoRA and DoRA, for half a pair, for ranks and shapes that disagree, for tensors
 *   that are not understood; each names the module, both shapes and what to do.
 */
export function fromPeft(
  files: {readonly config: string | object; readonly weights: Uint8Array},
  options: FromPeftOptions = {},
): Adapter {
  expectOptions('fromPeft', options, ['model', 'names', 'paths']);
  const config = readPeftConfig(files.config);
  const {tensors, metadata} = decodeSafetensors(files.weights);
  const find = finder(options, metadata[PATHS]);
  const weights: AdapterWeight[] = [];
  const taken = new Map<string, string>();
  const add = (module: string, weight: AdapterWeight) => {
    const other = taken.get(weight.path);
    if (other !== undefined) {
      throw new Error(
        `fromPeft: ${other} and ${module} would both be ${weight.path}; tell them apart by \`paths\``,
      );
    }
    taken.set(weight.path, module);
    weights.push(weight);
  };
  for (const [module, parts] of modulesOf(tensors, config)) {
    const [weight, bias] = [parts.get('weight'), parts.get('bias')];
    if (weight || bias) {
      if (weight && (parts.has('lora_A') || parts.has('lora_embedding_A'))) {
        fail(module, 'has both a whole weight and factors; leave it out of modules_to_save');
      }
      for (const [part, tensor] of [
        ['weight', weight],
        ['bias', bias],
      ] as const) {
        const place = tensor && find(module, part, part === 'bias' ? `${slashed(module)}/bias` : null);
        if (place) add(module, wholeWeight(module, part, tensor, place, config));
      }
    }
    const pair = readPair(module, parts, config);
    const place =
      pair &&
      find(module, 'weight', `${slashed(module)}/${pair.kind === 'embedding' ? 'embeddings' : 'kernel'}`);
    if (place) add(module, pairWeight(module, pair, place, config));
  }
  if (weights.length === 0) throw new Error('fromPeft: the files hold no weight');
  const {peft_version: version = '', ...notes} = config.notes;
  return {weights, generatedBy: `PEFT ${version}`.trim(), metadata: notes};
}

const PREFIX = 'base_model.model.';
/** In the metadata of the safetensors file, which PEFT does not read: the path of every parameter. */
const PATHS = 'tfjs-lora.paths';

/** The usual name of a module in PyTorch: the path of the layer, with dots. */
export const moduleOf = (path: string): string => layerOf(path).replaceAll('/', '.');
const slashed = (module: string): string => module.replaceAll('.', '/');

class Clash extends Error {
  override readonly name = 'Error';
}

/** Where a weight goes. */
interface Place {
  readonly weight: AdapterWeight;
  readonly module: string;
  /** PyTorch's name of the weight: `fc1.weight`. */
  readonly parameter: string;
  readonly kind: LayerKind;
  /** Null: trained whole. */
  readonly pair: ExactProduct | null;
}

function placeOf(weight: AdapterWeight, module: string, kind: LayerKind): Place {
  const {path, shape, parametrization} = weight;
  if (typeof module !== 'string' || module === '') {
    throw new Clash(`toPeft: \`names\` must give a name or null for ${path}, and gave '${module}'`);
  }
  const none = (what: string) =>
    new Error(`toPeft: ${path} [${shape}] is ${what}; leave it out by \`names\` or by skip: true`);
  if (kind === 'recurrent') throw none("a recurrent layer's, and PEFT adapts none of these");
  const parameter = `${module}.${isBias(path) ? 'bias' : 'weight'}`;
  if (parametrization === null) return {weight, module, parameter, kind, pair: null};
  if (kind === 'vector') throw none('a vector, and PEFT has no factors for these');
  if (kind === 'depthwise') throw none("a depthwise kernel, whose groups PEFT's factors do not follow");
  if (kind === 'transposed convolution')
    throw none("a transposed convolution's, and PEFT adapts none of these");
  return {weight, module, parameter, kind, pair: exactProduct(weight)};
}

/** lora_alpha: the method's own where it can stay, else so that alpha/k is the scale. */
function alphaOf({scale, scaling, right}: ExactProduct, rankStabilised: boolean): number {
  return scaling?.rankStabilised === rankStabilised ? scaling.alpha : scale * right.shape[0]!;
}

/** `[..., in, k]` is `[k, in, ...]` there. */
const lastTwoFirst = (axes: number): number[] => [axes - 1, axes - 2, ...Array(axes - 2).keys()];
const firstTwoLast = (axes: number): number[] => [...Array(axes - 2).keys()].map(i => i + 2).concat(1, 0);

function pairTensors(
  kind: LayerKind,
  shape: readonly number[],
  {left, right, magnitude}: ExactProduct,
): Record<string, HostArray> {
  const [k, n] = right.shape as [number, number];
  const isEmbedding = kind === 'embedding';
  const window = shape.slice(0, -2).map(() => 1);
  const down = permuted({shape: [...shape.slice(0, -1), k], values: left.values}, lastTwoFirst(shape.length));
  const up = {shape: [n, k, ...window], values: permuted(right, [1, 0]).values};
  return {
    [isEmbedding ? 'lora_embedding_A' : 'lora_A.weight']: down,
    [isEmbedding ? 'lora_embedding_B' : 'lora_B.weight']: up,
    ...(magnitude && {
      lora_magnitude_vector: {shape: window.length > 0 ? [1, n, ...window] : [n], values: magnitude.values},
    }),
  };
}

function wholeTensor(kind: LayerKind, tensor: HostTensor, fanInFanOut: boolean): HostArray {
  const {shape, values} = tensor;
  if (kind === 'vector' || kind === 'embedding' || (kind === 'dense' && fanInFanOut)) return tensor;
  if (kind !== 'depthwise') return permuted(tensor, lastTwoFirst(shape.length));
  // [kh, kw, in, times] is [in times, 1, kh, kw] there.
  const [kh, kw, channels, multiplier] = shape as [number, number, number, number];
  return {shape: [channels * multiplier, 1, kh, kw], values: permuted({shape, values}, [2, 3, 0, 1]).values};
}

/** A weight of the reader's, by path, and by shape where a model says so. */
interface Found {
  readonly path: string;
  readonly shape: readonly number[] | null;
  readonly kind: LayerKind | null;
}

type Part = 'weight' | 'bias';
type Finder = (module: string, part: Part, otherwise: string | null) => Found | null;

function finder({model, names = moduleOf, paths}: FromPeftOptions, note: string | undefined): Finder {
  const variables = model && namedWeights(model);
  const known = new Set(variables?.keys());
  const byParameter = new Map<string, string[]>();
  for (const path of known) {
    const module = names(path);
    if (module === null) continue;
    const parameter = `${module}.${isBias(path) ? 'bias' : 'weight'}`;
    byParameter.set(parameter, [...(byParameter.get(parameter) ?? []), path]);
  }
  const noted = readNote(note);
  const pathOf = (module: string, part: Part, otherwise: string | null): string | null => {
    const parameter = `${module}.${part}`;
    if (paths) return paths(module, part);
    if (!variables) {
      return (
        noted.get(parameter) ??
        otherwise ??
        fail(
          module,
          `has a whole ${part}, and what that is called here cannot be known; give \`model\` or \`paths\``,
        )
      );
    }
    const candidates = byParameter.get(parameter) ?? [];
    if (candidates.length === 1) return candidates[0]!;
    if (candidates.length === 0) {
      const some = [...new Set([...byParameter.keys()].map(key => key.slice(0, key.lastIndexOf('.'))))];
      return fail(
        module,
        `has a ${part} that this model does not have; its modules are ${some.slice(0, 12).join(', ')}` +
          `${some.length > 12 ? ', …' : ''}. Give \`names\` or \`paths\` that say which is which`,
      );
    }
    return fail(module, `could be ${candidates.join(' or ')}; tell them apart by \`names\` or \`paths\``);
  };
  return (module, part, otherwise) => {
    const path = pathOf(module, part, otherwise);
    if (path === null) return null;
    const variable = variables?.get(path);
    if (variables && !variable) fail(module, `is ${path} by \`paths\`, which this model does not have`);
    const kind = variable ? kindOf(path, variable.shape, known) : null;
    if (kind === 'recurrent') fail(module, `is ${path}, of a recurrent layer, and PEFT adapts none of these`);
    return {path, shape: variable?.shape ?? null, kind};
  };
}

function readNote(text: string | undefined): ReadonlyMap<string, string> {
  if (text === undefined) return new Map();
  let read: Json = null;
  try {
    read = parseStrictJson(text, 1);
  } catch {
    // Said below.
  }
  if (read instanceof Map && [...read.values()].every(value => typeof value === 'string')) {
    return read as ReadonlyMap<string, string>;
  }
  throw new Error(
    `fromPeft: the metadata '${PATHS}' is no object of paths; give \`model\` or \`paths\` and remove it`,
  );
}

/** The tensors of each module, by what they are there. */
type Parts = ReadonlyMap<string, HostTensor & {dtype: string}>;

const SUFFIX =
  /^(.+?)\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_magnitude_vector(?:\.weight)?|base_layer\.bias|weight|bias)$/;

function modulesOf(tensors: Parts, config: PeftConfig): Map<string, Parts> {
  const modules = new Map<string, Map<string, HostTensor & {dtype: string}>>();
  for (const [name, tensor] of tensors) {
    const match = name.startsWith(PREFIX) ? SUFFIX.exec(name.slice(PREFIX.length)) : null;
    if (!match || /\.lora_[AB]$|\.base_layer$/.test(match[1]!)) {
      throw new Error(
        `fromPeft: the tensor '${name}' [${tensor.shape}] is not understood; expected are ${PREFIX}<module>.lora_A.weight, ` +
          'lora_B.weight, lora_embedding_A, lora_embedding_B, lora_magnitude_vector, and weight and bias of modules_to_save',
      );
    }
    const [, module, suffix] = match as unknown as [string, string, string];
    const part = suffix.replace(/^base_layer\./, '').replace(/^(lora_\w+)\.weight$/, '$1');
    if (tensor.values instanceof Int32Array) fail(module, `has ${suffix} as I32; it must be floats`);
    const isSaved = config.modulesToSave.some(key => module === key || module.endsWith(`.${key}`));
    if ((part === 'weight' && !isSaved) || (part === 'bias' && !isSaved && config.bias === 'none')) {
      fail(
        module,
        `has a whole ${part}, and adapter_config.json names it neither in modules_to_save nor by bias`,
      );
    }
    const parts = modules.get(module) ?? new Map<string, HostTensor & {dtype: string}>();
    if (parts.has(part)) fail(module, `has two tensors for ${part}`);
    modules.set(module, parts.set(part, tensor));
  }
  return modules;
}

interface ReadPair {
  readonly kind: 'dense' | 'conv' | 'embedding';
  /** Of the weight here. */
  readonly shape: readonly number[];
  readonly factors: Readonly<Record<string, HostTensor>>;
  readonly rank: number;
}

function readPair(module: string, parts: Parts, config: PeftConfig): ReadPair | null {
  const isEmbedding = parts.has('lora_embedding_A') || parts.has('lora_embedding_B');
  const keys = isEmbedding
    ? (['lora_embedding_A', 'lora_embedding_B'] as const)
    : (['lora_A', 'lora_B'] as const);
  const [down, up] = keys.map(key => parts.get(key));
  const magnitude = parts.get('lora_magnitude_vector');
  if (!down && !up && !magnitude) return null;
  if (isEmbedding && (parts.has('lora_A') || parts.has('lora_B'))) fail(module, 'has factors of two kinds');
  if (!down || !up)
    return fail(
      module,
      `has ${down ? keys[0] : up ? keys[1] : 'a magnitude'} and no ${down ? keys[1] : keys[0]}; save the adapter again, whole`,
    );
  const axes = down.shape.length;
  const [r, channels] = down.shape as [number, number];
  const [n, k] = up.shape as [number, number];
  const fits = axes >= 2 && axes <= 5 && (!isEmbedding || axes === 2) && up.shape.length === axes && k === r;
  if (!fits || up.shape.slice(2).some(axis => axis !== 1)) {
    fail(
      module,
      `has ${keys[0]} [${down.shape}] and ${keys[1]} [${up.shape}]; needed are [r, in, …window] and [out, r, 1, …]` +
        (axes > 2 && k < r ? ', as it is without groups' : ''),
    );
  }
  const rank = config.rankOf(module);
  if (rank !== r || r === 0) {
    fail(
      module,
      `has ${keys[0]} [${down.shape}] of rank ${r}, and adapter_config.json gives it ${rank}; correct r or rank_pattern`,
    );
  }
  if (config.dora !== (magnitude !== undefined)) {
    fail(
      module,
      `has ${magnitude ? 'a' : 'no'} lora_magnitude_vector, and adapter_config.json has use_dora: ${config.dora}`,
    );
  }
  if (magnitude && magnitude.values.length !== n) {
    fail(module, `has a lora_magnitude_vector [${magnitude.shape}] where ${n} numbers are needed`);
  }
  const window = down.shape.slice(2);
  return {
    kind: isEmbedding ? 'embedding' : window.length > 0 ? 'conv' : 'dense',
    shape: [...window, channels, n],
    rank,
    factors: {
      a: {shape: [product(window) * channels, r], values: permuted(down, firstTwoLast(axes)).values},
      b: {shape: [r, n], values: permuted({shape: [n, r], values: up.values}, [1, 0]).values},
      ...(magnitude && {magnitude: {shape: [n], values: magnitude.values}}),
    },
  };
}

function pairWeight(
  module: string,
  pair: ReadPair,
  {path, shape, kind}: Found,
  config: PeftConfig,
): AdapterWeight {
  const alpha = config.alphaOf(module);
  if (!Number.isFinite(alpha) || alpha === 0)
    fail(module, `has the lora_alpha ${alpha}; it must be a number other than 0`);
  if (kind === 'depthwise' || kind === 'transposed convolution')
    fail(module, `is ${path}, a ${kind} kernel, which PEFT cannot adapt`);
  const scale = {rank: pair.rank, alpha, ...(config.rankStabilised && {rankStabilised: true})};
  return {
    path,
    shape: shape ? agreed(module, path, pair.shape, shape) : pair.shape,
    parametrization: config.dora ? dora(scale) : lora(scale),
    factors: pair.factors,
    frozen: {},
    base: null,
  };
}

/** The model's shape where the file's means the same matrix: a dense layer and a window of one are one thing. */
function agreed(
  module: string,
  path: string,
  given: readonly number[],
  wanted: readonly number[],
): readonly number[] {
  const isPoint = (shape: readonly number[]) => shape.slice(0, -2).every(axis => axis === 1);
  const isSame = String(given) === String(wanted);
  const isAlike =
    isPoint(given) && isPoint(wanted) && String(matrixShape(given)) === String(matrixShape(wanted));
  if (isSame || isAlike) return wanted;
  return fail(
    module,
    `is for a weight [${given}], and ${path} of this model is [${wanted}]; give \`names\` or \`paths\` that say which is which`,
  );
}

function wholeWeight(
  module: string,
  part: Part,
  tensor: HostTensor,
  {path, shape, kind}: Found,
  config: PeftConfig,
): AdapterWeight {
  const is = kind ?? (part === 'bias' ? 'vector' : kindOf(path, tensor.shape, new Set()));
  const {values} = tensor;
  let weight: HostTensor;
  if (is === 'vector' || is === 'embedding' || (is === 'dense' && config.fanInFanOut)) weight = tensor;
  else if (is === 'depthwise') {
    const [outs, one, kh, kw] = tensor.shape as [number, number, number, number];
    if (tensor.shape.length !== 4 || one !== 1 || (shape && shape[2]! * shape[3]! !== outs)) {
      return fail(
        module,
        `has a weight [${tensor.shape}], and ${path} is depthwise [${shape ?? 'kh,kw,in,times'}]`,
      );
    }
    const [channels, multiplier] = shape ? [shape[2]!, shape[3]!] : [outs, 1];
    weight = permuted({shape: [channels, multiplier, kh, kw], values}, [2, 3, 0, 1]);
  } else weight = permuted(tensor, firstTwoLast(tensor.shape.length));
  if (shape && String(shape) !== String(weight.shape)) {
    fail(module, `has a ${part} that is [${weight.shape}] here, and ${path} of this model is [${shape}]`);
  }
  const factors = {weight: {shape: weight.shape, values: weight.values}};
  return {path, shape: weight.shape, parametrization: null, factors, frozen: {}, base: null};
}

function readme(baseModel: string | undefined, generatedBy: string): string {
  const base = baseModel === undefined ? '' : `base_model: ${JSON.stringify(baseModel)}\n`;
  return `---\n${base}library_name: peft\n---\n\nTrained in TensorFlow.js with ${generatedBy}.\n`;
}

function fail(module: string, reason: string): never {
  throw new Error(`fromPeft: ${module} ${reason}`);
}
