import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {fromPeft} from '../../src/adapter/peft/from-peft.js';
import {type PeftFiles, toPeft, type ToPeftOptions} from '../../src/adapter/peft/to-peft.js';
import {lora, normal} from '../../src/index.js';
import {learned} from './learned.js';
import {asTorch, distance, merged, readTensors, type Torch} from './torch.js';

beforeAll(() => tf.setBackend('cpu'));

type Shapes = Readonly<Record<string, readonly number[]>>;

/** An adapter with factors for some weights and others trained whole, of a model that has still others. */
function given(adapted: Shapes, whole: Shapes = {}, frozen: Shapes = {}) {
  const {adapter} = learned({...adapted, ...whole}, lora({rank: 2}), {
    targets: [[({name}) => Object.hasOwn(adapted, name), lora({rank: 2})]],
    rest: 'train',
  });
  const shapes = {...adapted, ...whole, ...frozen};
  const model = Object.fromEntries(
    Object.entries(shapes).map(([path, shape], i) => [path, tf.variable(normal([...shape], 90 + i))]),
  );
  return {adapter, model, base: torch(model)};
}

const NAMES: Readonly<Record<string, string>> = {
  beta: 'bias',
  bias: 'bias',
  moving_mean: 'running_mean',
  moving_variance: 'running_var',
};
function torch(model: Readonly<Record<string, tf.Variable>>): Map<string, Torch> {
  const base = new Map<string, Torch>();
  for (const [path, variable] of Object.entries(model)) {
    const [, layer, own] = /^(.*)\/(.*)$/.exec(path) as unknown as [string, string, string];
    const module = layer.replaceAll('/', '.');
    base.set(`${module}.${NAMES[own] ?? 'weight'}`, asTorch(path, variable.shape, variable.dataSync()));
    if (own === 'moving_mean') {
      base.set(`${module}.num_batches_tracked`, {shape: [], values: Float64Array.of(12)});
    }
  }
  return base;
}
const configOf = (files: PeftFiles) => JSON.parse(files['adapter_config.json']) as Record<string, unknown>;
const namesIn = (files: PeftFiles) =>
  [...readTensors(files['adapter_model.safetensors']).keys()].map(name => name.slice(17)).sort();

/** The files load there, and make of every weight what the adapter says; the others stay. */
function expectLoads(
  {adapter, model, base}: ReturnType<typeof given>,
  options: ToPeftOptions = {},
): PeftFiles {
  const files = toPeft(adapter, options);
  const after = merged(files, base);
  const changed = new Set<string>();
  for (const {path, shape, parametrization, factors} of adapter.weights) {
    const own = path.slice(path.lastIndexOf('/') + 1);
    const name = path.slice(0, path.lastIndexOf('/')).replaceAll('/', '.') + `.${NAMES[own] ?? 'weight'}`;
    changed.add(name);
    const values = Float64Array.from(model[path]!.dataSync());
    if (parametrization === null) values.set(factors['weight']!.values);
    else {
      const [{values: a}, {values: b}] = [factors['a']!, factors['b']!];
      const n = shape.at(-1)!;
      values.forEach((_, at) => {
        const [i, j] = [Math.floor(at / n), at % n];
        values[at]! += a[2 * i]! * b[j]! + a[2 * i + 1]! * b[n + j]!;
      });
    }
    expect(distance(asTorch(path, shape, values).values, after.get(name)!.values), path).toBeLessThan(1e-6);
  }
  for (const [name, {values}] of base) {
    if (!changed.has(name) && !name.endsWith('num_batches_tracked')) {
      expect(after.get(name)!.values, name).toEqual(values);
    }
  }
  return files;
}

const kernel = [5, 4];

describe('PEFT wraps what there are tensors for', () => {
  test('the independent reader sees what is missing: it fails as PEFT does', () => {
    const {adapter, base} = given({'a/kernel': kernel}, {'head/kernel': kernel, 'head/bias': [4]});
    const files = toPeft(adapter);
    const changed = (config: object): PeftFiles => ({
      ...files,
      'adapter_config.json': JSON.stringify({...configOf(files), ...config}),
    });
    expect(() => merged(files, base)).not.toThrow();
    expect(() => merged(changed({target_modules: ['a', 'head']}), base)).toThrow(/KeyError/);
    expect(() => merged(changed({target_modules: []}), base)).toThrow(/without a LoRA layer/);
    expect(() => merged(changed({modules_to_save: null}), base)).toThrow(/was not copied/);
    expect(() => merged(changed({modules_to_save: ['head', 'a']}), base)).toThrow(
      /KeyError: 'base_model.model.a.base_layer.weight'/,
    );
    const more = new Map(base).set('my_head.weight', base.get('a.weight')!);
    expect(() => merged(files, more)).toThrow(/KeyError: 'base_model.model.my_head.weight'/);
    const held = new Map(base).set('x.a.b.weight', base.get('a.weight')!);
    expect(() => merged(files, held)).toThrow(/Target module x\.a is not supported/);
    const buffer = new Map(base).set('head.running_mean', base.get('head.bias')!);
    expect(() => merged(files, buffer)).toThrow(/KeyError: 'base_model.model.head.running_mean'/);
  });

  test('a list where that means no other module', () => {
    const files = expectLoads(
      given({'enc/fc/kernel': kernel, 'b/kernel': kernel}, {}, {'fc2/kernel': kernel}),
    );
    expect(configOf(files)['target_modules']).toEqual(['enc.fc', 'b']);
  });

  test('a module trained whole, whose name ends as that of one with factors', () => {
    const files = expectLoads(given({'fc/kernel': kernel}, {'enc/fc/kernel': kernel, 'enc/fc/bias': [4]}));
    expect(configOf(files)['target_modules']).toBe('^(fc)$');
  });

  test('a frozen one, which only the model tells', () => {
    const all = given({'fc/kernel': kernel, 'a.b/kernel': kernel}, {}, {'enc/fc/kernel': kernel});
    const files = expectLoads(all, {model: all.model});
    expect(configOf(files)['target_modules']).toBe('^(fc|a\\.b)$');
    expect(() => merged(toPeft(all.adapter), all.base)).toThrow(/KeyError.*enc\.fc\.lora_A/);
  });

  test('one that only holds others', () => {
    const all = given({'fc/kernel': kernel}, {}, {'enc/fc/inner/kernel': kernel});
    expect(configOf(expectLoads(all, {model: all.model}))['target_modules']).toBe('^(fc)$');
  });
});

