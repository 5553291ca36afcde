import * as tf from '@tensorflow/tfjs';
import {describe, expect, test} from 'vitest';
import {AdapterSet} from '../../src/adapter/adapter-set.js';
import {combine} from '../../src/adapter/combine.js';
import {mergeAdapter} from '../../src/adapter/merge.js';
import {dora, hadamard, lora, loraFA, symmetric} from '../../src/index.js';
import {numTensors, relativeError, tensorsLeftBy} from '../helpers.js';
import {onEachBackend} from '../host/backends.js';
import {learned, mlp, numbers, train, worst} from './models.js';

/** Three adapters of different parametrizations and targets for one model, and the model. */
async function three() {
  const model = mlp();
  const french = await learned(model, lora({rank: 2, alpha: 6}), {rest: 'train', keepBase: true}, 1);
  const formal = await learned(model, dora({rank: 1}), {targets: /(middle)\/kernel/, keepBase: true}, 2);
  const short = await learned(model, hadamard({rank: 1}), {targets: /(hidden|middle)\/kernel/}, 3);
  return {model, french, formal, short, base: french.base};
}

async function setOf({model, french, formal, short}: Awaited<ReturnType<typeof three>>) {
  const set = new AdapterSet(model);
  await set.add('french', french.adapter);
  await set.add('formal', formal.adapter);
  await set.add('short', short.adapter);
  return set;
}

