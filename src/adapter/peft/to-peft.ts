import {read} from '../../linalg/read.js';
import {expectOptions} from '../../options.js';
import type {Adapter, HostTensor} from '../adapter.js';
import {expectAdapter, expectWeights} from '../expect.js';
import type {HostArray} from '../host.js';
import {kindOf} from '../layers.js';
import {NoPlace} from '../no-place.js';
import {namedWeights, type WeightsOf} from '../paths.js';
import type {ExactProduct} from '../product.js';
import {encodeSafetensors, type FloatDtype} from '../safetensors.js';
import {errorOf, visible} from '../untrusted.js';
import {writePeftConfig} from './config.js';
import {factorsThere, wholeLayout} from './layouts.js';
import {moduleOf, type ModuleNames, partOf, PREFIX} from './mapping.js';
import {writeNotes} from './notes.js';
import {savedBy, UNLIMITED} from './patterns.js';
import {expectNoStatistics, isPair, moduleFor, type Place, placeOf} from './places.js';
import {inRangeOfHalf} from './range.js';

/** What PEFT (Hugging Face) saves and loads as a folder. */
export interface PeftFiles {
  readonly 'adapter_config.json': string;
  readonly 'adapter_model.safetensors': Uint8Array;
  readonly 'README.md': string;
}

