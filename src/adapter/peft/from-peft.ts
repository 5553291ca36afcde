import {read} from '../../linalg/read.js';
import {expectOptions} from '../../options.js';
import {dora} from '../../parametrizations/dora.js';
import {lora} from '../../parametrizations/lora.js';
import {matrixShape} from '../../targets.js';
import type {Adapter, AdapterWeight, HostTensor} from '../adapter.js';
import {expectBytes, expectWeights} from '../expect.js';
import {given} from '../given.js';
import {permuted, product} from '../host.js';
import {type Json, parseStrictJson} from '../json.js';
import {kindOf, type LayerKind} from '../layers.js';
import {namedWeights, type WeightsOf} from '../paths.js';
import {openSafetensors, type StoredTensor} from '../safetensors.js';
import {type PeftConfig, readPeftConfig} from './config.js';
import {firstTwoLast, moduleOf, type ModuleNames, type Part, partOf, PATHS, PREFIX} from './mapping.js';
import {errorOf, visible} from '../untrusted.js';

export interface FromPeftOptions {
  /** The model it is for: weights are found by their module's name, and their shapes are checked. */
  model?: WeightsOf;
  /** The module of each weight of `model`; the same function as in `toPeft`. */
  names?: ModuleNames;
  /** Without a model, or before it: the path of a module's weight or bias, or null to leave it out. */
  paths?: (module: string, part: Part) => string | null;
  /**
   * Which modules saved whole are GPT-2's `Conv1D`, which holds its weight as `[in, out]`. Default: what the shape of the
   * model's weight says; without a model none, as of `torch.nn.Linear`.
   */
  fanInFanOut?: (module: string) => boolean;
}

/**
 * An adapter from the files of PEFT. The path of a weight comes from `paths`, or from `model`, or from what `toPeft`
 * noted, or is the module's name with slashes and `/kernel`.
 *
 * What belongs to the base is left out: the weight inside of an adapted layer, which PEFT saves beside embeddings. With a
 * `model` it must be that model's.
 *
 * @param files `config`: the text of `adapter_config.json` or what it says; `weights`: `adapter_model.safetensors`.
 * @throws Error for other methods than LoRA and DoRA, for half a pair, for ranks and shapes that disagree, for tensors
 *   that are not understood; each names the module, both shapes and what to do.
 */
export function fromPeft(
  files: {readonly config: string | object; readonly weights: Uint8Array},
  options: FromPeftOptions = {},
): Adapter {
  expectOptions('fromPeft', options, ['model', 'names', 'paths', 'fanInFanOut']);
  expectFiles(files);
  if (options.model !== undefined) expectWeights('fromPeft: model', options.model);
  const config = readPeftConfig(files.config);
  const {modules, metadata} = modulesOf(files.weights, config);
  const find = finder(options, metadata[PATHS]);
  const weights: AdapterWeight[] = [];
  const taken = new Map<string, string>();
  const add = (module: string, weight: AdapterWeight) => {
    const other = taken.get(weight.path);
    if (other !== undefined) {
      throw errorOf(
        `fromPeft: ${other} and ${module} would both be ${weight.path}; tell them apart by \`paths\``,
      );
    }
    taken.set(weight.path, module);
    weights.push(weight);
  };
  for (const [module, parts] of modules) {
    if (parts.has('weight') && (parts.has('lora_A') || parts.has('lora_embedding_A'))) {
      fail(module, 'has both a whole weight and factors; leave it out of modules_to_save');
    }
    for (const [part, name] of WHOLE) {
      const tensor = parts.get(part);
      const place = tensor && find(module, part, name && `${slashed(module)}/${name}`);
      if (place) add(module, wholeWeight(module, part, tensor, place, config, options.fanInFanOut));
    }
    const pair = readPair(module, parts, config);
    const place =
      pair &&
      find(module, 'weight', `${slashed(module)}/${pair.kind === 'embedding' ? 'embeddings' : 'kernel'}`);
    if (place) add(module, pairWeight(module, pair, place, config));
    const base = parts.get('base_layer.weight');
    if (base && !pair) fail(module, 'has a base_layer.weight and no factors; save the adapter again, whole');
    if (place && base) expectBase(module, base, place);
  }
  if (weights.length === 0) throw errorOf('fromPeft: the files hold no weight');
  const {peft_version: version = '', ...notes} = config.notes;
  return {weights, generatedBy: `PEFT ${version}`.trim(), metadata: notes};
}

