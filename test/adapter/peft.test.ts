import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {beforeAll, describe, expect, test} from 'vitest';
import type {Adapter, AdapterWeight, HostTensor} from '../../src/adapter/adapter.js';
import {fromPeft} from '../../src/adapter/peft/from-peft.js';
import {type PeftFiles, toPeft} from '../../src/adapter/peft/to-peft.js';
import {additive, dora, full, hadamard, lora, normal, pissa, recipe, symmetric} from '../../src/index.js';
import type {Parametrization} from '../../src/parametrization.js';
import {applied, type Before, learned} from './learned.js';
import {forms, shapes} from './peft-forms.js';
import {asTorch, distance, merged, readTensors, type Torch} from './torch.js';

beforeAll(() => tf.setBackend('cpu'));

const torchName = (path: string) =>
  path
    .replace(/\/(bias|beta)$/, '.bias')
    .replace(/\/\w+$/, '.weight')
    .replaceAll('/', '.');
const torchBase = (before: ReadonlyMap<string, Before>) =>
  new Map([...before].map(([path, {shape, values}]) => [torchName(path), asTorch(path, shape, values)]));
const change = (after: ArrayLike<number>, from: ArrayLike<number>) =>
  Float64Array.from(after as Float64Array, (value, i) => value - from[i]!);
const read = (files: PeftFiles, options = {}) =>
  fromPeft({config: files['adapter_config.json'], weights: files['adapter_model.safetensors']}, options);
const configOf = (files: PeftFiles) => JSON.parse(files['adapter_config.json']) as Record<string, unknown>;

/** How far PEFT's reading, and our own, are from what the adapter itself does; relative to the change. */
function errors(adapter: Adapter, before: ReadonlyMap<string, Before>, files: PeftFiles): [number, number] {
  const base = torchBase(before);
  const there = merged(files, base);
  const here = new Map(read(files).weights.map(weight => [weight.path, weight]));
  let [worstThere, worstHere] = [0, 0];
  for (const weight of adapter.weights) {
    const from = before.get(weight.path)!;
    const wanted = applied(weight, from);
    expect(distance(wanted, from.values)).toBeGreaterThan(1e-3);
    const torch = asTorch(weight.path, weight.shape, change(wanted, from.values)).values;
    const name = torchName(weight.path);
    worstThere = Math.max(
      worstThere,
      distance(torch, change(there.get(name)!.values, base.get(name)!.values)),
    );
    const again = here.get(weight.path)!;
    expect(again.shape).toEqual(weight.shape);
    worstHere = Math.max(
      worstHere,
      distance(change(wanted, from.values), change(applied(again, from), from.values)),
    );
  }
  return [worstThere, worstHere];
}