export interface ToPeftOptions {
  /** Default: the path without the weight's own name, with dots: `block0/query/kernel` is of `block0.query`. */
  names?: ModuleNames;
  /**
   * The model. Tells the kernel of a recurrent layer by its `recurrent_kernel`, what else `target_modules` would mean, and
   * what of a module trained whole is not in the adapter: that is read from the model's variables, as they are now.
   */
  model?: WeightsOf;
  /** How numbers are written. Default 'F32'. */
  dtype?: FloatDtype;
  /** Leaves out what PEFT has no place for, instead of an error. Default false. */
  skip?: boolean;
  /**
   * Which dense layers are GPT-2's `Conv1D`, which holds its weight as `[in, out]`: by the name of the module; true means
   * those with factors, and none of those trained whole. Default false.
   */
  fanInFanOut?: boolean | ((module: string) => boolean);
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
 *   DoRA beside LoRA, for two weights of one name, for numbers that are not finite, and where PEFT could not load the
 *   files, because `modules_to_save` would take more than there is; each names the weight and what to do.
 */
export function toPeft(adapter: Adapter, options: ToPeftOptions = {}): PeftFiles {
  const known = ['names', 'model', 'dtype', 'skip', 'fanInFanOut', 'baseModel', 'taskType'];
  expectOptions('toPeft', options, known);
  expectAdapter('toPeft', adapter);
  if (options.model !== undefined) expectWeights('toPeft: model', options.model);
  const {names = moduleOf, dtype = 'F32', skip = false, fanInFanOut = false} = options;
  const isConv1D = typeof fanInFanOut === 'function' ? fanInFanOut : () => false;
  const variables = options.model && namedWeights(options.model);
  const paths = new Set([...adapter.weights.map(({path}) => path), ...(variables?.keys() ?? [])]);

  const places = new Map<string, Place>();
  const put = (place: Place) => {
    const taken = places.get(place.parameter);
    if (taken) {
      throw errorOf(
        `toPeft: ${taken.weight.path} and ${place.weight.path} would both be ${place.parameter}; tell them apart by \`names\``,
      );
    }
    places.set(place.parameter, place);
  };
  for (const weight of adapter.weights) {
    const module = moduleFor(names, weight.path);
    if (module === null) continue;
    try {
      if (!variables) expectNoStatistics(weight);
      put(placeOf(weight, module, kindOf(weight.path, weight.shape, paths)));
    } catch (error) {
      if (!skip || !(error instanceof NoPlace)) throw error;
    }
  }
  const pairs = [...places.values()].filter(isPair);
  if (pairs.length === 0) {
    throw errorOf(
      'toPeft: no weight has learned through factors, and PEFT has no adapter without; save the model itself',
    );
  }
  const isDora = pairs.some(({pair}) => pair.magnitude);
  const plain = pairs.find(({pair}) => !pair.magnitude);
  if (isDora && plain) {
    throw errorOf(
      `toPeft: ${plain.weight.path} is LoRA and others are DoRA, and PEFT has one use_dora for all; write two adapters, ` +
        'with `names` that return null for the weights of the other',
    );
  }
  const adapted = new Set(pairs.map(({module}) => module));
  const saved = new Set(
    [...places.values()].flatMap(({pair, module, weight}) =>
      pair === null && partOf(weight.path) !== 'bias' ? [module] : [],
    ),
  );
  const frozen = [...(variables ?? [])].flatMap(([path, {shape}]) => {
    const module = moduleFor(names, path);
    return module === null ? [] : [{path, module, parameter: `${module}.${partOf(path)}`, shape}];
  });
  const isSaved = savedBy([...saved], UNLIMITED);
  for (const {module, weight} of places.values()) {
    if (adapted.has(module) && isSaved(module)) throw taken(weight.path, module, saved);
  }
  if (isSaved(PREFIX.slice(0, -1))) throw taken('the whole model', PREFIX.slice(0, -1), saved);
  // What PEFT copies with the modules trained whole, and reads from the file.
  for (const {path, module, parameter, shape} of frozen) {
    if (places.has(parameter) || !isSaved(module)) continue;
    const kind = kindOf(path, shape, paths);
    if (kind === 'recurrent') throw taken(path, module, saved);
    const values = read(variables!.get(path)!, visible(`toPeft: ${path}`)).slice();
    const weight = {
      path,
      shape,
      parametrization: null,
      factors: {weight: {shape, values}},
      frozen: {},
      base: null,
    };
    put({weight, module, parameter, kind, pair: null});
  }
  for (const {module, parameter, weight} of places.values()) {
    if (isSaved(module) && !saved.has(module) && !places.has(`${module}.weight`)) {
      throw errorOf(
        `toPeft: ${weight.path} is ${parameter}, and PEFT would look for ${module}.weight too, because ${module} ends as ` +
          `a module trained whole does, ${endOf(module, saved)}; give \`model\`, or tell them apart by \`names\``,
      );
    }
  }

  // Of rank-stabilised factors as they are; what was made of others has its scale in alpha.
  const rankStabilised = pairs.every(({pair}) => pair.scaling?.rankStabilised);
  const tensors = new Map<string, HostTensor>();
  const write = (path: string, name: string, {shape, values}: HostArray) => {
    const narrow = values instanceof Float64Array ? Float32Array.from(values) : values;
    const bad = narrow.find(value => !Number.isFinite(value));
    if (bad !== undefined) throw errorOf(`toPeft: ${path} has ${bad} in ${name}; it must be finite`);
    tensors.set(PREFIX + name, {shape, values: narrow});
  };
  const settings = pairs.map(({module, kind, weight, pair: exact}) => {
    const {pair, alpha} = dtype === 'F16' ? inRangeOfHalf(exact) : {pair: exact, alpha: 1};
    const {left: a, right: b, magnitude} = pair;
    const [ins, outs] = [weight.shape.at(-2)!, weight.shape.at(-1)!];
    const sizes = {window: weight.shape.slice(0, -2), ins, outs, rank: b.shape[0]!};
    for (const [name, tensor] of Object.entries(
      factorsThere(kind === 'embedding', sizes, {a, b, magnitude}),
    )) {
      write(weight.path, `${module}.${name}`, tensor);
    }
    return {module, rank: pair.left.shape[1]!, alpha: alpha * alphaOf(pair, rankStabilised)};
  });
  const bad = settings.find(({alpha}) => !Number.isFinite(alpha) || alpha === 0);
  if (bad) throw errorOf(`toPeft: ${bad.module} would have the lora_alpha ${bad.alpha}`);
  const whole = [...places.values()].filter(place => !isPair(place));
  for (const {module, kind, weight, parameter} of whole) {
    const tensor = weight.factors['weight'];
    if (!tensor)
      throw errorOf(`toPeft: ${weight.path} was trained whole, and the adapter has no 'weight' for it`);
    const isInside = parameter === `${module}.bias` && adapted.has(module);
    const name = isInside ? `${module}.base_layer.bias` : parameter;
    write(weight.path, name, wholeLayout(kind, isConv1D(module)).there(tensor));
    if (partOf(weight.path) !== 'running_mean') continue;
    write(weight.path, `${module}.num_batches_tracked`, {shape: [], values: new Int32Array(1)});
    // PyTorch's has both or neither.
    for (const [name, value] of [
      ['weight', 1],
      ['bias', 0],
    ] as const) {
      if (places.has(`${module}.${name}`)) continue;
      const values = new Float32Array(tensor.values.length).fill(value);
      write(weight.path, `${module}.${name}`, {shape: tensor.shape, values});
    }
  }
  const modules = new Set([...places.values(), ...frozen].map(({module}) => module));
  return {
    'adapter_config.json': writePeftConfig(settings, {
      rankStabilised,
      dora: isDora,
      fanInFanOut: fanInFanOut === true || pairs.some(({module}) => isConv1D(module)),
      bias: whole.some(({parameter, module}) => parameter === `${module}.bias` && !isSaved(module))
        ? 'all'
        : 'none',
      modulesToSave: [...saved],
      others: [...new Set([...modules].flatMap(withAncestors))],
      baseModel: options.baseModel,
      taskType: options.taskType,
    }),
    'adapter_model.safetensors': encodeSafetensors(
      {tensors, metadata: {format: 'pt', ...writeNotes(adapter, [...places.values()])}},
      dtype,
    ),
    'README.md': readme(options.baseModel, adapter.generatedBy),
  };
}

/** PEFT would copy a module because its name, or that of what it is in, ends as that of one trained whole. */
function taken(path: string, module: string, saved: ReadonlySet<string>): Error {
  return errorOf(
    `toPeft: ${path} is of ${module}, and ${endOf(module, saved)} was trained whole: PEFT's modules_to_save means every ` +
      'module whose name ends so, and could not load this one. Leave one of both out, or name it otherwise, by `names`',
  );
}
const endOf = (module: string, saved: ReadonlySet<string>): string =>
  [...saved].find(name => savedBy([name], UNLIMITED)(module))!;

/** `a.b.c` with `a` and `a.b`, which hold it. */
function withAncestors(module: string): string[] {
  const names = module.split('.');
  return names.map((_, i) => names.slice(0, i + 1).join('.'));
}

/** lora_alpha: the method's own where it can stay, else so that alpha/k is the scale. */
function alphaOf({scale, scaling, right}: ExactProduct, rankStabilised: boolean): number {
  return scaling?.rankStabilised === rankStabilised ? scaling.alpha : scale * right.shape[0]!;
}

function readme(baseModel: string | undefined, generatedBy: string): string {
  const base = baseModel === undefined ? '' : `base_model: ${JSON.stringify(baseModel)}\n`;
  return `---\n${base}library_name: peft\n---\n\nTrained in TensorFlow.js with ${generatedBy}.\n`;
}
