import {seededRandom} from '../random.js';
import {UsageError} from '../usage-error.js';

export interface Split {
  readonly train: Int32Array;
  readonly heldOut: Int32Array;
}

/**
 * Sets a share of the examples aside, drawn by a seed; of each class the same share, at least one where it has two and
 * never all. Both parts are in the order of the data.
 *
 * @param classes the class of each example, or null where there are none
 * @throws UsageError where there are too few examples for both parts
 */
export function split(size: number, classes: ArrayLike<number> | null, share: number, seed: number): Split {
  const groups = new Map<number, number[]>();
  for (let i = 0; i < size; i++) {
    const group = classes ? classes[i]! : 0;
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group)!.push(i);
  }
  const heldOut = new Set<number>();
  for (const [group, members] of groups) {
    const random = seededRandom(seed * 1009 + group);
    shuffle(members, random);
    const count = Math.min(members.length - 1, Math.max(1, Math.round(members.length * share)));
    for (const member of members.slice(0, count)) heldOut.add(member);
  }
  const all = Array.from({length: size}, (_, i) => i);
  const train = Int32Array.from(all.filter(i => !heldOut.has(i)));
  if (heldOut.size === 0 || train.length === 0) {
    throw new UsageError(`${size} examples are too few to set some aside: give more, or others with --test`);
  }
  return {train, heldOut: Int32Array.from(all.filter(i => heldOut.has(i)))};
}

/** Fisher and Yates's shuffle, in place. */
export function shuffle<T>(list: T[] | Int32Array, random: () => number): void {
  const items = list as T[];
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}
