import {expectOptions} from '../../options.js';
import type {Adapter, HostTensor} from '../adapter.js';
import {expectAdapter, expectWeights} from '../expect.js';
import type {HostArray} from '../host.js';
import type {WeightsOf} from '../paths.js';
import type {ExactProduct} from '../product.js';
import {encodeSafetensors, type FloatDtype} from '../safetensors.js';
import {errorOf} from '../untrusted.js';
import {writePeftConfig} from './config.js';
import {gather} from './gather.js';
import {factorsThere, wholeLayout} from './layouts.js';
import {type ModuleNames, partOf, PREFIX} from './mapping.js';
import {writeNotes} from './notes.js';
import {isPair} from './places.js';
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
  const {dtype = 'F32', fanInFanOut = false} = options;
  const isConv1D = typeof fanInFanOut === 'function' ? fanInFanOut : () => false;
  const {places, modules, saved, isSaved} = gather(adapter, options);
  const pairs = [...places.values()].filter(isPair);
  const adapted = new Set(pairs.map(({module}) => module));

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
  return {
    'adapter_config.json': writePeftConfig(settings, {
      rankStabilised,
      dora: pairs.some(({pair}) => pair.magnitude),
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
