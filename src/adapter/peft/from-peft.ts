import {expectOptions} from '../../options.js';
import type {Adapter, AdapterWeight} from '../adapter.js';
import {expectBytes, expectWeights} from '../expect.js';
import {given} from '../given.js';
import type {WeightsOf} from '../paths.js';
import {errorOf} from '../untrusted.js';
import {readPeftConfig} from './config.js';
import {finder} from './finder.js';
import {type ModuleNames, type Part, PARTS, refuse} from './mapping.js';
import {asNoted, readNotes} from './notes.js';
import {expectBase, factoredWeight, hasFactors, readFactors} from './read-factors.js';
import {wholeWeight} from './read-whole.js';
import {modulesOf} from './stored.js';

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
 * noted, or is the module's name with slashes and `/kernel`. What else `toPeft` noted is taken over: the order of the
 * weights, the prints of their bases, what wrote the adapter and what the user keeps with it.
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
  const notes = readNotes(metadata);
  const find = finder(options, notes.paths);
  const weights: {parameter: string; weight: AdapterWeight}[] = [];
  const taken = new Map<string, string>();
  const add = (module: string, part: Part, weight: AdapterWeight) => {
    const other = taken.get(weight.path);
    if (other !== undefined) {
      throw errorOf(
        `fromPeft: ${other} and ${module} would both be ${weight.path}; tell them apart by \`paths\``,
      );
    }
    taken.set(weight.path, module);
    weights.push({parameter: `${module}.${part}`, weight});
  };
  for (const [module, parts] of modules) {
    if (parts.has('weight') && hasFactors(parts)) {
      refuse(module, 'has both a whole weight and factors; leave it out of modules_to_save');
    }
    for (const [part, [name]] of PARTS) {
      const tensor = parts.get(part);
      const place = tensor && find(module, part, name === undefined ? null : `${slashed(module)}/${name}`);
      if (place) add(module, part, wholeWeight(module, part, tensor, place, config, options.fanInFanOut));
    }
    const factors = readFactors(module, parts, config);
    const name = factors?.kind === 'embedding' ? 'embeddings' : 'kernel';
    const place = factors && find(module, 'weight', `${slashed(module)}/${name}`);
    if (place) add(module, 'weight', factoredWeight(module, factors, place, config));
    const base = parts.get('base_layer.weight');
    if (base && !factors)
      refuse(module, 'has a base_layer.weight and no factors; save the adapter again, whole');
    if (place && base) expectBase(module, base, place);
  }
  if (weights.length === 0) throw errorOf('fromPeft: the files hold no weight');
  const {peft_version: version, ...own} = config.notes;
  const {generatedBy = 'PEFT', ...noted} = asNoted(weights, notes);
  return {
    ...noted,
    generatedBy: version === undefined ? generatedBy : `PEFT ${version}`.trim(),
    metadata: {...noted.metadata, ...own},
  };
}

const slashed = (module: string): string => module.replaceAll('.', '/');

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
