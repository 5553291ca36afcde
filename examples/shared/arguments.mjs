// Reads the arguments of an example: `--name value`, `--name=value` and flags.
import {parseArgs} from 'node:util';

/** Something that the user can set right: shown as one line, without a stack; the exit code is 2. */
export class UsageError extends Error {}

/**
 * What the examples have in common.
 * @type {Record<string, Option>}
 */
export const usual = {
  data: {is: 'the folder of the data sets', kind: 'text'},
  'self-made': {is: 'run on data made in code, without any files', kind: 'flag'},
  out: {is: 'the folder to write to, new or empty; default: one in runs/', kind: 'text'},
  steps: {is: 'training steps', kind: 'whole'},
  batch: {is: 'examples in a batch', kind: 'whole', default: 32},
  seed: {is: 'the seed of everything random', kind: 'from 0', default: 0},
  backend: {is: 'the backend of tfjs', kind: ['wasm', 'cpu']},
};

/**
 * @typedef {object} Option
 * @property {string} is what it is, in a few words
 * @property {'flag' | 'text' | 'whole' | 'from 0' | 'number' | string[]} kind 'whole': a whole number of at least 1;
 *   'from 0': of at least 0; 'number': above 0; a list: the words it takes, the first of which is the default
 * @property {string | number} [default]
 */

/**
 * @param {Record<string, Option>} known the options by name; `--help`, which lists them, is always there
 * @returns the values by name: where not given the default, undefined without one, false for a flag
 */
export function readArguments(known, args = process.argv.slice(2)) {
  const all = {...known, help: {is: 'say this', kind: 'flag'}};
  const names = Object.keys(all);
  const options = Object.fromEntries(
    names.map(name => [name, {type: all[name].kind === 'flag' ? 'boolean' : 'string'}]),
  );
  const {tokens} = parseArgs({args, options, strict: false, tokens: true});
  const given = Object.fromEntries(names.map(name => [name, defaultOf(all[name])]));
  const seen = new Set();
  for (const {kind, name, rawName = '--', value} of tokens) {
    if (kind === 'positional') throw new UsageError(`unexpected argument "${value}"`);
    if (kind !== 'option' || !names.includes(name)) {
      throw new UsageError(`unknown option ${rawName}: there is ${names.map(n => `--${n}`).join(', ')}`);
    }
    if (seen.has(name)) throw new UsageError(`--${name} is given twice`);
    seen.add(name);
    given[name] = read(name, all[name].kind, value);
  }
  if (given.help) {
    for (const [name, option] of Object.entries(known)) console.log(described(name, option));
    process.exit(0);
  }
  return given;
}

const defaultOf = ({kind, default: value}) =>
  kind === 'flag' ? false : (value ?? (Array.isArray(kind) ? kind[0] : undefined));

function described(name, option) {
  const words = Array.isArray(option.kind) ? `: ${option.kind.join(' or ')}` : '';
  const value = defaultOf(option);
  const unless = value === undefined || value === false ? '' : ` (${value})`;
  return `--${name.padEnd(12)}${option.is}${words}${unless}`;
}

function read(name, kind, value) {
  if (kind === 'flag') {
    if (value !== undefined) throw new UsageError(`--${name} takes no value, got "${value}"`);
    return true;
  }
  if (value === undefined || value === '') throw new UsageError(`--${name} needs a value`);
  if (Array.isArray(kind)) {
    if (kind.includes(value)) return value;
    throw new UsageError(`--${name} takes ${kind.join(' or ')}, not "${value}"`);
  }
  if (kind === 'text') return value;
  const number = value.trim() === '' ? NaN : Number(value);
  const least = kind === 'whole' ? 1 : 0;
  if (kind === 'number' && !(Number.isFinite(number) && number > 0)) {
    throw new UsageError(`--${name} must be a number above 0, not "${value}"`);
  }
  if (kind !== 'number' && !(Number.isSafeInteger(number) && number >= least)) {
    throw new UsageError(`--${name} must be a whole number of at least ${least}, not "${value}"`);
  }
  return number;
}

/** Runs a program; what the user can set right becomes one line. */
export async function run(name, main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 2;
  }
}
