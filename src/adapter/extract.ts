import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {type Closest, closest, differenceOf} from '../linalg/closest.js';
import {expectNumber, expectOptions} from '../options.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {lora} from '../parametrizations/lora.js';
import {matrixShape} from '../targets.js';
import type {Adapter, AdapterWeight, HostTensor} from './adapter.js';
import {expectWeights} from './expect.js';
import {given} from './given.js';
import {namedWeights, type WeightsOf} from './paths.js';
import {printOf} from './print.js';
import {generatedBy} from '../version.js';
import {errorOf} from './untrusted.js';

/** What the weights of a model are at one moment, by path. */
export type Snapshot = ReadonlyMap<string, HostTensor>;

export interface ExtractOptions {
  /**
   * How many factors each weight gets: k, at most the smaller side of the weight; or `{energy: 0.99}`, the least k whose
   * product holds that share of ||W - W0||^2.
   */
  readonly rank: number | {readonly energy: number};
  /** The matrices to factor, by path; the others are carried as whole weights. Default: every weight with two axes or more. */
  readonly targets?: RegExp | ((path: string) => boolean);
  /** Whatever shall be kept with it; text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** How well the factors of one weight stand for its change D = W - W0. Norms are Frobenius's, in float64. */
export interface Certificate extends Pick<Closest, 'rank' | 'norm' | 'error' | 'tail' | 'method'> {
  readonly path: string;
  /** `error / norm`; 0 where nothing changed. */
  readonly relative: number;
}

export interface Extracted {
  readonly adapter: Adapter;
  /** Of every weight that was factored, in the order of the adapter. */
  readonly certificates: readonly Certificate[];
}

/**
 * What every weight of a model is now, read to the host: where `extractAdapter` may start from.
 *
 * @returns By the paths of the model, copies: training does not touch them.
 */
export async function snapshot(model: WeightsOf): Promise<Snapshot> {
  expectWeights('snapshot', model);
  const taken = new Map<string, HostTensor>();
  for (const [path, variable] of namedWeights(model)) taken.set(path, await read(variable));
  return taken;
}

/**
 * An adapter from the change of the weights, whatever moved them: for runs whose factors are not all of the change, since
 * their subspace was renewed (GaLore, random projection, ReLoRA), and for training in full.
 *
 *     D = W - W0,  nearest product of rank k:  A = U_k sqrt(S_k), B = sqrt(S_k) V_k^T,  W0 + A B
 *
 * Each matrix that changed becomes `lora({rank: k, alpha: k})`; what is no matrix or no target is carried as it is. The
 * certificate of each tells the error that makes, and the least that any factors of this rank would make: with
 * method 'svd' exactly, with 'range' (large matrices) as a bound from below. What is left out is not stored anywhere.
 *
 * @param start What the weights were: a `snapshot` taken before training, or the optimizer, if it was built with
 *     `keepBase: true` (then only the weights it trains are looked at).
 * @throws Error when nothing changed, a weight is not in the start or has another shape there, or a number is not finite.
 */
export async function extractAdapter(
  model: WeightsOf,
  start: Snapshot | ProjectedOptimizer,
  options: ExtractOptions,
): Promise<Extracted> {
  expectOptions('extractAdapter', options, ['rank', 'targets', 'metadata']);
  const {rank, targets, metadata = {}} = options;
  expectRankOrEnergy(rank);
  expectWeights('extractAdapter', model);
  const named = namedWeights(model);
  const bases =
    start instanceof Map
      ? fromSnapshot(named, start as Snapshot)
      : fromOptimizer(named, start as ProjectedOptimizer);
  const isTarget = predicate(targets, [...bases.keys()]);
  const weights: AdapterWeight[] = [];
  const certificates: Certificate[] = [];
  for (const [path, baseOf] of bases) {
    const after = await read(named.get(path)!);
    const base = await baseOf();
    expectFinite(path, 'is', after);
    const shape = [...after.shape];
    const print = base && printOf(base.values);
    if (base) expectFinite(path, 'was', base);
    if (base && after.values.every((value, i) => value === base.values[i])) continue;
    const [m, n] = matrixShape(shape);
    if (!base || shape.length < 2 || !isTarget(path)) {
      weights.push({path, shape, parametrization: null, factors: {weight: after}, frozen: {}, base: print});
      continue;
    }
    const limited = typeof rank === 'number' ? Math.min(rank, m, n) : rank;
    const found = closest(differenceOf(after.values, base.values, [m, n]), limited);
    const {rank: k, norm, error, tail, method} = found;
    weights.push({
      path,
      shape,
      parametrization: lora({rank: k, alpha: k}),
      factors: {a: {shape: [m, k], values: found.a}, b: {shape: [k, n], values: found.b}},
      frozen: {},
      base: print,
    });
    certificates.push({path, rank: k, norm, error, tail, relative: norm === 0 ? 0 : error / norm, method});
  }
  if (weights.length === 0) {
    throw errorOf(
      'extractAdapter: no weight differs from the start: was the snapshot taken before training?',
    );
  }
  const places = [...named].map(([path, {shape: axes}]) => ({path, shape: [...axes]}));
  return {
    adapter: {weights, model: places, generatedBy: generatedBy(), metadata: {...metadata}},
    certificates,
  };
}

/** For each weight to look at, what reads its base; null where it is not known and not needed. */
type Bases = Map<string, () => Promise<HostTensor | null>>;

function fromSnapshot(named: ReadonlyMap<string, Variable>, start: Snapshot): Bases {
  const bases: Bases = new Map();
  for (const [path, variable] of named) {
    const base = start.get(path);
    if (!base) {
      throw errorOf(
        `extractAdapter: ${path} [${variable.shape}] is not in the snapshot: take it of the same model`,
      );
    }
    if (String(base.shape) !== String(variable.shape)) {
      throw errorOf(`extractAdapter: ${path} is [${variable.shape}], and [${base.shape}] in the snapshot`);
    }
    bases.set(path, async () => base);
  }
  return bases;
}

function fromOptimizer(named: ReadonlyMap<string, Variable>, optimizer: ProjectedOptimizer): Bases {
  if (!Array.isArray(optimizer?.attached)) {
    const {kind, words} = given(optimizer);
    throw new TypeError(
      `extractAdapter: the start must be a snapshot(model) or a ProjectedOptimizer, and this is ${words}: ` +
        (kind === 'promise' ? 'await it first' : 'await snapshot(model) before training takes one'),
    );
  }
  const attached = new Map(optimizer.attached.map(entry => [entry.weight, entry]));
  const bases: Bases = new Map();
  for (const [path, variable] of named) {
    const entry = attached.get(variable);
    if (!entry) continue;
    attached.delete(variable);
    bases.set(path, async () => {
      let base: Tensor;
      try {
        base = optimizer.base(variable);
      } catch (error) {
        // A weight trained as it is is carried whole: its base is not needed.
        if (entry.parametrization === null) return null;
        throw error;
      }
      try {
        return await read(base);
      } finally {
        base.dispose();
      }
    });
  }
  for (const {weight} of attached.values()) {
    throw errorOf(
      `extractAdapter: ${weight.name} [${weight.shape}] was trained, and the model given does not have it`,
    );
  }
  return bases;
}

async function read(tensor: Tensor): Promise<HostTensor> {
  const values = (await tensor.data()) as Float32Array | Int32Array;
  // A copy: the cpu backend hands out the very array the tensor lives in.
  return {shape: [...tensor.shape], values: values.slice()};
}

function expectFinite(path: string, verb: string, {shape, values}: HostTensor): void {
  const bad = values.findIndex((value: number) => !Number.isFinite(value));
  if (bad >= 0) throw errorOf(`extractAdapter: number ${bad} of ${path} [${shape}] ${verb} ${values[bad]}`);
}

function expectRankOrEnergy(rank: unknown): void {
  if (rank !== null && typeof rank === 'object') {
    expectOptions('extractAdapter: rank', rank, ['energy']);
    const {energy} = rank as {energy: unknown};
    expectNumber('extractAdapter: energy', energy, 'above 0 and at most 1', e => e > 0 && e <= 1);
    return;
  }
  const isCount = (k: number) => Number.isInteger(k) && k >= 1;
  expectNumber('extractAdapter: rank', rank, 'a whole number of at least 1, or {energy: 0.99}', isCount);
}

function predicate(targets: ExtractOptions['targets'], paths: readonly string[]): (path: string) => boolean {
  if (targets === undefined) return () => true;
  // Without the state that /g and /y keep between calls.
  const pattern =
    targets instanceof RegExp ? new RegExp(targets.source, targets.flags.replace(/[gy]/g, '')) : null;
  if (!pattern && typeof targets !== 'function') {
    throw new TypeError('extractAdapter: targets must be a RegExp or a function of the path');
  }
  const isTarget = (path: string) =>
    pattern ? pattern.test(path) : Boolean((targets as (p: string) => boolean)(path));
  if (paths.some(isTarget)) return isTarget;
  throw errorOf(`extractAdapter: targets matches none of ${paths.join(', ')}`);
}
