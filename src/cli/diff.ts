/** `tfjs-lora diff`: how two models differ, or two adapters. */
import {dispose} from '@tensorflow/tfjs-core';
import type {Adapter, AdapterWeight, HostTensor} from '../adapter/adapter.js';
import {exactProduct} from '../adapter/product.js';
import {closest, differenceOf} from '../linalg/closest.js';
import {recipeOf, toJson} from '../recipe.js';
import {matrixShape} from '../targets.js';
import {readPlaces} from './arguments.js';
import {chooseBackend} from './backend.js';
import {tensorsOf} from './model-weights.js';
import {readSource, type Source} from './source.js';
import {count, table} from './table.js';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora diff A B [options]

Shows how two models differ, weight by weight: how far (Frobenius norm), how far for
its size, and of what rank the difference is (the least that holds 99 % of it, where
that is cheap to tell). Or how two adapters differ: targets, methods, factors.
Exit code 0: the same; 1: they differ; 2: a mistake.

  --json    print it as JSON

Example:
  tfjs-lora diff examples/byte-lm runs/typescript/merged
`;

/** One weight of two models. */
interface Row {
  name: string;
  /** What is the matter, where the numbers cannot be compared. */
  note: string | null;
  norm: number | null;
  difference: number | null;
  largest: number | null;
  rank: number | null;
}

/** Up to here the rank of a difference is told: m n min(m, n). */
const CHEAP = 2 ** 24;

/** Runs `tfjs-lora diff`. Gives 1 where they differ. */
export async function diff(args: string[]): Promise<number> {
  const {given, places} = readPlaces(args, {json: 'flag', help: 'flag'} as const);
  if (given.help) {
    process.stdout.write(help);
    return 0;
  }
  const [first, second, ...more] = places;
  if (first === undefined || second === undefined || more.length > 0) {
    throw new UsageError('diff takes two models or two adapters: tfjs-lora diff A B');
  }
  await chooseBackend();
  const [a, b] = [await readSource(first), await readSource(second)];
  const rows = await compared(a, b);
  const changed = rows.filter(({note, difference}) => note !== null || difference !== 0);
  if (given.json) process.stdout.write(`${JSON.stringify({a: first, b: second, weights: rows}, null, 2)}\n`);
  else console.log(inWords(rows, changed));
  return changed.length === 0 ? 0 : 1;
}

async function compared(a: Source, b: Source): Promise<Row[]> {
  if (a.kind === 'model' && b.kind === 'model') return compareAll(await numbersOf(a), await numbersOf(b));
  if (a.kind === 'adapter' && b.kind === 'adapter') {
    const methods = methodRows(a.adapter, b.adapter);
    return [...methods, ...compareAll(factorsOf(a.adapter), factorsOf(b.adapter))];
  }
  throw new UsageError(
    `diff compares two models or two adapters; ${a.path} is ${article(a.kind)} and ${b.path} ${article(b.kind)}`,
  );
}

const article = (kind: string): string =>
  kind === 'adapter' ? 'an adapter' : kind === 'factors' ? 'factors of another naming' : `a ${kind}`;

async function numbersOf({artifacts}: Source & {kind: 'model'}): Promise<Map<string, HostTensor>> {
  const tensors = tensorsOf(artifacts);
  const read = new Map<string, HostTensor>();
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor.dtype === 'string') continue;
    read.set(name, {shape: tensor.shape, values: Float32Array.from((await tensor.data()) as Float32Array)});
  }
  dispose(tensors);
  return read;
}

function factorsOf({weights}: Adapter): Map<string, HostTensor> {
  return new Map(
    weights.flatMap(({path, factors, frozen}) => [
      ...Object.entries(factors).map(([key, tensor]) => [`${path} ${key}`, tensor] as const),
      ...Object.entries(frozen).map(([key, tensor]) => [`${path} frozen ${key}`, tensor] as const),
    ]),
  );
}

/** The weights that are trained by other methods or options. */
function methodRows(a: Adapter, b: Adapter): Row[] {
  const others = new Map(b.weights.map(weight => [weight.path, weight]));
  return a.weights.flatMap(weight => {
    const other = others.get(weight.path);
    const [one, two] = [methodOf(weight), other && methodOf(other)];
    return two === undefined || one === two ? [] : [{...EMPTY, name: weight.path, note: `${one}; ${two}`}];
  });
}

/** Two products with one scale are one method, whatever options it came from. */
function methodOf(weight: AdapterWeight): string {
  const {parametrization: p} = weight;
  if (!p) return 'whole';
  try {
    const {left, scale, magnitude} = exactProduct(weight);
    return `${p.name}, rank ${left.shape[1]}, scale ${scale}${magnitude ? ', with lengths' : ''}`;
  } catch {
    // Not a product.
  }
  const call = recipeOf(p);
  return call ? `${call.name}(${call.args.map(arg => JSON.stringify(toJson(arg))).join(', ')})` : p.name;
}

const EMPTY = {norm: null, difference: null, largest: null, rank: null};

function compareAll(a: ReadonlyMap<string, HostTensor>, b: ReadonlyMap<string, HostTensor>): Row[] {
  return [...new Set([...a.keys(), ...b.keys()])].map(name => {
    const [one, two] = [a.get(name), b.get(name)];
    if (!one || !two) return {...EMPTY, name, note: `only in ${one ? 'the first' : 'the second'}`};
    if (String(one.shape) !== String(two.shape)) {
      return {...EMPTY, name, note: `[${one.shape}] in the first, [${two.shape}] in the second`};
    }
    return {name, note: null, ...compareOne(one, two)};
  });
}

function compareOne({shape, values}: HostTensor, other: HostTensor): Omit<Row, 'name' | 'note'> {
  let [norm2, difference2, largest] = [0, 0, 0];
  values.forEach((value, i) => {
    const d = other.values[i]! - value;
    norm2 += value * value;
    difference2 += d * d;
    largest = Math.max(largest, Math.abs(d));
  });
  const [m, n] = matrixShape(shape);
  const isTold = shape.length >= 2 && difference2 > 0 && Number.isFinite(difference2);
  const rank =
    isTold && m * n * Math.min(m, n) <= CHEAP
      ? closest(differenceOf(other.values, values, [m, n]), {energy: 0.99}).rank
      : null;
  return {norm: Math.sqrt(norm2), difference: Math.sqrt(difference2), largest, rank};
}

function inWords(rows: readonly Row[], changed: readonly Row[]): string {
  if (changed.length === 0) return `The same: ${count(rows.length)} tensors, number for number.`;
  const number = (value: number | null) => (value === null ? '' : value.toPrecision(3));
  const cells = changed.map(({name, note, norm, difference, largest, rank}) => [
    name,
    number(norm),
    number(difference),
    norm !== null && norm > 0 && difference !== null ? `${((100 * difference) / norm).toPrecision(3)} %` : '',
    number(largest),
    rank === null ? '' : String(rank),
    note ?? '',
  ]);
  const head = ['weight', 'norm', 'difference', 'relative', 'largest', 'rank', ''];
  const same = rows.length - changed.length;
  return `${table([head, ...cells], [0, 6])}\n\n${count(changed.length)} differ, ${count(same)} are the same`;
}
