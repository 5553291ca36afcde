import {type Json, parseStrictJson} from './json.js';

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
}

/** Starts of PEFT that change the weights of the base when an adapter is loaded, unless it was converted. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

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
  const [r, alpha] = [number('r'), number('lora_alpha')];
  const [ranks, alphas] = [patternsOf(json, 'rank_pattern'), patternsOf(json, 'alpha_pattern')];
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
    rankOf: module => byPattern(ranks, module) ?? r,
    alphaOf: module => byPattern(alphas, module) ?? alpha,
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
  readonly baseModel?: string | undefined;
  readonly taskType?: string | undefined;
}

/** The text of `adapter_config.json`. Only keys that PEFT has known since 0.9, so that older versions read it too. */
export function writePeftConfig(modules: readonly ModuleSettings[], config: WrittenConfig): string {
  const [r, alpha] = [commonest(modules.map(m => m.rank)), commonest(modules.map(m => m.alpha))];
  const patterns = (key: 'rank' | 'alpha', common: number) => {
    const others = new Map(modules.filter(m => m[key] !== common).map(m => [m.module, m[key]]));
    return Object.fromEntries(patternsFor(others, modules, key, common));
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
    target_modules: modules.map(m => m.module),
    task_type: config.taskType ?? null,
    use_dora: config.dora,
    use_rslora: config.rankStabilised,
  };
  return `${JSON.stringify(json, null, 2)}\n`;
}

/**
 * Patterns that give every module its number. PEFT takes a key for a regular expression that must match the end of a
 * module's name from a dot on, and the first that does wins: so `b` would also mean `a.b`. Longer names go first; where
 * a plain name still means another module too, it is escaped and anchored, which PEFT understands from 0.15 on.
 */
function patternsFor(
  others: ReadonlyMap<string, number>,
  modules: readonly ModuleSettings[],
  key: 'rank' | 'alpha',
  common: number,
): (readonly [string, number])[] {
  const plain = [...others].sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1));
  const isRight = (patterns: readonly (readonly [string, number])[]) => {
    try {
      return modules.every(m => (byPattern(patterns, m.module) ?? common) === m[key]);
    } catch {
      return false;
    }
  };
  if (isRight(plain)) return plain;
  return plain.map(([name, value]) => [`^${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`, value]);
}

function patternsOf(json: ReadonlyMap<string, Json>, key: string): (readonly [string, number])[] {
  const patterns = json.get(key) ?? new Map<string, Json>();
  if (!(patterns instanceof Map)) return fail(`has ${key}: ${show(patterns)}; it must be an object`);
  return [...(patterns as ReadonlyMap<string, Json>)].map(([pattern, value]) => {
    if (typeof value === 'number') return [pattern, value] as const;
    return fail(`has ${key} '${pattern}': ${show(value)}; it must be a number`);
  });
}

function byPattern(patterns: readonly (readonly [string, number])[], module: string): number | undefined {
  const found = patterns.find(([pattern]) => matchesEnd(pattern, module));
  return (found ?? patterns.find(([pattern]) => pattern === module))?.[1];
}

/** `(.*\.)?(pattern)$`, as PEFT has it. */
function matchesEnd(pattern: string, module: string): boolean {
  if (/^[\w.]*$/.test(pattern)) {
    const rest = module.length - pattern.length;
    if (rest < 0 || (rest > 0 && module[rest - 1] !== '.')) return false;
    return [...pattern].every((character, i) => character === '.' || character === module[rest + i]);
  }
  // A pattern of a file may be made to take forever: what repeats within what repeats, or many times in a row.
  const repeats = pattern.match(/[^\\][*+]|\{\d+,/g)?.length ?? 0;
  if (/\)[*+{]/.test(pattern) || repeats > 4 || pattern.length > 500 || module.length > 256) {
    return fail(
      `has the pattern '${pattern}', which is too involved to be tried; name the modules one by one`,
    );
  }
  try {
    return new RegExp(`^(.*\\.)?(${pattern})$`).test(module);
  } catch (error) {
    return fail(`has the pattern '${pattern}': ${(error as Error).message}`);
  }
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

function fail(reason: string): never {
  throw new Error(`fromPeft: adapter_config.json ${reason}`);
}
