// Reads the arguments of an example: `--name value`, `--name=value` and flags.
import {parseArgs} from 'node:util';

/** A mistake in how a program was called: shown as one line; the exit code is 2. */
export class UsageError extends Error {}

/**
 * @param kinds for each option 'flag', 'text', 'whole' (a whole number of at least 1), 'number' (above 0), or a list
 *   of the words it takes, the first of which is the default
 * @returns the options by name; those not given are undefined, false for a flag
 */
export function readArguments(kinds, args = process.argv.slice(2)) {
  const names = Object.keys(kinds);
  const options = Object.fromEntries(
    names.map(name => [name, {type: kinds[name] === 'flag' ? 'boolean' : 'string'}]),
  );
  let tokens;
  try {
    ({tokens} = parseArgs({args, options, strict: false, tokens: true}));
  } catch (error) {
    throw new UsageError(error.message);
  }
  const given = Object.fromEntries(
    names.map(name => [
      name,
      kinds[name] === 'flag' ? false : Array.isArray(kinds[name]) ? kinds[name][0] : undefined,
    ]),
  );
  const seen = new Set();
  for (const {kind, name, rawName = '--', value} of tokens) {
    if (kind === 'positional') throw new UsageError(`unexpected argument "${value}"`);
    if (kind !== 'option' || !names.includes(name)) {
      throw new UsageError(`unknown option ${rawName}: there is ${names.map(n => `--${n}`).join(', ')}`);
    }
    if (seen.has(name)) throw new UsageError(`--${name} is given twice`);
    seen.add(name);
    given[name] = read(name, kinds[name], value);
  }
  return given;
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
  const number = Number(value);
  if (kind === 'whole' && !(Number.isSafeInteger(number) && number >= 1)) {
    throw new UsageError(`--${name} must be a whole number of at least 1, not "${value}"`);
  }
  if (!(Number.isFinite(number) && number > 0)) {
    throw new UsageError(`--${name} must be a number above 0, not "${value}"`);
  }
  return number;
}

/** Runs a program; a mistake in its call becomes one line. */
export async function run(name, main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 2;
  }
}