describe('PEFT, reading what was written, makes the change', () => {
  test.each(forms)('of %s', (_, parametrization) => {
    const {adapter, before} = learned(shapes, parametrization);
    const tensors = tf.memory().numTensors;
    const [there, here] = errors(adapter, before, toPeft(adapter));
    expect(there).toBeLessThan(5e-6);
    expect(here).toBeLessThan(5e-6);
    expect(tf.memory().numTensors).toBe(tensors);
  });

  test('of lora to the last digit: the factors are not touched', () => {
    const {adapter, before} = learned(shapes, lora({rank: 3, alpha: 7}));
    const base = torchBase(before);
    const there = merged(toPeft(adapter), base);
    const here = read(toPeft(adapter));
    for (const [index, {path, shape, factors}] of adapter.weights.entries()) {
      const [a, b] = [factors['a']!.values, factors['b']!.values];
      const n = shape.at(-1)!;
      const delta = Float64Array.from(before.get(path)!.values, (_, at) => {
        const [i, j] = [Math.floor(at / n), at % n];
        return (7 / 3) * [0, 1, 2].reduce((sum, t) => sum + a[i * 3 + t]! * b[t * n + j]!, 0);
      });
      const name = torchName(path);
      expect(
        distance(asTorch(path, shape, delta).values, change(there.get(name)!.values, base.get(name)!.values)),
      ).toBeLessThan(1e-12);
      const again = here.weights.find(weight => weight.path === path)!;
      expect(again.factors).toEqual(adapter.weights[index]!.factors);
    }
  });

  test('of any shape, rank and scale', () => {
    const size = fc.integer({min: 1, max: 5});
    const shape = fc.oneof(
      fc.tuple(size, size),
      fc.tuple(size, size, size),
      fc.tuple(size, size, size, size),
      fc.tuple(size, size, size, size, size),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(shape, size, fc.integer({min: 1, max: 9}), fc.boolean()), {
          minLength: 1,
          maxLength: 5,
        }),
        weights => {
          const before = new Map<string, Before>();
          const adapter: Adapter = {
            generatedBy: 'a test',
            metadata: {},
            weights: weights.map(([shape, rank, alpha, rankStabilised], i): AdapterWeight => {
              const path = `l${i}/${shape.length === 2 && i % 2 ? 'embeddings' : 'kernel'}`;
              const n = shape.at(-1)!;
              const m = shape.reduce((product, axis) => product * axis, 1) / n;
              const numbers = (length: number, seed: number) =>
                tf.tidy(() => normal([length], seed).dataSync().slice() as Float32Array);
              before.set(path, {shape, values: numbers(m * n, i)});
              return {
                path,
                shape,
                parametrization: lora({rank, alpha, rankStabilised}),
                factors: {
                  a: {shape: [m, rank], values: numbers(m * rank, 10 + i)},
                  b: {shape: [rank, n], values: numbers(rank * n, 20 + i)},
                },
                frozen: {},
                base: null,
              };
            }),
          };
          const [there, here] = errors(adapter, before, toPeft(adapter));
          expect(Math.max(there, here)).toBeLessThan(1e-5);
        },
      ),
      {numRuns: 60},
    );
  });

  test('in 16 bits, of a start far from zero, to the digits of its change', () => {
    const {adapter, before} = learned({'a/kernel': [30, 20]}, lora({rank: 2, init: pissa()}));
    const [there] = errors(adapter, before, toPeft(adapter, {dtype: 'F16'}));
    expect(there).toBeGreaterThan(1e-5);
    expect(there).toBeLessThan(2e-3);
    expect(errors(adapter, before, toPeft(adapter, {dtype: 'BF16'}))[0]).toBeLessThan(2e-2);
    const dtypes = [...readTensors(toPeft(adapter, {dtype: 'BF16'})['adapter_model.safetensors']).values()];
    expect(dtypes.map(tensor => tensor.dtype)).toEqual(['BF16', 'BF16']);
  });

  test('in F16, of factors too small or too large for it: alpha makes up for a power of two', () => {
    for (const parametrization of [
      lora({rank: 2, alpha: 3}),
      lora({rank: 2, alpha: 3, rankStabilised: true}),
      dora({rank: 2, alpha: 3}),
    ]) {
      const {adapter, before} = learned({'a/kernel': [9, 8], 'b/kernel': [9, 8]}, parametrization);
      const times = (tensor: HostTensor, by: number): HostTensor => ({
        shape: tensor.shape,
        values: Float32Array.from(tensor.values, value => value * by),
      });
      const [first, second] = adapter.weights as [AdapterWeight, AdapterWeight];
      const {a, b} = second.factors as {a: HostTensor; b: HostTensor};
      const moved = {...second, factors: {...second.factors, a: times(a, 2 ** 20), b: times(b, 2 ** -20)}};
      const files = toPeft({...adapter, weights: [first, moved]}, {dtype: 'F16'});
      const base = torchBase(before);
      const there = merged(files, base);
      const from = before.get('b/kernel')!;
      const wanted = asTorch('kernel', second.shape, change(applied(second, from), from.values)).values;
      const found = change(there.get('b.weight')!.values, base.get('b.weight')!.values);
      expect(distance(wanted, found)).toBeLessThan(4e-3);
      const untouched = {...adapter, weights: [first]};
      expect(configOf(toPeft(untouched, {dtype: 'F16'}))).toEqual(configOf(toPeft(untouched)));
    }
  });

  test('of weights trained whole, with biases, beside adapted ones', () => {
    const whole = {
      'block0/query/kernel': [12, 10],
      'block0/query/bias': [10],
      'head/kernel': [6, 5],
      'head/bias': [5],
      'norm/gamma': [6],
      'norm/beta': [6],
      'other/bias': [4],
      'image/kernel': [3, 2, 4, 8],
      'sound/kernel': [3, 4, 6],
      'tokens/embeddings': [20, 6],
    };
    const {adapter, before} = learned(whole, lora({rank: 2}), {
      targets: 'block0/query/kernel',
      rest: 'train',
    });
    const files = toPeft(adapter);
    const [there, here] = errors(adapter, before, files);
    expect([there < 5e-6, here]).toEqual([true, expect.closeTo(0, 5)]);
    expect(configOf(files)).toMatchObject({
      bias: 'all',
      modules_to_save: ['head', 'norm', 'image', 'sound', 'tokens'],
      target_modules: ['block0.query'],
    });
    expect([...readTensors(files['adapter_model.safetensors']).keys()].sort()).toEqual(
      [
        'block0.query.base_layer.bias',
        'block0.query.lora_A.weight',
        'block0.query.lora_B.weight',
        'head.bias',
        'head.weight',
        'image.weight',
        'norm.bias',
        'norm.weight',
        'other.bias',
        'sound.weight',
        'tokens.weight',
      ].map(name => `base_model.model.${name}`),
    );
  });

  test('of a depthwise kernel trained whole: [kh, kw, in, times] is [in times, 1, kh, kw]', () => {
    const {adapter} = learned({'a/kernel': [5, 5], 'depth/depthwise_kernel': [2, 3, 4, 2]}, lora({rank: 1}), {
      targets: 'a/kernel',
      rest: 'train',
    });
    const files = toPeft(adapter);
    const {shape, values} = readTensors(files['adapter_model.safetensors']).get(
      'base_model.model.depth.weight',
    )!;
    expect(shape).toEqual([8, 1, 2, 3]);
    const {values: ours} = adapter.weights[1]!.factors['weight']!;
    for (let c = 0; c < 4; c++)
      for (let t = 0; t < 2; t++)
        for (let i = 0; i < 2; i++)
          for (let j = 0; j < 3; j++)
            expect(values[((c * 2 + t) * 2 + i) * 3 + j]).toBe(ours[((i * 3 + j) * 4 + c) * 2 + t]);
    const model = {
      'a/kernel': tf.variable(tf.zeros([5, 5])),
      'depth/depthwise_kernel': tf.variable(tf.zeros([2, 3, 4, 2])),
    };
    expect(read(files, {model}).weights.find(weight => weight.path.startsWith('depth'))!.factors).toEqual({
      weight: adapter.weights[1]!.factors['weight'],
    });
  });

  test('where layers hold [in, out] there too: fan_in_fan_out, and a head that is Linear all the same', () => {
    const shapes = {'a/kernel': [4, 6], 'b/kernel': [3, 5], 'score/kernel': [5, 2]};
    const {adapter, before} = learned(shapes, lora({rank: 2}), {targets: 'a/kernel', rest: 'train'});
    const isConv1D = (module: string) => module !== 'score';
    const files = toPeft(adapter, {fanInFanOut: isConv1D});
    expect(configOf(files)['fan_in_fan_out']).toBe(true);
    const there = (path: string, {shape, values}: {shape: readonly number[]; values: ArrayLike<number>}) =>
      path.startsWith('score')
        ? asTorch(path, shape, values)
        : {shape, values: Float64Array.from(values as Float32Array)};
    const base = new Map([...before].map(([path, w]): [string, Torch] => [torchName(path), there(path, w)]));
    const after = merged(files, base);
    for (const weight of adapter.weights) {
      const values = applied(weight, before.get(weight.path)!);
      const wanted = there(weight.path, {shape: weight.shape, values}).values;
      expect(distance(wanted, after.get(torchName(weight.path))!.values)).toBeLessThan(1e-6);
    }
    const models = [
      {fanInFanOut: isConv1D, paths: (module: string) => `${module}/kernel`},
      {
        model: Object.fromEntries(
          Object.entries(shapes).map(([path, s]) => [path, tf.variable(tf.zeros(s))]),
        ),
      },
    ];
    for (const options of models) {
      const again = read(files, options);
      expect(again.weights).toHaveLength(3);
      for (const {path, factors} of adapter.weights) {
        expect(again.weights.find(w => w.path === path)!.factors).toEqual(factors);
      }
    }
  });

  test('fan_in_fan_out is about the layers with factors: a head trained whole is Linear', () => {
    const {adapter} = learned({'a/kernel': [4, 6], 'score/kernel': [5, 2]}, lora({rank: 2}), {
      targets: 'a/kernel',
      rest: 'train',
    });
    const files = toPeft(adapter, {fanInFanOut: true});
    expect(configOf(files)['fan_in_fan_out']).toBe(true);
    const tensor = readTensors(files['adapter_model.safetensors']).get('base_model.model.score.weight')!;
    const {shape, values} = adapter.weights[1]!.factors['weight']!;
    expect(tensor).toMatchObject(asTorch('score/kernel', shape, values));
    expect(read(files).weights.find(w => w.path === 'score/kernel')!.factors).toEqual(
      adapter.weights[1]!.factors,
    );
  });
});