function expectFiles(files: unknown): void {
  const {config, weights} = (files ?? {}) as {config?: unknown; weights?: unknown};
  const isText = typeof config === 'string' || given(config).kind === 'object';
  if (!isText) {
    throw new TypeError(
      'fromPeft: {config, weights} are needed, the text of adapter_config.json and the bytes of adapter_model.safetensors, ' +
        `and ${config === undefined ? `this is ${given(files).words}` : `config is ${given(config).words}`}`,
    );
  }
  expectBytes('fromPeft: weights', weights);
}

/** What a module saved whole has, and what that is called here where one can know. */
const WHOLE: readonly (readonly [Part, string | null])[] = [
  ['weight', null],
  ['bias', 'bias'],
  ['running_mean', 'moving_mean'],
  ['running_var', 'moving_variance'],
];
const slashed = (module: string): string => module.replaceAll('.', '/');

/** A weight of the reader's, by path, and by shape where a model says so. */
interface Found {
  readonly path: string;
  readonly shape: readonly number[] | null;
  readonly kind: LayerKind | null;
  /** The numbers of the model's weight. */
  readonly values: (() => ArrayLike<number>) | null;
}

type Finder = (module: string, part: Part, otherwise: string | null) => Found | null;

function finder({model, names = moduleOf, paths}: FromPeftOptions, note: string | undefined): Finder {
  const variables = model && namedWeights(model);
  const known = new Set(variables?.keys());
  const byParameter = new Map<string, string[]>();
  for (const path of known) {
    const module = names(path);
    if (module === null) continue;
    const parameter = `${module}.${partOf(path)}`;
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
    return {
      path,
      shape: variable?.shape ?? null,
      kind,
      values: variable ? () => read(variable, visible(`fromPeft: ${path}`)) : null,
    };
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
  throw errorOf(
    `fromPeft: the metadata '${PATHS}' is no object of paths; give \`model\` or \`paths\` and remove it`,
  );
}

/** The tensors of each module, by what they are there. */
type Parts = ReadonlyMap<string, StoredTensor>;

const SUFFIX =
  /^(.+?)\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_magnitude_vector(?:\.weight)?|base_layer\.(?:weight|bias)|weight|bias|running_mean|running_var|num_batches_tracked)$/;

/** The names of `state_dict()` itself, of which `save_pretrained` leaves out the adapter's own name. */
const RAW = /\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|modules_to_save)\.default(?=\.|$)/;
const withoutAdapter = (name: string): string =>
  name.replace(RAW, (_, part: string) => (part === 'modules_to_save' ? '' : `.${part}`));

