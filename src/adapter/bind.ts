import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {keep, tidy} from '@tensorflow/tfjs-core';
import {plainName} from '../targets.js';
import {isGone} from '../tensors.js';
import type {Adapter, AdapterWeight} from './adapter.js';
import {baseFrom, changeFrom, isRemovable} from './effect.js';
import {namedWeights, type WeightsOf} from './paths.js';
import {difference, printOf} from './print.js';
import {errorOf} from './untrusted.js';

/** A weight of an adapter, and the variable of the model that it is for. */
export interface Bound {
  readonly entry: AdapterWeight;
  readonly variable: Variable;
  /** What the model calls it. */
  readonly path: string;
}

/**
 * Finds the weight of the model for each weight of an adapter. Nothing is read and nothing moves.
 *
 * 1. By its place, where the adapter knows the whole model and this one is the same but for numbers that tfjs gave.
 * 2. By path, as it is or without the `_1` that tfjs gives to a second variable of a name.
 * 3. Layers that were numbered by tfjs itself (`dense_Dense1`) are numbered otherwise when a program builds the model
 *    again: where not all paths of such a kind are there, all of the kind are matched in the model's order, if there are
 *    as many of each shape.
 * 4. Where the model has none of the paths, so are all weights of one last name (`kernel`).
 *
 * @throws Error that says which weight does not fit, and how.
 */
export function bind(model: WeightsOf, adapter: Adapter): Bound[] {
  const weights = namedWeights(model);
  if (adapter.weights.length === 0) throw errorOf('the adapter is empty: it has no weights');
  const paths = adapter.weights.map(({path}) => path);
  const twice = paths.find((path, i) => paths.indexOf(path) < i);
  if (twice !== undefined) throw errorOf(`the adapter has two weights for ${twice}`);

  const places = byPlace(weights, adapter) ?? placesOf(weights, adapter.weights);
  const misfits = adapter.weights.flatMap((entry, i) => misfit(entry, places[i], weights));
  if (misfits.length > 0) throw errorOf(inWords(misfits));
  const bound = adapter.weights.map((entry, i) => ({
    entry,
    path: places[i]!,
    variable: weights.get(places[i]!)!,
  }));
  const used = new Map<Variable, string>();
  for (const {entry, variable, path} of bound) {
    const other = used.get(variable);
    if (other !== undefined) throw errorOf(`the adapter's ${other} and ${entry.path} are both for ${path}`);
    used.set(variable, entry.path);
  }
  return bound;
}

type Weights = ReadonlyMap<string, Variable>;
type Placed = Pick<AdapterWeight, 'path' | 'shape'>;

/** What the model calls each of these weights, by the rules of `bind`; undefined where it seems to have none. */
export function placesOf(weights: Weights, entries: readonly Placed[]): readonly (string | undefined)[] {
  const byPath = entries.map(({path}) => find(weights, path));
  return (
    inGroups(weights, entries, byPath, withoutNumbers) ??
    (byPath.some(path => path) ? null : inGroups(weights, entries, byPath, lastName)) ??
    byPath
  );
}

/**
 * Where the weights stood in the model of the adapter, if this one is the same but for tfjs's numbers: as many weights,
 * and each of its shape and name. Null where that is not known, or not so.
 */
function byPlace(weights: Weights, {model, weights: entries}: Adapter): string[] | null {
  if (!model || model.length !== weights.size) return null;
  const here = [...weights];
  const nameOf = (path: string) => withoutNumbers(path) ?? plainName(path);
  const isAlike = model.every(
    ({path, shape}, i) => nameOf(path) === nameOf(here[i]![0]) && String(shape) === String(here[i]![1].shape),
  );
  if (!isAlike) return null;
  const placeOf = new Map(model.map(({path}, i) => [path, here[i]![0]]));
  return entries.map(({path}) => placeOf.get(path)!);
}

function find(weights: Weights, path: string): string | undefined {
  if (weights.has(path)) return path;
  const alike = [...weights.keys()].filter(other => plainName(other) === plainName(path));
  return alike.length === 1 ? alike[0] : undefined;
}

/**
 * The paths with those of incomplete groups matched in order; null where some group of the adapter does not have as
 * many weights of each shape in the model.
 */
function inGroups(
  weights: Weights,
  entries: readonly Placed[],
  byPath: readonly (string | undefined)[],
  groupOf: (path: string) => string | null,
): (string | undefined)[] | null {
  const keyOf = (path: string, shape: readonly number[]) => `${groupOf(path)} ${shape}`;
  const incomplete = new Set(entries.filter((_, i) => !byPath[i]).map(({path}) => groupOf(path)));
  if (incomplete.has(null)) return null;
  const free = new Map<string, string[]>();
  for (const [path, {shape}] of weights) {
    const key = keyOf(path, shape);
    free.set(key, [...(free.get(key) ?? []), path]);
  }
  const places = entries.map(({path, shape}, i) =>
    incomplete.has(groupOf(path)) ? free.get(keyOf(path, shape))?.shift() : byPath[i],
  );
  const isEven = entries.every(
    ({path, shape}, i) =>
      !incomplete.has(groupOf(path)) ||
      (places[i] !== undefined && free.get(keyOf(path, shape))!.length === 0),
  );
  return isEven ? places : null;
}

/** `dense_Dense#/kernel` for `dense_Dense7/kernel`; null where tfjs gave no number. */
function withoutNumbers(path: string): string | null {
  const plain = plainName(path)
    .split('/')
    .map(segment => segment.replace(/^(.*_[A-Z][A-Za-z0-9]*?|sequential_|model)\d+$/, '$1#'))
    .join('/');
  return plain === plainName(path) ? null : plain;
}