describe('adapter_config.json', () => {
  test('has the most frequent rank and alpha, and patterns for the others', () => {
    const weight = (path: string, rank: number, alpha: number) =>
      learned({[path]: [12, 10]}, lora({rank, alpha})).adapter.weights[0]!;
    const adapter = {
      generatedBy: 'a test',
      metadata: {},
      weights: [
        weight('b/kernel', 4, 4),
        weight('a/b/kernel', 2, 8),
        weight('c/kernel', 2, 4),
        weight('axb/kernel', 2, 8),
      ],
    };
    const files = toPeft(adapter);
    expect(configOf(files)).toEqual({
      peft_type: 'LORA',
      task_type: null,
      base_model_name_or_path: null,
      r: 2,
      lora_alpha: 4,
      rank_pattern: {'^b': 4},
      alpha_pattern: {'a.b': 8, axb: 8},
      target_modules: ['b', 'a.b', 'c', 'axb'],
      modules_to_save: null,
      bias: 'none',
      lora_dropout: 0,
      use_rslora: false,
      use_dora: false,
      fan_in_fan_out: false,
      init_lora_weights: true,
      inference_mode: true,
      layers_to_transform: null,
      layers_pattern: null,
    });
    const again = read(files);
    expect(Object.fromEntries(again.weights.map(w => [w.path, w.parametrization!.rank]))).toEqual({
      'a/b/kernel': 2,
      'axb/kernel': 2,
      'b/kernel': 4,
      'c/kernel': 2,
    });
  });

  test('the longer of two names comes first, because the shorter would mean it too', () => {
    const ranks = {'b/kernel': 4, 'x/b/kernel': 3, 'c/kernel': 2, 'd/kernel': 2};
    const weights = Object.entries(ranks).flatMap(
      ([path, rank]) => learned({[path]: [12, 10]}, lora({rank, alpha: 4})).adapter.weights,
    );
    const files = toPeft({weights, generatedBy: 'a test', metadata: {}});
    expect(Object.entries(configOf(files)['rank_pattern'] as object)).toEqual([
      ['x.b', 3],
      ['b', 4],
    ]);
    expect(Object.fromEntries(read(files).weights.map(w => [w.path, w.parametrization!.rank]))).toEqual(
      ranks,
    );
  });

  test('an adapter whose factors are not of its rank, or not of its weight, is refused', () => {
    const {adapter} = learned({'a/kernel': [9, 8]}, lora({rank: 2}));
    const broken = (change: object) => () =>
      toPeft({...adapter, weights: [{...adapter.weights[0]!, ...change}]});
    expect(broken({parametrization: lora({rank: 3})})).toThrow(/\[9,2\] and \[2,8\] where .*r = 3/);
    expect(broken({shape: [8, 9]})).toThrow(/a\/kernel \[8,9\]: the factors of lora are \[9,2\] and \[2,8\]/);
    expect(broken({factors: {a: adapter.weights[0]!.factors['a']}})).toThrow(/lora needs 'b'/);
  });

  test('a start away from zero doubles the rank, and alpha so that the scale stays', () => {
    const files = toPeft(learned({'a/kernel': [9, 9]}, lora({rank: 2, alpha: 3, init: symmetric()})).adapter);
    expect(configOf(files)).toMatchObject({r: 4, lora_alpha: 6, use_rslora: false});
    const stable = lora({rank: 2, alpha: 3, rankStabilised: true, init: symmetric()});
    const {adapter} = learned({'a/kernel': [9, 9], 'b/kernel': [9, 9]}, stable);
    expect(configOf(toPeft(adapter))).toMatchObject({
      r: 4,
      use_rslora: false,
      lora_alpha: (4 * 3) / Math.SQRT2,
    });
  });

  test('names the model and the task, and the card does', () => {
    const {adapter} = learned({'a/kernel': [9, 9]}, lora({rank: 1}));
    const files = toPeft(adapter, {baseModel: 'me/model', taskType: 'CAUSAL_LM'});
    expect(configOf(files)).toMatchObject({base_model_name_or_path: 'me/model', task_type: 'CAUSAL_LM'});
    expect(files['README.md']).toBe(
      '---\nbase_model: "me/model"\nlibrary_name: peft\n---\n\nTrained in TensorFlow.js with a test.\n',
    );
    expect(read(files).metadata).toEqual({base_model_name_or_path: 'me/model', task_type: 'CAUSAL_LM'});
  });

  test('written twice it is the same', () => {
    const {adapter} = learned(shapes, lora({rank: 2}));
    expect(toPeft(adapter)).toEqual(toPeft(adapter));
  });
});

