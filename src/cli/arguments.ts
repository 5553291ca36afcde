import {UsageError} from './usage-error.js';

/**
 * What an option takes: nothing, one value, values until the next option (and it may be given again), or such a list
 * that may be empty.
 */
export type OptionKind = 'flag' | 'value' | 'values' | 'list';

/** The options that were given: true for a flag, a text for a value, a list for values. */
export type Given<S extends Record<string, OptionKind>> = {
  [K in keyof S]?: S[K] extends 'flag' ? true : S[K] extends 'value' ? string : string[];
};

const short: Record<string, string> = {'-h': '--help'};

/**
 * Reads `--name value`, `--name=value` and flags. The argument after an option is its value even when it begins
 * with one dash, as negative numbers do.
 * @throws UsageError for an unknown option, one that is given twice or lacks its value, and anything else
 */
export function readArguments<S extends Record<string, OptionKind>>(
  args: readonly string[],
  kinds: S,
): Given<S> {
  const {given, places} = readPlaces(args, kinds);
  if (places.length > 0) throw new UsageError(`unexpected argument ${quoted(places[0]!)}`);
  return given;
}

/** The same for a command that takes arguments without a name too: `places`, in their order. */
export function readPlaces<S extends Record<string, OptionKind>>(
  args: readonly string[],
  kinds: S,
): {given: Given<S>; places: string[]} {
  const places: string[] = [];
  const given: Record<string, true | string | string[]> = {};
  const left = [...args];
  while (left.length > 0) {
    const argument = left.shift()!;
    const [option, ...inline] = (short[argument] ?? argument).split('=') as [string, ...string[]];
    if (!option.startsWith('-')) {
      places.push(argument);
      continue;
    }
    const name = option.slice(2);
    if (!option.startsWith('--') || !Object.hasOwn(kinds, name)) {
      const names = Object.keys(kinds).map(known => `--${known}`);
      throw new UsageError(`unknown option ${option}: there is ${names.join(', ')}`);
    }
    const values = inline.length > 0 ? [inline.join('=')] : [];
    const next = () => left.length > 0 && !left[0]!.startsWith('--') && !(left[0]! in short);
    if (kinds[name] === 'flag') {
      if (values.length > 0) throw new UsageError(`${option} takes no value, got ${quoted(values[0]!)}`);
      given[name] = true;
      continue;
    }
    if (values.length === 0 && next()) values.push(left.shift()!);
    if (values.length === 0 && kinds[name] !== 'list') throw new UsageError(`${option} needs a value`);
    if (kinds[name] === 'values' || kinds[name] === 'list') {
      while (next()) values.push(left.shift()!);
      given[name] = [...((given[name] as string[] | undefined) ?? []), ...values];
    } else {
      if (given[name] !== undefined) throw new UsageError(`${option} is given twice`);
      given[name] = values[0]!;
    }
  }
  return {given: given as Given<S>, places};
}

export const quoted = (text: string): string => `"${text}"`;