function modulesOf(
  bytes: Uint8Array,
  config: PeftConfig,
): {modules: Map<string, Parts>; metadata: Readonly<Record<string, string>>} {
  const {entries, metadata, read} = openSafetensors(bytes);
  const modules = new Map<string, Map<string, StoredTensor>>();
  for (const entry of entries) {
    const name = withoutAdapter(entry.name);
    const match = name.startsWith(PREFIX) ? SUFFIX.exec(name.slice(PREFIX.length)) : null;
    if (!match || /\.lora_[AB]$|\.base_layer$/.test(match[1]!)) {
      throw errorOf(
        `fromPeft: the tensor '${entry.name}' [${entry.shape}] is not understood; expected are ${PREFIX}<module>.lora_A.weight, ` +
          'lora_B.weight, lora_embedding_A, lora_embedding_B, lora_magnitude_vector, and weight and bias of ' +
          'modules_to_save, as save_pretrained writes them',
      );
    }
    const [, module, suffix] = match as unknown as [string, string, string];
    // PyTorch counts batches, which has no use where they have none to wait for.
    if (suffix === 'num_batches_tracked') continue;
    const part = suffix.replace(/^base_layer\.bias$/, 'bias').replace(/^(lora_\w+)\.weight$/, '$1');
    const tensor = read(entry);
    if (!tensor || tensor.values instanceof Int32Array)
      return fail(module, `has ${suffix} as ${entry.dtype}; it must be floats`);
    if (WHOLE.some(([whole]) => whole === part) && !isMeant(module, part, config)) {
      fail(
        module,
        `has a whole ${part}, and adapter_config.json names it neither in modules_to_save nor by bias; where PEFT saved ` +
          'it because the vocabulary has grown, save with save_embedding_layers=False or name it in modules_to_save',
      );
    }
    const parts = modules.get(module) ?? new Map<string, StoredTensor>();
    if (parts.has(part)) fail(module, `has two tensors for ${part}`);
    modules.set(module, parts.set(part, tensor));
  }
  return {modules, metadata};
}

/** `bias: 'all'` saves whatever has "bias" in its name, T5's relative_attention_bias too. */
function isMeant(module: string, part: string, {bias, isSaved}: PeftConfig): boolean {
  if (part === 'bias' && bias !== 'none') return true;
  return (bias === 'all' && module.includes('bias')) || isSaved(module);
}

/** @throws Error where the weight that factors are for is not the model's, beyond what 16 bits lose. */
function expectBase(module: string, base: HostTensor, {path, shape, kind, values}: Found): void {
  if (!shape || !values) return;
  const isHere = kind === 'embedding' || base.shape.length < 2;
  const ours = isHere ? base : permuted(base, firstTwoLast(base.shape.length));
  const other = String(ours.shape) === String(shape) ? values() : null;
  let [difference, size] = [0, 0];
  for (let i = 0; other && i < other.length; i++) {
    difference += (other[i]! - ours.values[i]!) ** 2;
    size += other[i]! ** 2;
  }
  if (other && difference <= 1e-4 * size) return;
  fail(
    module,
    `has a base_layer.weight [${base.shape}] beside its factors that is not ${path} [${shape}] of this model: they were ` +
      'trained on another. If they belong to this one nevertheless, save with save_embedding_layers=False',
  );
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
  isConv1D: FromPeftOptions['fanInFanOut'],
): AdapterWeight {
  const is = kind ?? (part === 'weight' ? kindOf(path, tensor.shape, new Set()) : 'vector');
  const {values} = tensor;
  let weight: HostTensor;
  if (is !== 'vector' && tensor.shape.length < 2) {
    return fail(module, `has a ${part} [${tensor.shape}], and ${path} of this model is [${shape ?? '…'}]`);
  }
  if (is === 'vector' || is === 'embedding') weight = tensor;
  else if (is === 'dense' && isTurned(module, tensor.shape, shape, config, isConv1D)) weight = tensor;
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

/** Whether a module holds its matrix as `[in, out]`. */
function isTurned(
  module: string,
  given: readonly number[],
  wanted: readonly number[] | null,
  {fanInFanOut}: PeftConfig,
  isConv1D: FromPeftOptions['fanInFanOut'],
): boolean {
  if (isConv1D) return isConv1D(module);
  const [rows, columns] = given;
  if (rows !== columns) return wanted !== null && String(wanted) === String(given);
  if (!fanInFanOut) return false;
  return fail(
    module,
    `has a whole weight [${given}], and with fan_in_fan_out it may be a Conv1D's, [in, out], or a Linear's, [out, in]; ` +
      'give `fanInFanOut: module => …`, true for those of Conv1D',
  );
}

function fail(module: string, reason: string): never {
  throw errorOf(`fromPeft: ${module} ${reason}`);
}
