// What a user may write behind the name of an example.
import {parseArgs} from 'node:util';

/** Something the user can set right: shown as one line, without a stack. */
export class UserError extends Error {}

/**
 * Reads `--name value` and `--flag`. A default says what a value is: a number, a text, or false for a flag.
 * @param {Record<string, {default?: number | string | boolean, is: string, least?: number, among?: string[]}>} known
 *     by name: the default, what it is in a few words, the least number allowed, or the texts to choose from
 */
export function readArguments(known, args = process.argv.slice(2)) {
  const options = Object.fromEntries(
    Object.entries(known).map(([name, {default: usual}]) => [
      name,
      {type: typeof usual === 'boolean' ? 'boolean' : 'string'},
    ]),
  );
  let values;
  try {
    ({values} = parseArgs({args, options: {...options, help: {type: 'boolean', short: 'h'}}}));
  } catch (error) {
    throw new UserError(`${error.message.split(/[.\n]/)[0]}; there is ${names(known)}`);
  }
  if (values.help) {
    for (const [name, {default: usual, is}] of Object.entries(known))
      console.log(`--${name.padEnd(12)}${is}${usual === undefined || usual === false ? '' : ` (${usual})`}`);
    process.exit(0);
  }
  const read = Object.entries(known).map(([name, {default: usual, least = 0, among}]) => {
    const given = values[name];
    if (given === undefined) return [name, usual];
    if (among && !among.includes(given))
      throw new UserError(`--${name} takes ${among.join(', ')}, got "${given}"`);
    if (typeof usual !== 'number') return [name, given];
    const number = Number(given);
    const isWhole = !Number.isInteger(usual) || Number.isInteger(number);
    if (given.trim() === '' || !Number.isFinite(number) || number < least || !isWhole) {
      const kind = Number.isInteger(usual) ? 'a whole number' : 'a number';
      throw new UserError(`--${name} takes ${kind} from ${least} on, got "${given}"`);
    }
    return [name, number];
  });
  return Object.fromEntries(read);
}

const names = known =>
  Object.keys(known)
    .map(name => `--${name}`)
    .join(', ');

/** Runs a program: what the user can set right ends it with one line. */
export async function program(name, main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 2;
  }
}
