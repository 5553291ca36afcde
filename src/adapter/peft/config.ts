import {type Json, parseStrictJson} from '../json.js';
import {visible} from '../untrusted.js';
import {byPattern, escaped, type Pattern, patternsFor, savedBy} from './patterns.js';
import {Budget} from './regex.js';

/** What of `adapter_config.json` says how the tensors make the change. */
export interface PeftConfig {
  readonly rankStabilised: boolean;
  readonly dora: boolean;
  readonly fanInFanOut: boolean;
  readonly bias: 'none' | 'all' | 'lora_only';
  readonly modulesToSave: readonly string[];
  /** Kept with the adapter: the base model, the task, the version of PEFT. */
  readonly notes: Readonly<Record<string, string>>;
  rankOf(module: string): number;
  alphaOf(module: string): number;
  /** Whether `modules_to_save` takes it, by itself or with what it is in. */
  isSaved(module: string): boolean;
}

/** Comparisons of one character; about a second. */
const MOST_WORK = 1e8;
const MOST_SAVED = 10_000;

/** Starts of PEFT that change the weights of the base when an adapter is loaded, unless it was converted. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/i;

/** Features of PEFT's LoRA whose tensors are no `W + s B A`; each is off when it has one of these values. */
const NOT_READ = [
  ['lora_bias', 'train without lora_bias'],
  ['target_parameters', 'name modules in target_modules instead'],
  ['trainable_token_indices', 'train the whole embedding in modules_to_save instead'],
  ['layer_replication', 'merge it in Python'],
  ['use_qalora', 'merge it in Python'],
  ['use_bdlora', 'merge it in Python'],
  ['alora_invocation_tokens', 'merge it in Python'],
  ['arrow_config', 'merge it in Python'],
] as const;

/** @throws Error that names the key, what it says and what to do. */
export function readPeftConfig(config: string | object): PeftConfig {
  let read: Json;
  try {
    read = parseStrictJson(typeof config === 'string' ? config : JSON.stringify(config), 16);
  } catch (error) {
    return fail(`is no JSON: ${(error as Error).message}`);
  }
  if (!(read instanceof Map)) return fail('is no JSON object');
  const json = read as ReadonlyMap<string, Json>;
  const type = json.get('peft_type');
  if (type !== 'LORA') {
    fail(`has the peft_type ${show(type)}; only 'LORA' is read. PEFT's save_as_lora converts some others`);
  }
  for (const [key, fix] of NOT_READ) {
    const value = json.get(key);
    const isOff =
      !value || (Array.isArray(value) && value.length === 0) || (value instanceof Map && value.size === 0);
    if (!isOff) fail(`has ${key}: ${show(value)}, which is not read; ${fix}`);
  }
  const start = json.get('init_lora_weights');
  if (typeof start === 'string' && CHANGES_BASE.test(start)) {
    fail(
      `has init_lora_weights: '${start}', so the factors belong to a base that this start has changed. Save it with ` +
        'path_initial_model_for_weight_conversion, which makes it a plain LoRA',
    );
  }
  const flag = (key: string): boolean => {
    const value = json.get(key) ?? false;
    return typeof value === 'boolean' ? value : fail(`has ${key}: ${show(value)}; it must be true or false`);
  };
  const number = (key: string): number => {
    const value = json.get(key) ?? 8;
    return typeof value === 'number' ? value : fail(`has ${key}: ${show(value)}; it must be a number`);
  };
  const bias = json.get('bias') ?? 'none';
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only') {
    return fail(`has bias: ${show(bias)}; it must be 'none', 'all' or 'lora_only'`);
  }
  const kept = json.get('modules_to_save') ?? [];
  if (!Array.isArray(kept) || !kept.every(name => typeof name === 'string')) {
    return fail('has modules_to_save that are no list of names');
  }
  if (kept.length > MOST_SAVED || kept.some(name => (name as string).length > 255)) {
    fail(`has ${kept.length} names in modules_to_save; ${MOST_SAVED} are the most, of 255 characters each`);
  }
  const [r, alpha] = [number('r'), number('lora_alpha')];
  const budget = new Budget(MOST_WORK, () =>
    fail('has patterns that are too involved for so many modules; name the modules one by one'),
  );
  const [rankFound, alphaFound] = (['rank_pattern', 'alpha_pattern'] as const).map(key => {
    try {
      return byPattern(patternsOf(json, key), budget);
    } catch (error) {
      if (error instanceof Refused) throw error;
      return fail((error as Error).message);
    }
  }) as [ReturnType<typeof byPattern>, ReturnType<typeof byPattern>];
  const notes = ['base_model_name_or_path', 'task_type', 'peft_version'].flatMap(key => {
    const value = json.get(key);
    return typeof value === 'string' ? [[key, value]] : [];
  });
  return {
    rankStabilised: flag('use_rslora'),
    dora: flag('use_dora'),
    fanInFanOut: flag('fan_in_fan_out'),
    bias,
    modulesToSave: kept,
    notes: Object.fromEntries(notes) as Record<string, string>,
    rankOf: module => rankFound(module) ?? r,
    alphaOf: module => alphaFound(module) ?? alpha,
    isSaved: savedBy(kept as readonly string[], budget),
  };
}

