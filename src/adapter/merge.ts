import type {DataId, Tensor, Variable} from '@tensorflow/tfjs-core';
import {all, isFinite as isFiniteEach, keep, stack, tidy} from '@tensorflow/tfjs-core';
import {expectBoolean, expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Adapter, AdapterWeight} from './adapter.js';
import {type BaseCheck, bind, type Bound, expectBase, strange} from './bind.js';
import {baseFrom, isRemovable, withShares} from './effect.js';
import {expectAdapter, expectWeights} from './expect.js';
import {namedWeights, type WeightsOf} from './paths.js';
import {isGone} from '../tensors.js';
import {errorOf} from './untrusted.js';

export interface MergeOptions {
  /** How much of the change: `W0 + scale (Phi - W0)`. Default 1, which is W as it was trained. */
  readonly scale?: number;
  /** Keep W0 on the device, so that `unmergeAdapter` gives it back bit for bit. Default false. */
  readonly keepBase?: boolean;
  /** `'check'` (default): the weights must be those the adapter was trained on. `'ignore'`: any of these shapes. */
  readonly base?: BaseCheck;
}

export interface UnmergeOptions {
  /** What it was merged with, where this program did not merge it. Default 1. */
  readonly scale?: number;
  /** `'check'` (default): what is left must be the base, unless this program merged it. `'ignore'`: take it off anyway. */
  readonly base?: BaseCheck;
}

/**
 * Adds to a model what an adapter has learned: W0 becomes `W = Phi(W0, theta)`, in the variables the model has. All of
 * it is checked before the first weight changes: paths, shapes, the base, and that every number is finite.
 *
 * @returns The paths of the weights that were changed.
 * @throws Error when the adapter does not fit; nothing has changed then.
 */
export async function mergeAdapter(
  model: WeightsOf,
  adapter: Adapter,
  options: MergeOptions = {},
): Promise<string[]> {
  expectOptions('mergeAdapter', options, ['scale', 'keepBase', 'base']);
  const {scale = 1, keepBase = false, base = 'check'} = options;
  expectNumber('mergeAdapter: scale', scale, 'a number', () => true);
  expectBoolean(`mergeAdapter: keepBase`, keepBase);
  expectOneOf('mergeAdapter: base', base, ['check', 'ignore']);
  expectWeights('mergeAdapter', model);
  expectAdapter('mergeAdapter', adapter);
  const bound = bind(model, adapter);
  if (base === 'check') expectNotMerged(bound);
  return whileUnchanged('merged', bound, async (bases, ids) => {
    if (base === 'check') await expectBase(bound.map((one, i) => ({...one, base: bases[i]!})));
    const compute = ({entry}: Bound, i: number) => withShares(bases[i]!, [{entry, scale}]);
    return replaceAll(bound, compute, () => {
      const merge = ++count;
      bound.forEach(({entry, variable}, i) => {
        const kept = keepBase ? keep(bases[i]!.clone()) : null;
        const record = {merge, entry, scale, base: kept, before: ids[i]!, after: variable.dataId};
        merged.set(variable, [...recordsOf(variable), record]);
        if (record.base) holding.add(variable);
      });
    });
  });
}

/**
 * Takes off a model what `mergeAdapter` added. With `keepBase` W0 comes back bit for bit. Without it `W - delta`, which
 * is W0 to rounding: so for every parametrization whose change does not depend on W0, also where another program did the
 * merging. What does depend on it (`dora`), and weights that were trained as they are, cannot be taken off then.
 *
 * Where a weight has moved since it was merged, W0 is not what it should be, and the change is taken off only with
 * `base: 'ignore'`: what was learned since stays.
 *
 * @param adapter Default: the one that this program merged last.
 * @returns The paths of the weights that were changed.
 * @throws Error when the model does not have it merged or it cannot be taken off; nothing has changed then.
 */
export async function unmergeAdapter(
  model: WeightsOf,
  adapter?: Adapter,
  options: UnmergeOptions = {},
): Promise<string[]> {
  expectOptions('unmergeAdapter', options, ['scale', 'base']);
  const {scale = 1, base = 'check'} = options;
  expectNumber('unmergeAdapter: scale', scale, 'a number', () => true);
  expectOneOf('unmergeAdapter: base', base, ['check', 'ignore']);
  expectWeights('unmergeAdapter', model);
  if (adapter !== undefined) expectAdapter('unmergeAdapter', adapter);
  const bound = adapter ? bind(model, adapter) : lastMerged(model);
  const plans = bound.map(one => planFor(one, scale));
  return whileUnchanged('unmerged', bound, async weights => {
    const compute = (_: Bound, i: number) => tidy(() => plans[i]!.compute(weights[i]!));
    if (base === 'check') await expectMerged(plans, bound, weights);
    return replaceAll(bound, compute, () => plans.forEach(({done}) => done()));
  });
}