describe('what PEFT has no place for', () => {
  test.each<[string, Record<string, number[]>, Parametrization, RegExp]>([
    [
      'a recurrent kernel',
      {'lstm/kernel': [4, 8]},
      lora({rank: 1}),
      /lstm\/kernel \[4,8\] is a recurrent layer's.*skip: true/,
    ],
    [
      'one with its recurrent kernel',
      {'x/kernel': [4, 8], 'x/recurrent_kernel': [2, 8]},
      lora({rank: 1}),
      /x\/kernel \[4,8\] is a recurrent/,
    ],
    ['a depthwise kernel', {'d/depthwise_kernel': [3, 3, 4, 2]}, lora({rank: 1}), /depthwise kernel/],
    [
      'a transposed convolution',
      {'conv2d_transpose_1/kernel': [3, 3, 4, 5]},
      lora({rank: 1}),
      /transposed convolution/,
    ],
    [
      'a full change',
      {'a/kernel': [4, 8]},
      full(),
      /full makes is no product of two factors.*extractAdapter/,
    ],
    [
      'a product of too many columns',
      {'a/kernel': [100, 8]},
      hadamard({rank: 3}),
      /only of rank 9.*extractAdapter/,
    ],
    [
      'a form that is no product',
      {'a/kernel': [8, 8]},
      additive({form: 'orthogonal'}),
      /additive makes with these options/,
    ],
  ])('%s is an error', (_, shapes, parametrization, message) => {
    const {adapter} = learned(shapes, parametrization);
    expect(() => toPeft(adapter)).toThrow(message);
  });

  test('a parametrization of your own is one', () => {
    const yours = recipe('yours', () => ({...lora({rank: 1}), name: 'yours'}));
    const {adapter} = learned({'a/kernel': [4, 8]}, yours());
    expect(() => toPeft(adapter)).toThrow(/yours makes is no product.*extractAdapter/);
  });

  test.each([
    ['lstm_LSTM1', true],
    ['net/forward_gru_2', true],
    ['simple_rnn', true],
    ['lstm_head', false],
    ['transpose_net/conv', false],
    ['algorithm', false],
  ])('%s/kernel is a recurrent kernel: %s', (layer, isRecurrent) => {
    const {adapter} = learned({[`${layer}/kernel`]: [4, 8]}, lora({rank: 1}));
    if (isRecurrent) expect(() => toPeft(adapter)).toThrow(/recurrent/);
    else expect(() => toPeft(adapter)).not.toThrow();
  });

  test('a model tells the kernel of a recurrent layer of any name', () => {
    const {adapter} = learned({'encoder/kernel': [4, 8]}, lora({rank: 1}));
    const model = {
      'encoder/kernel': tf.variable(tf.zeros([4, 8])),
      'encoder/recurrent_kernel': tf.variable(tf.zeros([2, 8])),
    };
    expect(() => toPeft(adapter)).not.toThrow();
    expect(() => toPeft(adapter, {model})).toThrow(/encoder\/kernel \[4,8\] is a recurrent/);
  });

  test('skip leaves it out, and names may', () => {
    const {adapter} = learned({'gru_1/kernel': [4, 8], 'a/kernel': [4, 8]}, lora({rank: 1}));
    const keys = (files: PeftFiles) => [...readTensors(files['adapter_model.safetensors']).keys()];
    const left = ['base_model.model.a.lora_A.weight', 'base_model.model.a.lora_B.weight'];
    expect(keys(toPeft(adapter, {skip: true}))).toEqual(left);
    expect(keys(toPeft(adapter, {names: path => (path === 'a/kernel' ? 'a' : null)}))).toEqual(left);
  });

  test('an adapter without factors, or with LoRA beside DoRA', () => {
    const {adapter} = learned({'a/bias': [4]}, lora({rank: 1}), {targets: [['a', 'train']]});
    expect(() => toPeft(adapter)).toThrow(/no weight has learned through factors/);
    const mixed = [lora({rank: 1}), dora({rank: 1})].flatMap(
      (p, i) => learned({[`l${i}/kernel`]: [4, 8]}, p).adapter.weights,
    );
    expect(() => toPeft({...adapter, weights: mixed})).toThrow(/l0\/kernel is LoRA and others are DoRA/);
  });

  test('skip leaves out what has no place, and hides no damage', () => {
    const {adapter} = learned({'a/kernel': [9, 8], 'b/kernel': [9, 8]}, lora({rank: 2}));
    const [first, second] = adapter.weights as [AdapterWeight, AdapterWeight];
    const broken = {
      ...second,
      factors: {...second.factors, a: {shape: [5, 2], values: new Float32Array(10)}},
    };
    expect(() => toPeft({...adapter, weights: [first, broken]}, {skip: true})).toThrow(
      /b\/kernel \[9,8\]: the factors of lora are \[5,2\] and \[2,8\]/,
    );
    const without = {...second, factors: {a: second.factors['a']!}};
    expect(() => toPeft({...adapter, weights: [first, without]}, {skip: true})).toThrow(/lora needs 'b'/);
  });

  test('numbers that are not finite', () => {
    const {adapter} = learned({'a/kernel': [9, 8], 'b/bias': [3]}, lora({rank: 2}), {
      targets: 'a/kernel',
      rest: 'train',
    });
    const [weight, bias] = adapter.weights as [AdapterWeight, AdapterWeight];
    for (const bad of [NaN, Infinity, -Infinity]) {
      for (const key of ['a', 'b']) {
        const {shape, values} = weight.factors[key]!;
        const changed = Float32Array.from(values, (value, i) => (i === 3 ? bad : value));
        const factors = {...weight.factors, [key]: {shape, values: changed}};
        expect(() => toPeft({...adapter, weights: [{...weight, factors}, bias]}, {skip: true})).toThrow(
          new RegExp(`a/kernel has ${bad} in a.lora_${key.toUpperCase()}.weight; it must be finite`),
        );
      }
      const factors = {weight: {shape: [3], values: Float32Array.of(1, bad, 2)}};
      expect(() => toPeft({...adapter, weights: [weight, {...bias, factors}]})).toThrow(/b\/bias has/);
    }
  });

  test('two weights of one name, even with skip', () => {
    const {adapter} = learned({'a/kernel': [4, 8], 'b/kernel': [4, 8]}, lora({rank: 1}));
    expect(() => toPeft(adapter, {names: () => 'x', skip: true})).toThrow(
      /a\/kernel and b\/kernel would both be x\.weight; tell them apart by `names`/,
    );
    expect(() => toPeft(adapter, {names: () => ''})).toThrow(/must give a name or null for a\/kernel/);
    expect(() => toPeft(adapter, {rank: 1} as object)).toThrow(/unknown option 'rank'/);
  });
});

/** Files as PEFT writes them, by hand. */
function peft(
  tensors: Record<string, readonly number[]>,
  config: object = {},
  dtype = 'F32',
): {config: string; weights: Uint8Array; files: PeftFiles} {
  const header: Record<string, unknown> = {__metadata__: {format: 'pt'}};
  const numbers: number[] = [];
  Object.entries(tensors).forEach(([name, shape], k) => {
    const size = shape.reduce((product, axis) => product * axis, 1);
    const from = 4 * numbers.length;
    for (let i = 0; i < size; i++) numbers.push(Math.sin(1 + i * (k + 2)));
    header[`base_model.model.${name}`] = {dtype, shape, data_offsets: [from, 4 * numbers.length]};
  });
  const text = Buffer.from(JSON.stringify(header));
  const weights = Buffer.alloc(8 + text.length + 4 * numbers.length);
  weights.writeBigUInt64LE(BigInt(text.length));
  text.copy(weights, 8);
  numbers.forEach((value, i) => weights.writeFloatLE(value, 8 + text.length + 4 * i));
  const all = {
    peft_type: 'LORA',
    r: 2,
    lora_alpha: 6,
    rank_pattern: {},
    alpha_pattern: {},
    use_rslora: false,
    use_dora: false,
    fan_in_fan_out: false,
    target_modules: Object.keys(tensors).flatMap(name => /^(.+)\.lora_(embedding_)?A/.exec(name)?.[1] ?? []),
    ...config,
  };
  const files = {
    'adapter_config.json': JSON.stringify(all),
    'adapter_model.safetensors': weights,
    'README.md': '',
  };
  return {config: files['adapter_config.json'], weights, files};
}
const pair = (module: string, ins: number, outs: number, r = 2) => ({
  [`${module}.lora_A.weight`]: [r, ins],
  [`${module}.lora_B.weight`]: [outs, r],
});

