/** How methods are named on the command line, and shown. */
import {defaultRate} from '../inner.js';
import {table} from '../table.js';
import {UsageError} from '../usage-error.js';
import {type Method, methods} from './methods.js';

/** Letters and digits count: `LoRA-SB`, `lora_sb` and `loraSB` are one name. */
const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/**
 * The name in the registry that `given` means.
 * @throws UsageError that names the nearest one, and all
 */
export function methodName(option: string, given: string): string {
  const names = Object.keys(methods);
  const found = names.find(name => plain(name) === plain(given));
  if (found !== undefined) return found;
  const near = nearest(plain(given), names);
  const guess = near === undefined ? '' : `, perhaps ${near}`;
  throw new UsageError(`${option}: unknown method "${given}"${guess}: there is ${names.join(', ')}`);
}

export const methodOf = (name: string): Method => methods[name]!;

/** The inner optimizer that a method gets, and its rate, where the user says neither or the one. */
export function innerAndRate({inner: own = 'adam', defaultRate: rate}: Method, asked: string | undefined) {
  const inner = asked ?? own;
  return {inner, lr: defaultRate(inner, rate, own)};
}

/** The name that takes the fewest changes, if they are few. */
function nearest(given: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map(name => ({name, changes: distance(given, plain(name))}))
    .sort((a, b) => a.changes - b.changes);
  return best && best.changes <= Math.max(2, best.name.length / 3) ? best.name : undefined;
}

/** Letters to insert, remove or replace until `a` is `b`. */
export function distance(a: string, b: string): number {
  let row = Array.from({length: b.length + 1}, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/** A row per method. */
export function methodTable(): string {
  const rows = Object.entries(methods).map(([name, {rank, defaultRate, help}]) => [
    name,
    rank === null ? '-' : String(rank),
    String(defaultRate),
    help,
  ]);
  return table([['Method', 'rank', 'rate', ''], ...rows], [0, 3]) + '\n';
}
