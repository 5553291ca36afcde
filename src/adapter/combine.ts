import {lora} from '../parametrizations/lora.js';
import type {LoraOptions} from '../parametrizations/lora.js';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import {recipeOf} from '../recipe.js';
import {scaling} from '../scaling.js';
import {matrixShape} from '../targets.js';
import type {Adapter, AdapterWeight, HostTensor} from './adapter.js';
import type {BaseCheck} from './bind.js';
import {expectAdapter} from './expect.js';
import {difference} from './print.js';
import {errorOf} from './untrusted.js';

export interface CombineOptions {
  /** `'check'` (default): all must have been trained on one model, as far as their prints tell. */
  readonly base?: BaseCheck;
  /** Whatever shall be kept with it; text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * One adapter with the weighted sum of the changes of several:
 *
 *     sum_i w_i s_i A_i B_i  =  [A_1 A_2 …] [w_1 s_1 B_1; w_2 s_2 B_2; …]
 *
 * The product is that sum, of rank r_1 + r_2 + …; only the scaled factors are rounded, once, to float32. A start away
 * from zero counts as one more product, `-w s A0 B0`. The result is of `lora` with s = 1.
 *
 * Takes `lora` and `loraFA` under the same path; a weight that only one adapter has, with the factor 1, may be of any
 * parametrization and is taken over as it is.
 *
 * @throws Error for other parametrizations: their sum is no adapter of theirs. `AdapterSet` combines any. Error for
 *   factors that would not be finite.
 */
export function combine(
  parts: readonly {readonly adapter: Adapter; readonly weight: number}[],
  options: CombineOptions = {},
): Adapter {
  expectOptions('combine', options, ['base', 'metadata']);
  const {base = 'check', metadata = {}} = options;
  expectOneOf('combine: base', base, ['check', 'ignore']);
  if (!Array.isArray(parts)) throw new TypeError('combine takes a list of {adapter, weight}');
  if (parts.length === 0) throw errorOf('combine: no adapters were given');
  const byPath = new Map<string, {entry: AdapterWeight; weight: number}[]>();
  for (const [i, part] of parts.entries()) {
    const {adapter, weight} = (part ?? {}) as Partial<(typeof parts)[number]>;
    expectAdapter(`combine: part ${i}, {adapter, weight}`, adapter);
    expectNumber('combine: weight', weight, 'a number', () => true);
    for (const entry of adapter.weights) {
      byPath.set(entry.path, [...(byPath.get(entry.path) ?? []), {entry, weight}]);
    }
  }
  const weights = [...byPath.values()].map(shares => {
    const [{entry: first, weight}] = shares as [(typeof shares)[0]];
    if (shares.length === 1 && weight === 1) return first;
    for (const {entry} of shares) expectAlike(first, entry, base);
    return sumOf(shares);
  });
  const [{adapter: first}, ...others] = parts as [(typeof parts)[0], ...(typeof parts)[0][]];
  const layout = ({model}: Adapter) => JSON.stringify(model);
  const isOneModel = first.model && others.every(({adapter}) => layout(adapter) === layout(first));
  return {
    weights,
    ...(isOneModel && {model: first.model}),
    generatedBy: first.generatedBy,
    metadata: {...metadata},
  };
}

function expectAlike(first: AdapterWeight, other: AdapterWeight, base: BaseCheck): void {
  if (String(first.shape) !== String(other.shape)) {
    throw errorOf(
      `combine: ${first.path} is [${first.shape}] in one adapter and [${other.shape}] in another`,
    );
  }
  if (base === 'ignore' || !first.base || !other.base) return;
  const how = difference(first.base, other.base);
  if (how === null) return;
  throw errorOf(
    `combine: the adapters were trained on different models: ${first.path} has ${how} ('there' the first of them); ` +
      "base: 'ignore' combines them all the same",
  );
}

interface Product {
  readonly a: HostTensor;
  readonly b: HostTensor;
  readonly scale: number;
}

function sumOf(shares: readonly {entry: AdapterWeight; weight: number}[]): AdapterWeight {
  const [{entry}] = shares as [(typeof shares)[0]];
  const products = shares.flatMap(({entry, weight}) =>
    productsOf(entry).map(({a, b, scale}) => ({a, b, scale: scale * weight})),
  );
  const [m, n] = matrixShape(entry.shape);
  const ranks = products.map(({a}) => a.shape[1]!);
  const rank = ranks.reduce((sum, r) => sum + r, 0);
  const a = new Float32Array(m * rank);
  const b = new Float32Array(rank * n);
  let from = 0;
  products.forEach(({a: left, b: right, scale}, k) => {
    const r = ranks[k]!;
    for (let i = 0; i < m; i++) a.set(left.values.subarray(i * r, (i + 1) * r), i * rank + from);
    right.values.forEach((value, i) => (b[from * n + i] = scale * value));
    from += r;
  });
  for (const [name, values] of [
    ['a', a],
    ['b', b],
  ] as const) {
    const bad = values.find(value => !Number.isFinite(value));
    if (bad === undefined) continue;
    throw errorOf(
      `combine: ${entry.path} would have ${bad} in its ${name}; its factors must be finite, and the weights so small ` +
        'that float32 holds the products',
    );
  }
  const known = shares.find(share => share.entry.base);
  return {
    path: entry.path,
    shape: entry.shape,
    parametrization: lora({rank}),
    factors: {a: {shape: [m, rank], values: a}, b: {shape: [rank, n], values: b}},
    frozen: {},
    base: known?.entry.base ?? null,
  };
}

/** The change as a sum of products. */
function productsOf({path, shape, parametrization, factors, frozen}: AdapterWeight): Product[] {
  const call = parametrization && recipeOf(parametrization);
  if (!call || (call.name !== 'lora' && call.name !== 'loraFA')) {
    throw errorOf(
      `combine: ${path} is of ${parametrization?.name ?? "a weight trained as it is ('train')"}, and a sum of such ` +
        'changes is no adapter; AdapterSet switches to weighted sums of any',
    );
  }
  const {rank = 8, alpha = rank, rankStabilised = false} = (call.args[0] ?? {}) as LoraOptions;
  const scale = scaling(call.name, {rank, alpha, rankStabilised});
  const [m, n] = matrixShape(shape);
  const read = (key: string, from: Readonly<Record<string, HostTensor>>, wanted: readonly number[]) => {
    const tensor = from[key];
    if (tensor && String(tensor.shape) === String(wanted)) return tensor;
    throw errorOf(
      `combine: ${path} needs ${key} [${wanted}] and has ${tensor ? `[${tensor.shape}]` : 'none'}`,
    );
  };
  const [ofA, ofB] = [
    [m, rank],
    [rank, n],
  ];
  const b = read('b', factors, ofB!);
  if (call.name === 'loraFA') return [{a: read('a', frozen, ofA!), b, scale}];
  const product = {a: read('a', factors, ofA!), b, scale};
  if (!frozen['aStart']) return [product];
  return [product, {a: read('aStart', frozen, ofA!), b: read('bStart', frozen, ofB!), scale: -scale}];
}