onEachBackend('a set of adapters', () => {
  test('switches bit for bit, whatever came before', async () => {
    const all = await three();
    const {model, base, french, formal, short} = all;
    const set = await setOf(all);
    expect(numbers(model)).toEqual(base);
    expect(set.names).toEqual(['french', 'formal', 'short']);
    expect(set.active).toBeNull();
    const mixed = {french: 0.7, short: -0.3};
    const uses = ['french', 'formal', 'short', mixed, null] as const;
    const first = uses.map(use => {
      set.use(use);
      expect(set.active).toEqual(use);
      return numbers(model);
    });
    expect(first[0]).toEqual(french.trained);
    expect(first[1]).toEqual(formal.trained);
    expect(worst(first[2]!, short.trained)).toBeLessThan(1e-6);
    expect(first[4]).toEqual(base);
    for (const i of [4, 2, 0, 3, 1, 3, 0, 0, 4, 1]) {
      set.use(uses[i]!);
      expect(numbers(model)).toEqual(first[i]);
    }
    set.use({short: -0.3, french: 0.7});
    expect(numbers(model)).toEqual(first[3]);
    set.use({french: 1, short: 0});
    expect(numbers(model)).toEqual(first[0]);
    set.use({});
    expect(numbers(model)).toEqual(base);
    set.dispose();
  });

  test('a factor that float32 cannot bear is refused, and one that it can is not', async () => {
    const all = await three();
    const {model, french} = all;
    const set = await setOf(all);
    set.use('french');
    const tensors = numTensors();
    for (const scale of [1e39, -1e39, 1e300, NaN, Infinity, -Infinity]) {
      for (const use of [{french: scale}, {formal: scale, short: 1}]) {
        expect(() => set.use(use), String(scale)).toThrow(
          Number.isFinite(scale)
            ? /^use: with \{.*\} the numbers of \w+\/\w+ \[.*\] could be .*Nothing was changed/
            : /must be a finite number, not -?(NaN|Infinity)/,
        );
        expect(set.active).toBe('french');
        expect(numbers(model)).toEqual(french.trained);
      }
    }
    // Whatever is not refused is finite, up to the last power of two that it could be.
    const loud = french.adapter.weights.map(weight => {
      const {a} = weight.factors;
      if (!a) return weight;
      const values = (a.values as Float32Array).map(value => 1000 * value);
      return {...weight, factors: {...weight.factors, a: {...a, values}}};
    });
    set.use(null);
    await set.add('loud', {...french.adapter, weights: loud});
    set.use('loud');
    const most = Math.max(...Object.values(numbers(model)).flat().map(Math.abs));
    expect(most).toBeGreaterThan(16);
    let largest = 0;
    for (let scale = 1; scale <= 2 ** 129; scale *= 2) {
      try {
        set.use({loud: scale, short: -0.5});
      } catch {
        continue;
      }
      largest = scale;
      expect(Object.values(numbers(model)).flat().every(Number.isFinite), String(scale)).toBe(true);
    }
    expect(largest * most).toBeGreaterThan(2 ** 125);
    set.use('french');
    expect(numTensors()).toBe(tensors);
    expect(numbers(model)).toEqual(french.trained);
  });

  test('adds changes: W0 + sum w (Phi(W0) - W0)', async () => {
    const all = await three();
    const {model, base} = all;
    const set = await setOf(all);
    const parts = {french: 0.7, formal: 0.3, short: -2};
    set.use(parts);
    const wanted = Object.fromEntries(
      Object.entries(base).map(([path, w0]) => [
        path,
        w0.map((v, i) =>
          Object.entries(parts).reduce(
            (sum, [name, w]) => sum + w * (all[name as keyof typeof parts].trained[path]![i]! - v),
            v,
          ),
        ),
      ]),
    );
    expect(worst(numbers(model), wanted)).toBeLessThan(3e-6);
    expect(worst(numbers(model), base)).toBeGreaterThan(1e-3);
    set.dispose();
    expect(numbers(model)).toEqual(base);
  });

  test('keeps one base for each weight, and frees it', async () => {
    const all = await three();
    const {model, base} = all;
    const start = numTensors();
    const set = new AdapterSet(model);
    await set.add('formal', all.formal.adapter);
    expect(numTensors()).toBe(start + 1);
    await set.add('short', all.short.adapter);
    expect(numTensors()).toBe(start + 2);
    for (const use of ['short', 'formal', {short: 1, formal: 1}, 'short'] as const) set.use(use);
    expect(numTensors()).toBe(start + 2);
    expect(() => set.remove('short')).toThrow(/'short' is in use/);
    set.use({formal: 1});
    expect(() => set.remove('formal')).toThrow(/'formal' is in use/);
    set.remove('short');
    expect(numTensors()).toBe(start + 1);
    expect(set.names).toEqual(['formal']);
    await set.add('short', all.french.adapter);
    set.use('short');
    set.dispose();
    expect(numbers(model)).toEqual(base);
    expect(numTensors()).toBe(start);
    set.dispose();
    expect(() => set.use(null)).toThrow(/was disposed/);
    await expect(set.add('x', all.french.adapter)).rejects.toThrow(/was disposed/);
  });

  test('a name that every object has is a name', async () => {
    const all = await three();
    const set = await setOf(all);
    await set.add('constructor', all.short.adapter);
    set.use({constructor: 1} as never);
    expect(() => set.remove('constructor')).toThrow(/'constructor' is in use/);
    set.use({french: 1});
    set.remove('constructor');
    expect(set.names).toEqual(['french', 'formal', 'short']);
    set.dispose();
  });

  test('changes nothing after an error', async () => {
    const all = await three();
    const {model} = all;
    const set = await setOf(all);
    set.use('short');
    const [before, tensors] = [numbers(model), numTensors()];
    expect(() => set.use('english')).toThrow(
      /there is no adapter 'english'; there are 'french', 'formal', 'short'/,
    );
    expect(() => set.use({french: 1, english: 1})).toThrow(/no adapter 'english'/);
    expect(() => set.use({french: NaN})).toThrow(/use: french must be a finite number/);
    expect(() => set.use(['french'] as never)).toThrow(/give a name/);
    expect(() => set.use('toString')).toThrow(/no adapter 'toString'/);
    expect(() => set.remove('english')).toThrow(/no adapter/);
    await expect(set.add('french', all.french.adapter)).rejects.toThrow(/'french' already/);
    const stranger = (await learned(mlp(undefined, 5))).adapter;
    const after = numTensors();
    await expect(set.add('stranger', stranger)).rejects.toThrow(/trained on another model/);
    await expect(
      Promise.all([set.add('twice', all.formal.adapter), set.add('twice', all.formal.adapter)]),
    ).rejects.toThrow(/'twice' already/);
    expect(numTensors()).toBe(after);
    const broken = structuredClone(all.formal.adapter.weights[0]!.factors);
    broken['a']!.values[0] = Infinity;
    const [entry] = all.formal.adapter.weights;
    await expect(
      set.add('broken', {...all.formal.adapter, weights: [{...entry!, factors: broken}]}),
    ).rejects.toThrow(/holds NaN or infinity/);
    expect(numTensors()).toBe(after);
    expect(numbers(model)).toEqual(before);
    expect(set.active).toBe('short');
    expect(tensors).toBeLessThan(after);
    set.use('french');
    expect(numbers(model)).toEqual(all.french.trained);
    set.dispose();
  });

  test('does not undo what others did', async () => {
    const all = await three();
    const {model, base} = all;
    const set = await setOf(all);
    set.use('short');
    const optimizer = train(model, lora({rank: 1}), {targets: /(middle)\/kernel/}, 1);
    const trained = numbers(model);
    expect(() => set.use('french')).toThrow(/middle\/kernel was changed by something else/);
    expect(numbers(model)).toEqual(trained);
    set.dispose();
    expect(numbers(model)).toEqual({...base, 'middle/kernel': trained['middle/kernel']});
    optimizer.dispose();
  });

  test("with base: 'ignore' takes adapters of other models", async () => {
    const model = mlp();
    const stranger = await learned(mlp(undefined, 5));
    const set = new AdapterSet(model, {base: 'ignore'});
    await set.add('stranger', stranger.adapter);
    const base = numbers(model);
    set.use('stranger');
    expect(worst(numbers(model), base)).toBeGreaterThan(1e-3);
    set.use(null);
    expect(numbers(model)).toEqual(base);
    set.dispose();
    expect(() => new AdapterSet(model, {base: 'no'} as never)).toThrow(/'check' or 'ignore'/);
  });
});