/**
 * Frees the bases that `mergeAdapter` kept for this model: what is merged stays, to rounding if it is taken off. So for
 * every weight that was disposed since, of whichever model.
 */
export function forgetBases(model: WeightsOf): void {
  const living = livingWeights(model);
  for (const variable of holding) if (isGone(variable)) recordsOf(variable).forEach(dropBase);
  for (const variable of living) recordsOf(variable).forEach(dropBase);
  for (const variable of holding) if (!recordsOf(variable).some(({base}) => base)) holding.delete(variable);
}

/** A disposed model cannot be asked for its weights. */
function livingWeights(model: WeightsOf): Variable[] {
  try {
    expectWeights('forgetBases', model);
    return [...namedWeights(model).values()];
  } catch (error) {
    if (/disposed/.test(String(error))) return [];
    throw error;
  }
}

/** Weights whose base is kept. */
const holding = new Set<Variable>();

/** One adapter in one weight, by this program. */
interface Merged {
  /** Counts calls of `mergeAdapter`. */
  readonly merge: number;
  readonly entry: AdapterWeight;
  readonly scale: number;
  /** W0, where it is kept. */
  base: Tensor | null;
  /** The data of the weight before and after: every assignment gives it other data. */
  readonly before: DataId;
  after: DataId;
}

let count = 0;
/** What is merged into a weight, the last on top. */
const merged = new WeakMap<Variable, readonly Merged[]>();

const recordsOf = (variable: Variable): readonly Merged[] => merged.get(variable) ?? [];

/** As `recordsOf`, where nothing has moved the weight since; else none. */
function currentRecords(variable: Variable): readonly Merged[] {
  const records = recordsOf(variable);
  return records.at(-1)?.after === variable.dataId ? records : [];
}

function dropBase(record: Merged): void {
  record.base?.dispose();
  record.base = null;
}

function expectNotMerged(bound: readonly Bound[]): void {
  for (const {entry, variable, path} of bound) {
    if (!currentRecords(variable).some(record => isSame(record.entry, entry))) continue;
    throw errorOf(
      `the model has this adapter merged into it already (${path}). Nothing was changed. unmergeAdapter takes it off; ` +
        "base: 'ignore' adds it once more",
    );
  }
}

/** How one weight is freed of an adapter. */
interface Plan {
  /** Whether this program merged it and nothing has moved the weight since. */
  readonly isCertain: boolean;
  readonly compute: (weight: Tensor) => Tensor;
  /** Called once the weight is assigned. */
  readonly done: () => void;
}

function planFor({entry, variable, path}: Bound, scale: number): Plan {
  const all = recordsOf(variable);
  const isCurrent = currentRecords(variable).length > 0;
  const index = all.findLastIndex(one => isSame(one.entry, entry));
  const record = all[index];
  const later = all.slice(index + 1);
  const done = () => {
    // Bases that were kept later have this adapter in them.
    later.forEach(dropBase);
    if (record) remove(variable, record, isCurrent);
  };
  const isCertain = isCurrent && record !== undefined;
  if (isCertain && record.base && later.length === 0) {
    return {isCertain, compute: () => record.base!.clone(), done};
  }
  if (isRemovable(entry)) {
    return {isCertain, compute: weight => baseFrom(weight, entry, record?.scale ?? scale), done};
  }
  const why = entry.parametrization
    ? `the change of ${entry.parametrization.name} depends on the base`
    : 'it was trained as it is, so the adapter has W and not the change';
  const [problem, fix] = !record
    ? ['this program has not merged it', 'load the model without it']
    : !isCurrent
      ? ['it was changed since by something else', 'load the model without it']
      : later.length > 0
        ? ['another adapter was merged on top', 'take that off first']
        : ['the base was not kept', 'merge with keepBase: true, or load the model without it'];
  throw errorOf(
    `${path} cannot be freed of the adapter: ${why}, and ${problem}. Nothing was changed: ${fix}`,
  );
}

/** Takes a record out, and tells the one on top which data the weight has now, where it knew before. */
function remove(variable: Variable, record: Merged, isCurrent: boolean): void {
  const records = recordsOf(variable);
  const rest = records.filter(one => one !== record);
  dropBase(record);
  const top = rest.at(-1);
  const wasOnTop = records.at(-1) === record;
  if (top && isCurrent && (!wasOnTop || top.after === record.before)) top.after = variable.dataId;
  if (rest.length > 0) merged.set(variable, rest);
  else merged.delete(variable);
}