describe('modules_to_save', () => {
  test.each([
    ['my_head', 'head'],
    ['enc/fc', 'fc'],
    ['head/dense', 'x/head', 'head'],
  ])('%s has factors, and %s is whole: neither form says that', (adapted, ...saved) => {
    const whole = Object.fromEntries(saved.map(layer => [`${layer}/kernel`, kernel]));
    const {adapter} = given({[`${adapted}/kernel`]: kernel, 'a/kernel': kernel}, whole);
    const message = new RegExp(`${adapted}/kernel is of .*, and ${saved.at(-1)!} was trained whole`);
    expect(() => toPeft(adapter)).toThrow(message);
    expect(() => toPeft(adapter, {skip: true})).toThrow(message);
    const names = (path: string) =>
      path.startsWith(adapted) ? 'other' : path.split('/').slice(0, -1).join('.');
    expect(() => toPeft(adapter, {names})).not.toThrow();
  });

  test('a name that the whole model ends with', () => {
    const {adapter} = given({'a/kernel': kernel}, {'model/kernel': kernel});
    expect(() => toPeft(adapter)).toThrow(/the whole model is of base_model\.model, and model was/);
  });

  test('a frozen module whose name ends with that of one trained whole is written too', () => {
    const all = given(
      {'a/kernel': kernel},
      {'head/kernel': kernel},
      {'aux_head/kernel': kernel, 'aux_head/bias': [4], 'header/kernel': kernel},
    );
    const files = expectLoads(all, {model: all.model});
    expect(namesIn(files).filter(name => !name.startsWith('a.'))).toEqual([
      'aux_head.bias',
      'aux_head.weight',
      'head.weight',
    ]);
    expect(() => merged(toPeft(all.adapter), all.base)).toThrow(/KeyError.*aux_head/);
  });

  test('a kernel trained whole beside a frozen bias', () => {
    const all = given({'a/kernel': kernel}, {'head/kernel': kernel}, {'head/bias': [4]});
    expectLoads(all, {model: all.model});
    expect(() => merged(toPeft(all.adapter), all.base)).toThrow(/KeyError.*head\.bias/);
  });

  test('a bias alone, in a module that would be copied', () => {
    const all = given(
      {'a/kernel': kernel},
      {'head/kernel': kernel, 'my_head/bias': [4]},
      {'my_head/kernel': kernel},
    );
    expect(() => toPeft(all.adapter)).toThrow(
      /my_head\/bias is my_head\.bias, and PEFT would look for my_head\.weight too.*`model`/,
    );
    expectLoads(all, {model: all.model});
  });

  test('a recurrent layer that would be copied', () => {
    const all = given({'a/kernel': kernel}, {'1/kernel': kernel}, {'lstm_1/kernel': kernel});
    expect(() => toPeft(all.adapter, {model: all.model})).toThrow(
      /lstm_1\/kernel is of lstm_1, and 1 was trained/,
    );
  });

  const statistics = {'batch_normalization_1/moving_mean': [4], 'batch_normalization_1/moving_variance': [4]};
  test('batch normalisation with its statistics, there and back', () => {
    const all = given(
      {'a/kernel': kernel},
      {'batch_normalization_1/gamma': [4], 'batch_normalization_1/beta': [4]},
      statistics,
    );
    const files = expectLoads(all, {model: all.model});
    expect(namesIn(files).filter(name => name.startsWith('batch'))).toEqual(
      ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight'].map(
        part => `batch_normalization_1.${part}`,
      ),
    );
    for (const options of [{}, {model: all.model}]) {
      const {weights} = fromPeft(
        {config: files['adapter_config.json'], weights: files['adapter_model.safetensors']},
        options,
      );
      for (const path of Object.keys(statistics)) {
        expect(weights.find(weight => weight.path === path)!.factors['weight']!.values).toEqual(
          all.model[path]!.dataSync(),
        );
      }
    }
  });

  test('batch normalisation without an offset: PyTorch has one, of zeros', () => {
    const all = given({'a/kernel': kernel}, {'batch_normalization_1/gamma': [4]}, statistics);
    all.base.set('batch_normalization_1.bias', {shape: [4], values: new Float64Array(4)});
    expectLoads(all, {model: all.model});
  });

  test('batch normalisation without a model is refused, or left out', () => {
    const {adapter} = given({'a/kernel': kernel}, {'batch_normalization_1/gamma': [4], 'norm/gamma': [4]});
    expect(() => toPeft(adapter)).toThrow(
      /batch_normalization_1\/gamma \[4\] is of batch normalisation.*`model`/,
    );
    expect(configOf(toPeft(adapter, {skip: true}))['modules_to_save']).toEqual(['norm']);
  });
});
