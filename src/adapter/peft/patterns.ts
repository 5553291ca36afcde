import {Budget, endPattern} from './regex.js';

/** A number for the modules whose name ends as the pattern says. */
export type Pattern = readonly [pattern: string, value: number];

const MOST = 10_000;
const LONGEST = 2000;

/**
 * The number of a module: that of the first pattern which matches a whole end of its name, as PEFT has it for
 * `rank_pattern` and `alpha_pattern`; undefined of none.
 *
 * @throws Error for more than 10,000 patterns, one of more than 2000 characters, and one that is not read.
 */
export function byPattern(
  patterns: readonly Pattern[],
  budget: Budget,
): (module: string) => number | undefined {
  if (patterns.length > MOST) throw new Error(`has ${patterns.length} patterns, and ${MOST} are the most`);
  const long = patterns.find(([pattern]) => pattern.length > LONGEST);
  if (long)
    throw new Error(
      `has a pattern of ${long[0].length} characters, and ${LONGEST} are the most: ${long[0].slice(0, 40)}…`,
    );
  const compiled = patterns.map(([pattern, value]) => ({matches: endPattern(pattern), value}));
  const exact = new Map(patterns);
  return module => {
    const characters = [...module];
    const found = compiled.find(({matches}) => matches(characters, budget));
    return found ? found.value : exact.get(module);
  };
}

/**
 * Whether PEFT's `modules_to_save` takes a module: it copies every module whose name ends with one of these names,
 * wherever in a word, and all inside of it.
 */
export function savedBy(names: readonly string[], budget: Budget): (module: string) => boolean {
  const byLength = new Map<number, Set<string>>();
  for (const name of names) {
    const alike = byLength.get(name.length) ?? new Set();
    byLength.set(name.length, alike.add(name));
  }
  const endsAt = (module: string, end: number) => {
    for (const [length, alike] of byLength) {
      budget.spend(1 + length);
      if (length <= end && alike.has(module.slice(end - length, end))) return true;
    }
    return false;
  };
  return module => {
    for (let end = module.indexOf('.'); end >= 0; end = module.indexOf('.', end + 1)) {
      if (endsAt(module, end)) return true;
    }
    return endsAt(module, module.length);
  };
}

/**
 * Patterns that give every module its number. The first that matches wins, and `b` would also mean `a.b`: longer names go
 * first; where a plain name still means another module too, it is escaped and anchored, which PEFT understands from 0.15
 * on.
 *
 * @param others Those whose number is not `common`.
 */
export function patternsFor(
  others: ReadonlyMap<string, number>,
  modules: ReadonlyMap<string, number>,
  common: number,
): readonly Pattern[] {
  const plain = [...others].sort(([a], [b]) => b.length - a.length || (a < b ? -1 : 1));
  const isRight = (patterns: readonly Pattern[]) => {
    try {
      const find = byPattern(patterns, UNLIMITED);
      return [...modules].every(([module, value]) => (find(module) ?? common) === value);
    } catch {
      return false;
    }
  };
  return isRight(plain) ? plain : plain.map(([name, value]) => [`^${escaped(name)}`, value]);
}

/** For names that do not come from a file. */
export const UNLIMITED = new Budget(Infinity, () => {
  throw new Error('unreachable');
});

/** A name as a pattern that means only itself. */
export const escaped = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