function lastMerged(model: WeightsOf): Bound[] {
  const tops = [...namedWeights(model)].flatMap(([path, variable]) => {
    const record = recordsOf(variable).at(-1);
    return record ? [{path, variable, record}] : [];
  });
  if (tops.length === 0) {
    throw errorOf('this program has merged no adapter into the model: give the one to take off');
  }
  const last = Math.max(...tops.map(({record}) => record.merge));
  return tops
    .filter(({record}) => record.merge === last)
    .map(({path, variable, record}) => ({path, variable, entry: record.entry}));
}

async function expectMerged(
  plans: readonly Plan[],
  bound: readonly Bound[],
  weights: readonly Tensor[],
): Promise<void> {
  for (const [i, one] of bound.entries()) {
    if (plans[i]!.isCertain) continue;
    const rest = keep(tidy(() => plans[i]!.compute(weights[i]!)));
    try {
      const how = await strange({...one, base: rest});
      if (how === null) continue;
      throw errorOf(
        `the model does not have this adapter merged into it, or was trained on since: without it ${one.path} has ${how}, ` +
          "'there' being where the adapter was trained. Nothing was changed; base: 'ignore' takes it off all the same",
      );
    } finally {
      rest.dispose();
    }
  }
}

/** Gives `work` what the weights hold now, and takes care that it is what they hold still when they are assigned. */
async function whileUnchanged(
  what: string,
  bound: readonly Bound[],
  work: (weights: readonly Tensor[], ids: readonly DataId[]) => Promise<Commit>,
): Promise<string[]> {
  // A clone may have data of its own: on wasm it is a copy.
  const ids = bound.map(({variable}) => variable.dataId);
  const weights = bound.map(({variable}) => keep(variable.clone()));
  try {
    const commit = await work(weights, ids);
    try {
      bound.forEach(({variable, path}, i) => {
        if (isGone(variable)) throw errorOf(`${path} was disposed before the adapter was ${what}`);
        if (variable.dataId === ids[i]) return;
        throw errorOf(
          `${path} was changed by something else before the adapter was ${what}. Nothing else was changed: do not ` +
            'train meanwhile, and wait for one call to end before the next',
        );
      });
      commit.run();
    } finally {
      commit.dispose();
    }
  } finally {
    weights.forEach(weight => weight.dispose());
  }
  return bound.map(({path}) => path);
}

interface Commit {
  readonly run: () => void;
  readonly dispose: () => void;
}

/** Computes the new weights, and says how they are taken over once all are known to be finite. */
async function replaceAll(
  bound: readonly Bound[],
  compute: (one: Bound, i: number) => Tensor,
  done: () => void,
): Promise<Commit> {
  const made: Tensor[] = [];
  const dispose = () => made.forEach(tensor => tensor.dispose());
  try {
    bound.forEach((one, i) => made.push(keep(tidy(() => compute(one, i)))));
    await expectFinite(made, i => bound[i]!.path);
  } catch (error) {
    dispose();
    throw error;
  }
  const run = () => {
    bound.forEach(({variable}, i) => variable.assign(made[i]!));
    done();
  };
  return {run, dispose};
}

/** Throws when a tensor holds NaN or infinity. Reads one number for each. */
export async function expectFinite(tensors: readonly Tensor[], pathOf: (i: number) => string): Promise<void> {
  const flags = keep(tidy(() => stack(tensors.map(tensor => all(isFiniteEach(tensor))))));
  try {
    const index = Array.from(await flags.data()).findIndex(flag => !flag);
    if (index < 0) return;
    throw errorOf(
      `${pathOf(index)} with the adapter holds NaN or infinity: it comes from a training that went wrong, or the scale ` +
        'is too large. Nothing was changed',
    );
  } finally {
    flags.dispose();
  }
}

/** Whether two entries are the same learned change, though read from a file twice. */
function isSame(x: AdapterWeight, y: AdapterWeight): boolean {
  if (x === y) return true;
  if (String(x.shape) !== String(y.shape) || x.parametrization?.name !== y.parametrization?.name)
    return false;
  const [keys, others] = [Object.keys(x.factors), Object.keys(y.factors)];
  return (
    keys.length === others.length &&
    keys.every(key => {
      const [a, b] = [x.factors[key]!.values, y.factors[key]?.values];
      return b !== undefined && a.length === b.length && a.every((value, i) => Object.is(value, b[i]));
    })
  );
}