describe('reading what PEFT wrote', () => {
  const everything = {
    ...pair('model.layers.0.q_proj', 6, 4),
    'conv.lora_A.weight': [3, 5, 2, 3],
    'conv.lora_B.weight': [4, 3, 1, 1],
    'embed.lora_embedding_A': [2, 9],
    'embed.lora_embedding_B': [4, 2],
  };
  const base: [string, string, number[]][] = [
    ['model.layers.0.q_proj', 'model/layers/0/q_proj/kernel', [6, 4]],
    ['conv', 'conv/kernel', [2, 3, 5, 4]],
    ['embed', 'embed/embeddings', [9, 4]],
  ];
  const before = new Map(
    base.map(([, path, shape], k) => {
      const size = shape.reduce((product, axis) => product * axis, 1);
      return [path, {shape, values: Float32Array.from({length: size}, (_, i) => Math.cos(i + k))}] as const;
    }),
  );

  test.each([
    ['lora', {}, {}],
    ['rank-stabilised', {use_rslora: true}, {}],
    ['patterns', {alpha_pattern: {'layers\\.\\d+\\.(q|v)_proj': 3, conv: 5}}, {}],
    [
      'dora',
      {use_dora: true},
      {
        'model.layers.0.q_proj.lora_magnitude_vector': [4],
        'conv.lora_magnitude_vector': [1, 4, 1, 1],
        'embed.lora_magnitude_vector': [4],
      },
    ],
  ])('%s: the change is the same', (_, config, more) => {
    const {files} = peft({...everything, ...more}, {rank_pattern: {conv: 3}, ...config});
    const torch = new Map(
      base.map(([module, path, shape]) => [
        `${module}.weight`,
        asTorch(path, shape, before.get(path)!.values),
      ]),
    );
    const there = merged(files, torch);
    const {weights} = read(files);
    expect(weights.map(({path, shape}) => [path, shape])).toEqual(
      expect.arrayContaining(base.map(([, path, shape]) => [path, shape])),
    );
    for (const weight of weights) {
      const ours = asTorch(weight.path, weight.shape, applied(weight, before.get(weight.path)!)).values;
      const [module] = base.find(([, path]) => path === weight.path)!;
      expect(distance(there.get(`${module}.weight`)!.values, ours), weight.path).toBeLessThan(1e-6);
    }
  });

  test('the config may be an object, and the magnitude a module of its own', () => {
    const {config, weights} = peft(
      {...pair('a', 3, 4), 'a.lora_magnitude_vector.weight': [4]},
      {use_dora: true, peft_version: '0.17.0', auto_mapping: null, unheard_of: [1]},
    );
    const adapter = fromPeft({config: JSON.parse(config) as object, weights});
    expect(adapter.generatedBy).toBe('PEFT 0.17.0');
    expect(adapter.weights[0]!.factors['magnitude']!.shape).toEqual([4]);
  });

  const model = (entries: Record<string, number[]>) =>
    Object.fromEntries(Object.entries(entries).map(([path, shape]) => [path, tf.variable(tf.zeros(shape))]));

  test('a model gives the paths, and a kernel of one point is a dense one', () => {
    const {config, weights} = peft({
      ...pair('a', 3, 4),
      'b.lora_A.weight': [2, 3, 1, 1],
      'b.lora_B.weight': [4, 2, 1, 1],
    });
    const found = fromPeft(
      {config, weights},
      {
        model: model({
          'net/first/pointwise_kernel': [1, 1, 3, 4],
          'net/second/kernel': [3, 4],
          'net/second/bias': [4],
        }),
        names: path => (/first/.test(path) ? 'a' : 'b'),
      },
    );
    expect(found.weights.map(({path, shape}) => [path, shape])).toEqual([
      ['net/first/pointwise_kernel', [1, 1, 3, 4]],
      ['net/second/kernel', [3, 4]],
    ]);
  });

  test('`paths` gives them, and leaves out', () => {
    const {config, weights} = peft({...pair('a', 3, 4), ...pair('b', 3, 4)});
    const paths = (module: string) => (module === 'a' ? 'x/y/kernel' : null);
    expect(fromPeft({config, weights}, {paths}).weights.map(w => w.path)).toEqual(['x/y/kernel']);
    expect(() => fromPeft({config, weights}, {paths: () => 'x'})).toThrow(/a and b would both be x/);
    expect(() => fromPeft({config, weights}, {paths: () => null})).toThrow(/hold no weight/);
    expect(() => fromPeft({config, weights}, {paths: () => 'z', model: model({'a/kernel': [3, 4]})})).toThrow(
      /a is z by `paths`, which this model does not have/,
    );
  });

  test.each<[string, Record<string, number[]>, object, RegExp]>([
    ['half a pair', {'a.lora_A.weight': [2, 3]}, {}, /a has lora_A and no lora_B/],
    ['the other half', {'a.lora_B.weight': [3, 2]}, {}, /a has lora_B and no lora_A/],
    [
      'half an embedding',
      {'a.lora_embedding_A': [2, 3]},
      {},
      /a has lora_embedding_A and no lora_embedding_B/,
    ],
    [
      'ranks that differ',
      {'a.lora_A.weight': [2, 3], 'a.lora_B.weight': [4, 3]},
      {},
      /a has lora_A \[2,3\] and lora_B \[4,3\]/,
    ],
    ['groups', {'a.lora_A.weight': [2, 3, 1, 1], 'a.lora_B.weight': [4, 1, 1, 1]}, {}, /without groups/],
    [
      'a window in B',
      {'a.lora_A.weight': [2, 3, 1, 1], 'a.lora_B.weight': [4, 2, 3, 3]},
      {},
      /\[4,2,3,3\]; needed/,
    ],
    ['axes that differ', {'a.lora_A.weight': [2, 3, 1, 1], 'a.lora_B.weight': [4, 2]}, {}, /needed are/],
    [
      'a rank the config does not give',
      pair('a', 3, 4, 3),
      {},
      /of rank 3, and adapter_config.json gives it 2/,
    ],
    ['a rank 0', pair('a', 3, 4, 0), {r: 0}, /of rank 0/],
    ['no scale', pair('a', 3, 4), {lora_alpha: 0}, /a has the lora_alpha 0/],
    [
      'a magnitude without DoRA',
      {...pair('a', 3, 4), 'a.lora_magnitude_vector': [4]},
      {},
      /a has a lora_magnitude_vector.*use_dora: false/,
    ],
    ['DoRA without a magnitude', pair('a', 3, 4), {use_dora: true}, /a has no lora_magnitude_vector/],
    [
      'a magnitude of another size',
      {...pair('a', 3, 4), 'a.lora_magnitude_vector': [3]},
      {use_dora: true},
      /\[3\] where 4 numbers/,
    ],
    [
      'a whole weight nobody named',
      {...pair('a', 3, 4), 'b.weight': [4]},
      {},
      /b has a whole weight.*modules_to_save/,
    ],
    ['a bias nobody named', {...pair('a', 3, 4), 'a.base_layer.bias': [4]}, {}, /a has a whole bias/],
    [
      'a whole weight of unknown kind',
      {...pair('a', 3, 4), 'b.weight': [4, 3]},
      {modules_to_save: ['b']},
      /b has a whole weight, and what that is called here cannot be known/,
    ],
    [
      'a whole weight with factors',
      {...pair('a', 3, 4), 'a.weight': [4, 3]},
      {modules_to_save: ['a']},
      /both a whole weight and factors/,
    ],
    [
      'a bias twice',
      {...pair('a', 3, 4), 'a.bias': [4], 'a.base_layer.bias': [4]},
      {bias: 'all'},
      /two tensors for bias/,
    ],
    [
      'lora_bias',
      {...pair('a', 3, 4), 'a.lora_B.bias': [4]},
      {lora_bias: true},
      /lora_bias: true, which is not read/,
    ],
    [
      'the tensor of lora_bias',
      {...pair('a', 3, 4), 'a.lora_B.bias': [4]},
      {bias: 'all'},
      /'base_model.model.a.lora_B.bias' \[4\] is not understood/,
    ],
    [
      'a base without factors',
      {'a.base_layer.weight': [4, 3]},
      {},
      /a has a base_layer.weight and no factors/,
    ],
    [
      'a square whole matrix that may be of Conv1D',
      {...pair('a', 3, 4), 'b.weight': [4, 4]},
      {modules_to_save: ['b'], fan_in_fan_out: true},
      /b has a whole weight.*model/,
    ],
    ['another tensor', {'a.vera_lambda_b': [4]}, {}, /is not understood; expected are/],
    ['another method', pair('a', 3, 4), {peft_type: 'VERA'}, /the peft_type "VERA"; only 'LORA'/],
    ['target_parameters', pair('a', 3, 4), {target_parameters: ['x']}, /target_parameters: \["x"\]/],
    [
      'token indices',
      pair('a', 3, 4),
      {trainable_token_indices: {embed: [1]}},
      /trainable_token_indices: an object/,
    ],
    [
      'a base changed by its start',
      pair('a', 3, 4),
      {init_lora_weights: 'pissa_niter_4'},
      /init_lora_weights: 'pissa_niter_4'.*path_initial_model_for_weight_conversion/,
    ],
    ['r that is no number', pair('a', 3, 4), {r: '2'}, /r: "2"; it must be a number/],
    ['a flag that is none', pair('a', 3, 4), {use_rslora: 1}, /use_rslora: 1; it must be true or false/],
    ['a bias that is none', pair('a', 3, 4), {bias: 'some'}, /bias: "some"/],
    ['a pattern that is none', pair('a', 3, 4), {alpha_pattern: {'a[': 2}}, /the pattern 'a\[' with a '\['/],
    [
      'a flag in a pattern',
      pair('a', 3, 4),
      {alpha_pattern: {'(?i:b)': 2}},
      /the pattern '\(\?i:b\)' with '\(\?i'/,
    ],
    [
      'OLoRA in other letters',
      pair('a', 3, 4),
      {init_lora_weights: 'OLoRA'},
      /init_lora_weights: 'OLoRA'.*path_initial_model/,
    ],
    [
      'modules_to_save beyond counting',
      pair('a', 3, 4),
      {modules_to_save: Array.from({length: 10_001}, (_, i) => `m${i}`)},
      /10001 names in modules_to_save/,
    ],
    ['a pattern without a number', pair('a', 3, 4), {rank_pattern: {a: null}}, /rank_pattern 'a': null/],
  ])('%s is refused', (_, tensors, config, message) => {
    const {files} = peft(tensors, config);
    expect(() => read(files)).toThrow(message);
    expect(() => read(files)).toThrow(/^fromPeft: /);
  });

  test('harmless values of what is not read are read', () => {
    const off = {
      lora_bias: false,
      target_parameters: null,
      trainable_token_indices: null,
      init_lora_weights: 'gaussian',
      layers_to_transform: [1],
    };
    expect(read(peft(pair('a', 3, 4), off).files).weights).toHaveLength(1);
  });

  test('a model that does not fit is named with both shapes', () => {
    const {config, weights} = peft(pair('a', 3, 4));
    const given = (entries: Record<string, number[]>) => () =>
      fromPeft({config, weights}, {model: model(entries)});
    expect(given({'a/kernel': [3, 5]})).toThrow(
      /a is for a weight \[3,4\], and a\/kernel of this model is \[3,5\]/,
    );
    expect(given({'b/kernel': [3, 4]})).toThrow(
      /a has a weight that this model does not have; its modules are b\. Give/,
    );
    expect(given({'a/kernel': [3, 4], 'a/embeddings': [3, 4]})).toThrow(
      /could be a\/kernel or a\/embeddings/,
    );
    expect(given({'a/kernel': [3, 4], 'a/recurrent_kernel': [1, 4]})).toThrow(/could be|recurrent/);
    expect(given({'gru/a/kernel': [3, 4], 'a/kernel': [3, 4]})).not.toThrow();
    expect(given({'a/kernel': [3, 4]})).not.toThrow();
  });

  test('a config that is no JSON, has a key twice or is a list', () => {
    const {weights} = peft(pair('a', 3, 4));
    expect(() => fromPeft({config: '{', weights})).toThrow(/adapter_config.json is no JSON/);
    expect(() => fromPeft({config: '{"r":1,"r":2}', weights})).toThrow(/'r' stands twice/);
    expect(() => fromPeft({config: '[]', weights})).toThrow(/no JSON object/);
    expect(() => fromPeft({config: '{"__proto__":{"peft_type":"LORA"}}', weights})).toThrow(
      /peft_type left out/,
    );
  });

  test('names of toPeft, with the model, find the way back', () => {
    const {adapter} = learned(
      {'tf/layer_._0/query/kernel': [4, 6], 'tf/layer_._0/query/bias': [6], 'tf/norm/gamma': [6]},
      lora({rank: 1}),
      {targets: 'tf/layer_._0/query/kernel', rest: 'train'},
    );
    const names = (path: string) => torchName(path.replace('tf/layer_._', 'layer/')).replace(/\.\w+$/, '');
    const {'adapter_config.json': config, 'adapter_model.safetensors': weights} = toPeft(adapter, {names});
    const tensors = readTensors(weights);
    expect([...tensors.keys()]).toContain('base_model.model.layer.0.query.lora_A.weight');
    const own = model(Object.fromEntries(adapter.weights.map(({path, shape}) => [path, [...shape]])));
    const again = fromPeft({config, weights}, {model: own, names});
    const inOrder = (given: Adapter) => [...given.weights].sort((a, b) => (a.path < b.path ? -1 : 1));
    expect(inOrder(again).map(({path, factors}) => ({path, factors}))).toEqual(
      inOrder(adapter).map(({path, factors}) => ({path, factors})),
    );
  });

  test('no change of a byte, in either file, does anything but an error or another adapter', () => {
    const {adapter} = learned(shapes, dora({rank: 1}));
    const files = toPeft(adapter);
    const [config, weights] = [Buffer.from(files['adapter_config.json']), files['adapter_model.safetensors']];
    const headerEnd = 8 + Number(Buffer.from(weights).readBigUInt64LE(0));
    const tensors = tf.memory().numTensors;
    fc.assert(
      fc.property(fc.boolean(), fc.nat(), fc.nat(255), (isConfig, at, value) => {
        const changed = {config: Buffer.from(config), weights: Buffer.from(weights)};
        if (isConfig) changed.config[at % config.length] = value;
        else changed.weights[at % headerEnd] = value;
        try {
          const {weights} = fromPeft({config: changed.config.toString(), weights: changed.weights});
          for (const {factors} of weights) expect(Object.keys(factors).length).toBeGreaterThan(0);
        } catch (error) {
          expect(String(error)).toMatch(/^Error: (fromPeft|not a readable safetensors file): /);
        }
      }),
      {numRuns: 1500},
    );
    expect(tf.memory().numTensors).toBe(tensors);
  });

  test("RoBERTa's head: modules_to_save names what holds it", () => {
    const {config, weights} = peft(
      {
        ...pair('roberta.encoder.layer.0.attention.self.query', 6, 6),
        'classifier.dense.weight': [6, 5],
        'classifier.dense.bias': [6],
        'classifier.out_proj.weight': [2, 6],
        'classifier.out_proj.bias': [2],
      },
      {modules_to_save: ['classifier', 'score']},
    );
    const {weights: found} = fromPeft(
      {config, weights},
      {
        model: model({
          'roberta/encoder/layer/0/attention/self/query/kernel': [6, 6],
          'classifier/dense/kernel': [5, 6],
          'classifier/dense/bias': [6],
          'classifier/out_proj/kernel': [6, 2],
          'classifier/out_proj/bias': [2],
        }),
      },
    );
    expect(found.map(({path, shape}) => [path, shape])).toEqual([
      ['roberta/encoder/layer/0/attention/self/query/kernel', [6, 6]],
      ['classifier/dense/kernel', [5, 6]],
      ['classifier/dense/bias', [6]],
      ['classifier/out_proj/kernel', [6, 2]],
      ['classifier/out_proj/bias', [2]],
    ]);
    const dense = readTensors(weights).get('base_model.model.classifier.dense.weight')!;
    const ours = found[1]!.factors['weight']!;
    expect(asTorch('kernel', ours.shape, ours.values)).toMatchObject({
      shape: dense.shape,
      values: dense.values,
    });
  });

  test('modules_to_save means the end of a name, in a word too', () => {
    const named = (module: string, name: string) => () =>
      read(peft({...pair('a', 3, 4), [`${module}.bias`]: [3]}, {modules_to_save: [name]}).files);
    for (const [module, name] of [
      ['my_head', 'head'],
      ['x.head.dense.inner', 'head'],
      ['x.head', 'x.head'],
    ] as const)
      expect(named(module, name)().weights.map(w => w.path)).toContain(`${module.replaceAll('.', '/')}/bias`);
    expect(named('header', 'head')).toThrow(/header has a whole bias/);
    expect(named('head.x', 'dense')).toThrow(/head\.x has a whole bias/);
  });

  test("GPT-2's score is Linear, whatever fan_in_fan_out says of the layers with factors", () => {
    const {config, weights} = peft(
      {...pair('h.0.attn.c_attn', 4, 12), 'score.weight': [2, 4], 'c_fc.weight': [4, 8], 'sq.weight': [4, 4]},
      {modules_to_save: ['score', 'c_fc', 'sq'], fan_in_fan_out: true},
    );
    const own = model({
      'h/0/attn/c_attn/kernel': [4, 12],
      'score/kernel': [4, 2],
      'c_fc/kernel': [4, 8],
      'sq/kernel': [4, 4],
    });
    expect(() => fromPeft({config, weights}, {model: own})).toThrow(
      /sq has a whole weight \[4,4\], and with fan_in_fan_out it may be.*give `fanInFanOut/,
    );
    for (const isConv1D of [false, true]) {
      const found = fromPeft(
        {config, weights},
        {model: own, fanInFanOut: module => module === 'c_fc' || (module === 'sq' && isConv1D)},
      );
      const whole = (path: string) => found.weights.find(w => w.path === path)!.factors['weight']!;
      const there = readTensors(weights);
      for (const [path, isTurned] of [
        ['score', true],
        ['c_fc', false],
        ['sq', !isConv1D],
      ] as const) {
        const {shape, values} = whole(`${path}/kernel`);
        const tensor = there.get(`base_model.model.${path}.weight`)!;
        expect(isTurned ? asTorch('kernel', shape, values).values : Float64Array.from(values)).toEqual(
          tensor.values,
        );
      }
    }
  });

  test('batch normalisation, with its statistics and the count of batches', () => {
    const statistics = {
      'bn.weight': [5],
      'bn.bias': [5],
      'bn.running_mean': [5],
      'bn.running_var': [5],
      'bn.num_batches_tracked': [],
    };
    const {config, weights} = peft({...pair('a', 3, 4), ...statistics}, {modules_to_save: ['bn']});
    // The count is of I64: the last tensor, with eight bytes.
    const file = Buffer.from(weights);
    const length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, 8 + length).toString()) as Record<
      string,
      Record<string, unknown>
    >;
    const count = header['base_model.model.bn.num_batches_tracked']!;
    const [from] = count['data_offsets'] as [number, number];
    Object.assign(count, {dtype: 'I64', data_offsets: [from, from + 8]});
    const text = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    const data = Buffer.concat([file.subarray(8 + length), Buffer.alloc(4)]);
    const changed = Buffer.concat([size, text, data]);
    const own = model({
      'a/kernel': [3, 4],
      'bn/gamma': [5],
      'bn/beta': [5],
      'bn/moving_mean': [5],
      'bn/moving_variance': [5],
    });
    const found = fromPeft({config, weights: changed}, {model: own}).weights;
    expect(found.map(w => w.path)).toEqual([
      'a/kernel',
      'bn/gamma',
      'bn/beta',
      'bn/moving_mean',
      'bn/moving_variance',
    ]);
    const tensors = readTensors(weights);
    for (const [path, name] of [
      ['bn/gamma', 'weight'],
      ['bn/moving_mean', 'running_mean'],
      ['bn/moving_variance', 'running_var'],
    ] as const) {
      expect([...found.find(w => w.path === path)!.factors['weight']!.values]).toEqual([
        ...tensors.get(`base_model.model.bn.${name}`)!.values,
      ]);
    }
  });

  test('the embedding of the base that PEFT saves beside its factors is left out, if it is that of the model', () => {
    const {config, weights} = peft({
      'embed_tokens.base_layer.weight': [9, 4],
      'embed_tokens.lora_embedding_A': [2, 9],
      'embed_tokens.lora_embedding_B': [4, 2],
    });
    expect(
      read({...peft({}).files, 'adapter_config.json': config, 'adapter_model.safetensors': weights}).weights,
    ).toHaveLength(1);
    const base = readTensors(weights).get('base_model.model.embed_tokens.base_layer.weight')!;
    const of = (change: number) => ({
      'embed_tokens/embeddings': tf.variable(
        tf.tensor2d(
          Float32Array.from(base.values, v => v + change),
          [9, 4],
        ),
      ),
    });
    const {weights: found} = fromPeft({config, weights}, {model: of(1e-3)});
    expect(found.map(({path, shape}) => [path, shape])).toEqual([['embed_tokens/embeddings', [9, 4]]]);
    expect(() => fromPeft({config, weights}, {model: of(0.5)})).toThrow(
      /embed_tokens has a base_layer.weight \[9,4\].*not embed_tokens\/embeddings.*save_embedding_layers=False/,
    );
  });

  test('the names of a raw state_dict, with the name of the adapter in them', () => {
    const {config, weights} = peft(
      {
        'q.lora_A.default.weight': [2, 3],
        'q.lora_B.default.weight': [4, 2],
        'e.lora_embedding_A.default': [2, 9],
        'e.lora_embedding_B.default': [4, 2],
        'q.lora_magnitude_vector.default.weight': [4],
        'e.lora_magnitude_vector.default.weight': [4],
        'head.modules_to_save.default.bias': [5],
      },
      {use_dora: true, modules_to_save: ['head']},
    );
    expect(fromPeft({config, weights}).weights.map(w => w.path)).toEqual([
      'q/kernel',
      'e/embeddings',
      'head/bias',
    ]);
  });

  test("T5's relative_attention_bias, which bias: 'all' saves", () => {
    const tensors = {...pair('a', 3, 4), 'enc.relative_attention_bias.weight': [32, 6]};
    const own = model({'a/kernel': [3, 4], 'enc/relative_attention_bias/embeddings': [32, 6]});
    const {config, weights} = peft(tensors, {bias: 'all'});
    const found = fromPeft({config, weights}, {model: own}).weights;
    expect(found.map(({path, shape}) => [path, shape])).toEqual([
      ['a/kernel', [3, 4]],
      ['enc/relative_attention_bias/embeddings', [32, 6]],
    ]);
    const none = peft(tensors, {bias: 'lora_only'});
    expect(() => fromPeft(none, {model: own})).toThrow(/names it neither in modules_to_save/);
  });

  test('patterns made to take forever are read in no time, and too many of them are not tried', () => {
    const long = 'a'.repeat(250) + 'b';
    const given = (rank_pattern: object, modules = [long]) => {
      const {config, weights} = peft(Object.assign({}, ...modules.map(m => pair(m, 3, 4))), {rank_pattern});
      return () => fromPeft({config, weights}).weights.length;
    };
    const start = performance.now();
    expect(given({[`${'(a|a)'.repeat(300)}c`]: 3})()).toBe(1);
    expect(given({'(a+)+x': 3})()).toBe(1);
    expect(given({'(a*)*(a*)*a*a*a*a*a*a*[c]': 3})()).toBe(1);
    expect(given({[`${'a?'.repeat(900)}c`]: 3})()).toBe(1);
    const many = Object.fromEntries(Array.from({length: 9000}, (_, i) => [`(a|a)*${i}c`, 3]));
    const modules = Array.from({length: 300}, (_, i) => `${long}${i}`);
    expect(given(many, modules)).toThrow(/^fromPeft: adapter_config.json has patterns that are too involved/);
    const more = Object.fromEntries(Array.from({length: 10_001}, (_, i) => [`b${i}`, 3]));
    expect(given(more)).toThrow(/has 10001 patterns, and 10000 are the most/);
    expect(performance.now() - start).toBeLessThan(20_000);
  });

  test('a tensor of whole numbers, and one without the prefix', () => {
    const {config, weights} = peft(pair('a', 3, 4), {}, 'I32');
    expect(() => fromPeft({config, weights})).toThrow(/a has lora_A.weight as I32; it must be floats/);
    const text = Buffer.from(weights)
      .toString('latin1')
      .replaceAll('base_model.model.', 'BASE_model.model.')
      .replaceAll('I32', 'F32');
    expect(() => fromPeft({config, weights: Buffer.from(text, 'latin1')})).toThrow(
      /is not understood; expected are base_model.model/,
    );
  });
});