describe('combined adapters', () => {
  test('are one with the sum of the changes', async () => {
    await tf.setBackend('cpu');
    const model = mlp();
    const parts = [
      {
        ...(await learned(model, lora({rank: 2, alpha: 6}), {targets: /(hidden|middle)\/kernel/}, 1)),
        weight: 0.7,
      },
      {
        ...(await learned(
          model,
          lora({rank: 1, init: symmetric(), rankStabilised: true}),
          {targets: /(middle|out)\/kernel/},
          2,
        )),
        weight: -0.5,
      },
      {...(await learned(model, loraFA({rank: 2}), {targets: /(middle)\/kernel/}, 3)), weight: 2},
    ];
    const [{base}] = parts as [(typeof parts)[0]];
    let sum: ReturnType<typeof combine>;
    expect(await tensorsLeftBy(() => (sum = combine(parts, {metadata: {made: 'of three'}})))).toBe(0);
    expect(sum!.metadata).toEqual({made: 'of three'});
    const ranks = sum!.weights.map(({path, parametrization}) => [path, parametrization!.rank]);
    expect(ranks).toEqual([
      ['hidden/kernel', 2],
      ['middle/kernel', 2 + 2 + 2],
      ['out/kernel', 2],
    ]);
    await mergeAdapter(model, sum!);
    const wanted = Object.fromEntries(
      Object.entries(base).map(([path, w0]) => [
        path,
        w0.map((v, i) =>
          parts.reduce((total, {trained, weight}) => total + weight * (trained[path]![i]! - v), v),
        ),
      ]),
    );
    const got = numbers(model);
    expect(worst(got, wanted)).toBeLessThan(3e-6);
    expect(relativeError(got['out/kernel']!, base['out/kernel']!)).toBeGreaterThan(1e-3);
  });

  test('are refused where a sum is no adapter', async () => {
    await tf.setBackend('cpu');
    const model = mlp();
    const {adapter} = await learned(model, lora({rank: 2}));
    const other = (await learned(model, dora({rank: 1}))).adapter;
    const stranger = (await learned(mlp(undefined, 5), lora({rank: 2}))).adapter;
    const half = (one: typeof adapter) => ({adapter: one, weight: 0.5});
    expect(() => combine([half(adapter), half(other)])).toThrow(
      /hidden\/kernel is of dora, and a sum .* AdapterSet/,
    );
    expect(() => combine([half(adapter), half(stranger)])).toThrow(
      /different models: hidden\/kernel has norm/,
    );
    expect(combine([half(adapter), half(stranger)], {base: 'ignore'}).weights).toHaveLength(3);
    expect(() => combine([])).toThrow(/no adapters/);
    expect(combine([{adapter: other, weight: 1}]).weights).toEqual(other.weights);
  });
});
