import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {type Certificate, extractAdapter, type ExtractOptions, snapshot} from '../../src/adapter/extract.js';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {mergeAdapter} from '../../src/adapter/merge.js';
import {
  every,
  galore,
  lora,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptions,
  randomProjection,
} from '../../src/index.js';
import {closest, differenceOf} from '../../src/linalg/closest.js';
import {hostSvd} from '../../src/linalg/svd.js';
import {tidied} from '../../src/tensors.js';
import {tensorsLeftBy, values} from '../helpers.js';

beforeAll(() => tf.setBackend('cpu'));

const begin = () => {
  const of = (shape: number[], seed: number) => tidied(() => tf.variable(normal(shape, seed), true));
  return {first: of([12, 10], 1), conv: of([3, 3, 4, 8], 2), bias: of([10], 3)};
};
type Model = ReturnType<typeof begin>;
const release = (model: Model) => tf.dispose(model as never);

function train(model: Model, p: Parametrization, options: ProjectedOptions = {}, steps = 12) {
  const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), p, {
    targets: v => v.shape.length > 1,
    rest: 'train',
    ...options,
  });
  for (let step = 0; step < steps; step++) {
    tf.tidy(() =>
      optimizer.applyGradients(
        Object.values(model).map((w, i) => ({name: w.name, tensor: normal(w.shape, 100 * step + i)})),
      ),
    );
  }
  return optimizer;
}

/** Singular values of W - W0 in float64, straight from the numbers. */
function spectrum(after: number[], before: ArrayLike<number>, n: number): readonly number[] {
  return hostSvd(differenceOf(after, before, [after.length / n, n])).s;
}

const tailOf = (s: readonly number[], k: number) =>
  Math.sqrt(s.slice(k).reduce((sum, value) => sum + value ** 2, 0));

const runs: [string, Parametrization, ProjectedOptions][] = [
  ['GaLore, refreshed', galore({rank: 2}), {refresh: every(4), moments: 'transport'}],
  ['GaLore on both sides', galore({rank: 2, side: 'both'}), {refresh: every(3), moments: 'reset'}],
  ['a random projection at every step', randomProjection({rank: 2}), {}],
  ['ReLoRA', lora({rank: 2}), {refresh: every(5), moments: 'reset'}],
];

describe.each(runs)('%s', (_, p, options) => {
  test.each([1, 3, 6, 20])('rank %i: the error is the tail of the spectrum', async rank => {
    const model = begin();
    const start = await snapshot(model);
    const optimizer = train(model, p, {...options, keepBase: true});
    let certificates: readonly Certificate[] = [];
    const left = await tensorsLeftBy(async () => {
      const found = await extractAdapter(model, start, {rank});
      const kept = await extractAdapter(model, optimizer, {rank});
      expect(kept.certificates).toEqual(found.certificates);
      certificates = found.certificates;
      const {adapter} = found;
      expect(adapter.weights.map(({path}) => path)).toEqual(['first', 'conv', 'bias']);
      // Through a file and into a model that was never trained.
      const fresh = begin();
      await mergeAdapter(fresh, decodeAdapter(encodeAdapter(adapter)));
      for (const {path, error} of certificates) {
        const key = path as keyof Model;
        const [made, meant] = [values(fresh[key]), values(model[key])];
        const distance = Math.hypot(...made.map((value, i) => value - meant[i]!));
        expect(Math.abs(distance - error)).toBeLessThan(2e-6 * Math.hypot(...meant));
      }
      expect(values(fresh.bias)).toEqual(values(model.bias));
      release(fresh);
    });
    expect(left).toBe(0);
    for (const {path, rank: k, error, tail, norm, relative, method} of certificates) {
      const variable = model[path as keyof Model];
      const s = spectrum(values(variable), start.get(path)!.values, variable.shape.at(-1)!);
      expect(method).toBe('svd');
      expect(k).toBe(Math.min(rank, s.length));
      expect(Math.abs(tail - tailOf(s, k))).toBeLessThan(1e-12 * norm);
      expect(Math.abs(norm - tailOf(s, 0))).toBeLessThan(1e-12 * norm);
      // Nothing of this rank is nearer; what is above it is the rounding of the factors to float32.
      expect(error).toBeGreaterThanOrEqual(tail * (1 - 1e-12));
      expect(error - tail).toBeLessThan(2e-7 * norm);
      expect(relative).toBe(error / norm);
      if (rank < 3) expect(relative).toBeGreaterThan(1e-3);
      if (k === s.length) expect(relative).toBeLessThan(2e-7);
    }
    optimizer.dispose();
    release(model);
  });
});

test('a run of LoRA is extracted whole at its own rank', async () => {
  const model = begin();
  const start = await snapshot(model);
  const optimizer = train(model, lora({rank: 3}));
  const {certificates} = await extractAdapter(model, start, {rank: 3});
  // What is left is the rounding of W, which has as many singular values as it likes.
  for (const {relative} of certificates) expect(relative).toBeLessThan(1e-5);
  const two = await extractAdapter(model, start, {rank: 2});
  for (const {relative} of two.certificates) expect(relative).toBeGreaterThan(1e-2);
  optimizer.dispose();
  release(model);
});