/** `kernel`; nothing for variables that tfjs itself named, by number. */
function lastName(path: string): string {
  const name = plainName(path.slice(path.lastIndexOf('/') + 1));
  return /^\d+$/.test(name) ? '' : name;
}

interface Misfit {
  readonly path: string;
  readonly what: string;
}

function misfit(entry: AdapterWeight, place: string | undefined, weights: Weights): Misfit[] {
  const {path, shape} = entry;
  if (place === undefined) {
    const near = nearest(entry, weights).map(other => `${other} [${weights.get(other)!.shape}]`);
    const there =
      near.length === 0
        ? 'it has no weights at all'
        : `the nearest ${near.length > 1 ? 'are' : 'is'} ${near.join(', ')}`;
    return [{path, what: `it has no ${path} [${shape}]; ${there}`}];
  }
  const variable = weights.get(place)!;
  if (isGone(variable)) return [{path, what: `its ${place} was disposed`}];
  if (variable.dtype !== 'float32') return [{path, what: `its ${place} is ${variable.dtype}, not float32`}];
  if (String(variable.shape) === String(shape)) return [];
  return [{path, what: `${place} is [${variable.shape}] in it and [${shape}] in the adapter`}];
}

function inWords([first, ...others]: readonly Misfit[]): string {
  const named = others.slice(0, 3).map(({path}) => path);
  if (others.length > 3) named.push(`${others.length - 3} more`);
  const also = named.length > 0 ? `; nor do ${named.join(', ')} fit` : '';
  return (
    `the adapter is for another model: ${first!.what}${also}. Nothing was changed. Give the model it was trained ` +
    'on, or its weights by the paths of the adapter: {path: variable}'
  );
}

/** Up to three paths that take the fewest changes of letters to become this one; another shape counts as two. */
function nearest({path, shape}: AdapterWeight, weights: Weights): string[] {
  return [...weights]
    .map(([other, variable]) => ({
      other,
      steps:
        distance(path.slice(0, 200), other.slice(0, 200)) +
        (String(variable.shape) === String(shape) ? 0 : 2),
    }))
    .sort((x, y) => x.steps - y.steps)
    .slice(0, 3)
    .map(({other}) => other);
}

/** Levenshtein's: insertions, deletions and exchanges of one letter. */
function distance(from: string, to: string): number {
  let row = Array.from({length: to.length + 1}, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const exchanged = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(exchanged, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}

/** What is asked of the weights that an adapter comes to. */
export type BaseCheck = 'check' | 'ignore';

/** A weight of an adapter, and the numbers that it would take for its base: a tensor nobody disposes meanwhile. */
export interface Based {
  readonly entry: AdapterWeight;
  readonly path: string;
  readonly base: Tensor;
}

/**
 * Throws unless the weights are those that the adapter was trained on, as far as their prints tell; weights of which
 * nobody knows the base (PEFT's, and those trained as they are without `keepBase`) are taken as they are. Reads every
 * weight once.
 */
export async function expectBase(bound: readonly Based[]): Promise<void> {
  const strangers: {path: string; how: string; isMerged: boolean}[] = [];
  for (const one of bound) {
    const how = await strange(one);
    if (how !== null) strangers.push({path: one.path, how, isMerged: await isMerged(one)});
  }
  if (strangers.length === 0) return;
  const [first, ...others] = strangers;
  if (strangers.every(one => one.isMerged)) {
    throw errorOf(
      `the model has this adapter merged into it already: ${first!.path} without its change is what the adapter was ` +
        "trained on. Nothing was changed. unmergeAdapter takes it off; base: 'ignore' adds it once more",
    );
  }
  const named = others.slice(0, 3).map(({path}) => path);
  if (others.length > 3) named.push(`${others.length - 3} more`);
  throw errorOf(
    `the adapter was trained on another model: ${first!.path} has ${first!.how}` +
      `${named.length > 0 ? `; other numbers also in ${named.join(', ')}` : ''}. Nothing was changed. Load the model it ` +
      "was trained on; base: 'ignore' takes this one all the same",
  );
}

/** How a weight differs from the adapter's base, in words; null where it does not, or nobody knows. */
export async function strange({entry, base}: Based): Promise<string | null> {
  if (!entry.base) return null;
  const print = printOf(await base.data());
  const how = difference(entry.base, print);
  // A base that was zero came back as rounding of the change, which a second look allows for.
  if (how === null || !isRemovable(entry)) return how;
  return difference(entry.base, print, await normOf(() => changeFrom(base, entry)));
}

async function isMerged({entry, base}: Based): Promise<boolean> {
  if (!entry.base) return false;
  if (!entry.parametrization) {
    const {values} = entry.factors['weight']!;
    return difference(printOf(values), printOf(await base.data())) === null;
  }
  if (!isRemovable(entry)) return false;
  const size = await normOf(() => changeFrom(base, entry));
  return (
    (await withNumbers(
      () => baseFrom(base, entry, 1),
      values => difference(entry.base!, printOf(values), size),
    )) === null
  );
}

const normOf = (compute: () => Tensor) => withNumbers(compute, values => printOf(values).norm);

/** Reads a tensor made for this alone. */
export async function withNumbers<T>(compute: () => Tensor, use: (values: Float32Array) => T): Promise<T> {
  const tensor = keep(tidy(compute));
  try {
    return use((await tensor.data()) as Float32Array);
  } finally {
    tensor.dispose();
  }
}