/** What `adapter_config.json` is to say of each module. */
export interface ModuleSettings {
  readonly module: string;
  readonly rank: number;
  readonly alpha: number;
}

export interface WrittenConfig extends Pick<
  PeftConfig,
  'rankStabilised' | 'dora' | 'fanInFanOut' | 'bias' | 'modulesToSave'
> {
  /** All other modules that are known, and what they are in: what `target_modules` must not mean. */
  readonly others: readonly string[];
  readonly baseModel?: string | undefined;
  readonly taskType?: string | undefined;
}

/** The text of `adapter_config.json`. Only keys that PEFT has known since 0.9, so that older versions read it too. */
export function writePeftConfig(modules: readonly ModuleSettings[], config: WrittenConfig): string {
  const [r, alpha] = [commonest(modules.map(m => m.rank)), commonest(modules.map(m => m.alpha))];
  const patterns = (key: 'rank' | 'alpha', common: number) => {
    const all = new Map(modules.map(m => [m.module, m[key]]));
    const others = new Map([...all].filter(([, value]) => value !== common));
    return Object.fromEntries(patternsFor(others, all, common));
  };
  const json = {
    alpha_pattern: patterns('alpha', alpha),
    base_model_name_or_path: config.baseModel ?? null,
    bias: config.bias,
    fan_in_fan_out: config.fanInFanOut,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: config.modulesToSave.length > 0 ? config.modulesToSave : null,
    peft_type: 'LORA',
    r,
    rank_pattern: patterns('rank', r),
    target_modules: targets(
      modules.map(m => m.module),
      config.others,
    ),
    task_type: config.taskType ?? null,
    use_dora: config.dora,
    use_rslora: config.rankStabilised,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

/**
 * `target_modules`. In a list, `fc` also means `enc.fc`, and PEFT would wait for factors of that: where it must not, the
 * names become one regular expression, which PEFT holds against whole names.
 */
function targets(modules: readonly string[], others: readonly string[]): readonly string[] | string {
  const names = new Set(modules);
  const isAlsoMeant = others.some(other => {
    if (names.has(other)) return false;
    for (let at = other.indexOf('.'); at >= 0; at = other.indexOf('.', at + 1)) {
      if (names.has(other.slice(at + 1))) return true;
    }
    return false;
  });
  return isAlsoMeant ? `^(${modules.map(escaped).join('|')})$` : modules;
}

function patternsOf(json: ReadonlyMap<string, Json>, key: string): Pattern[] {
  const patterns = json.get(key) ?? new Map<string, Json>();
  if (!(patterns instanceof Map)) return fail(`has ${key}: ${show(patterns)}; it must be an object`);
  return [...(patterns as ReadonlyMap<string, Json>)].map(([pattern, value]) => {
    if (typeof value === 'number') return [pattern, value] as const;
    return fail(`has ${key} '${pattern}': ${show(value)}; it must be a number`);
  });
}

/** The most frequent one, and of several the smallest; 8, PEFT's default, of none. */
function commonest(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [first] = [...counts].sort(([a, times], [b, more]) => more - times || a - b);
  return first?.[0] ?? 8;
}

const show = (value: Json | undefined): string =>
  (value instanceof Map ? 'an object' : (JSON.stringify(value) ?? 'left out')).slice(0, 80);

class Refused extends Error {
  override readonly name = 'Error';

  constructor(message: string) {
    super(visible(message));
  }
}

function fail(reason: string): never {
  throw new Refused(`fromPeft: adapter_config.json ${reason}`);
}