test('by energy: the least rank that holds it', async () => {
  const model = begin();
  const start = await snapshot(model);
  const optimizer = train(model, randomProjection({rank: 2}));
  for (const energy of [0.5, 0.9, 0.99, 1]) {
    const {certificates} = await extractAdapter(model, start, {rank: {energy}});
    for (const {path, rank, norm} of certificates) {
      const variable = model[path as keyof Model];
      const s = spectrum(values(variable), start.get(path)!.values, variable.shape.at(-1)!);
      const allowed = (1 - energy) * norm ** 2 + 1e-12 * norm ** 2;
      expect(tailOf(s, rank) ** 2).toBeLessThanOrEqual(allowed);
      if (rank > 1 && energy < 1)
        expect(tailOf(s, rank - 1) ** 2).toBeGreaterThan(allowed - 2e-12 * norm ** 2);
    }
  }
  optimizer.dispose();
  release(model);
});

test('weights trained as they are, no targets, and weights that did not change', async () => {
  const model = begin();
  const start = await snapshot(model);
  tf.tidy(() => model.first.assign(tf.add(model.first, 1) as never));
  const {adapter, certificates} = await extractAdapter(model, start, {rank: 1});
  expect(adapter.weights.map(({path}) => path)).toEqual(['first']);
  // A rank-one change, so nothing is lost.
  expect(certificates[0]!.relative).toBeLessThan(1e-6);
  const whole = await extractAdapter(model, start, {rank: 1, targets: /conv/, metadata: {why: 'test'}});
  expect(whole.certificates).toEqual([]);
  expect(whole.adapter.weights[0]!.parametrization).toBeNull();
  expect(whole.adapter.metadata).toEqual({why: 'test'});
  const other = begin();
  await mergeAdapter(other, whole.adapter);
  expect(values(other.first)).toEqual(values(model.first));
  [model, other].forEach(release);
});

test('large matrices: the range finder, with a bound from both sides', () => {
  // 600 x 500: too large for the whole decomposition to be made by default, small enough to make it here.
  const [m, n, k] = [600, 500, 10];
  const d = tf.tidy(() => {
    const decay = tf.pow(0.8, tf.range(0, 40));
    const left = tf.mul(normal([m, 40], 1), decay) as tf.Tensor2D;
    return tf
      .add(tf.matMul(left, normal([40, n], 2) as tf.Tensor2D), tf.mul(normal([m, n], 3), 1e-3))
      .dataSync();
  });
  const matrix = differenceOf(d, new Float32Array(m * n), [m, n]);
  const {s} = hostSvd(matrix);
  const found = closest(matrix, k);
  expect(found.method).toBe('range');
  const least = tailOf(s, k);
  expect(found.tail).toBeLessThanOrEqual(least);
  expect(found.error).toBeGreaterThanOrEqual(least);
  expect(found.error).toBeLessThan(1.0001 * least);
  // rho, what 18 directions miss, bounds how far apart the two ends are.
  expect(found.error ** 2 - found.tail ** 2).toBeLessThan(1.01 * tailOf(s, k + 8) ** 2);
  const energetic = closest(matrix, {energy: 0.99});
  expect(tailOf(s, energetic.rank)).toBeLessThanOrEqual(0.1 * found.norm);
  expect(tailOf(s, energetic.rank - 1)).toBeGreaterThan(0.1 * found.norm);
});

describe('is refused:', () => {
  const cases: [string, (model: Model) => Promise<unknown>, RegExp][] = [
    [
      'a start without keepBase after a refresh',
      async model => {
        const optimizer = train(model, galore({rank: 2}), {refresh: every(2), moments: 'reset'});
        try {
          await extractAdapter(model, optimizer, {rank: 2});
        } finally {
          optimizer.dispose();
        }
      },
      /was refreshed, so its first base is known only with keepBase: true/,
    ],
    [
      'nothing changed',
      async m => extractAdapter(m, await snapshot(m), {rank: 2}),
      /no weight differs from the start/,
    ],
    [
      'another model',
      async model => extractAdapter(model, await snapshot({first: model.first}), {rank: 2}),
      /conv \[3,3,4,8\] is not in the snapshot/,
    ],
    [
      'other shapes',
      async model => extractAdapter({first: model.first}, await snapshot({first: model.conv}), {rank: 2}),
      /first is \[12,10\], and \[3,3,4,8\] in the snapshot/,
    ],
    [
      'NaN',
      async model => {
        const start = await snapshot(model);
        tf.tidy(() => model.bias.assign(tf.fill([10], NaN)));
        await extractAdapter(model, start, {rank: 2});
      },
      /number 0 of bias \[10\] is NaN/,
    ],
    [
      'rank 0',
      async m => extractAdapter(m, await snapshot(m), {rank: 0}),
      /rank must be a whole number of at least 1/,
    ],
    [
      'an energy above 1',
      async m => extractAdapter(m, await snapshot(m), {rank: {energy: 2}}),
      /energy must be above 0 and at most 1/,
    ],
    [
      'targets that match nothing',
      async m => extractAdapter(m, await snapshot(m), {rank: 1, targets: /nothing/}),
      /targets matches none of first, conv, bias/,
    ],
    ['no start', async m => extractAdapter(m, null as never, {rank: 1}), /must be a snapshot/],
    [
      'an option it does not have',
      async m => extractAdapter(m, await snapshot(m), {rank: 1, energy: 1} as ExtractOptions),
      /unknown option 'energy'/,
    ],
  ];
  test.each(cases)('%s', async (_, extract, message) => {
    const model = begin();
    const left = await tensorsLeftBy(() => expect(extract(model)).rejects.toThrow(message));
    expect(left).toBe(0);
    release(model);
  });
});
