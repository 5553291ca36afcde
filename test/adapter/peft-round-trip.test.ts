import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {
  decodeSafetensors,
  encodeAdapter,
  encodeSafetensors,
  fromPeft,
  type FromPeftOptions,
  mergeAdapter,
  type PeftFiles,
  toPeft,
  type ToPeftOptions,
} from '../../src/adapter/index.js';
import {printOf} from '../../src/adapter/print.js';
import {dora, lora, type Parametrization} from '../../src/index.js';
import {toJson} from '../../src/recipe.js';
import {learned} from './learned.js';
import {learned as learnedBy, mlp, zoo} from './models.js';
import {forms, shapes} from './peft-forms.js';
import {comparable} from './situations.js';

beforeAll(() => tf.setBackend('cpu'));

const read = (files: PeftFiles, options: FromPeftOptions = {}) =>
  fromPeft({config: files['adapter_config.json'], weights: files['adapter_model.safetensors']}, options);

/** All of an adapter but its factors. */
const frame = ({weights, ...rest}: Adapter) => ({
  ...rest,
  weights: weights.map(({path, shape, base}) => ({path, shape, base})),
});

/** There and back: all but the factors; and what came back goes there and back to the last bit. */
function expectRoundTrip(adapter: Adapter, options: ToPeftOptions = {}): Adapter {
  const files = toPeft(adapter, options);
  const again = read(files);
  expect(frame(again)).toEqual(frame(adapter));
  expect(Object.keys(again).sort()).toEqual(Object.keys(adapter).sort());
  const second = toPeft(again, options);
  expect(second).toEqual(files);
  expect(comparable(read(second), toJson)).toEqual(comparable(again, toJson));
  return again;
}

const noted = (adapter: Adapter): Adapter => ({
  ...adapter,
  generatedBy: 'tfjs-lora 9.9.9, tfjs-core 4.22.0',
  metadata: {task: 'prüfen\n', constructor: 'plain data'},
  model: adapter.weights.map(({path, shape}) => ({path, shape})),
  weights: adapter.weights.map((weight, i) => ({...weight, base: i === 1 ? null : printOf([i, 1 / 3, -7])})),
});

describe('there and back', () => {
  test.each(forms)('%s: names, order, bases, notes; the second time every bit', (_, parametrization) => {
    const {adapter} = learned(shapes, parametrization);
    expectRoundTrip(adapter);
    expectRoundTrip(noted(adapter));
    expectRoundTrip(noted({...adapter, weights: [...adapter.weights].reverse()}));
    for (const dtype of ['F16', 'BF16'] as const) {
      const files = toPeft(noted(adapter), {dtype});
      expect(toPeft(read(files), {dtype})).toEqual(files);
    }
  });

  const own: [string, Parametrization][] = forms.filter(([name]) =>
    /^(lora|dora)(, rank-stabilised)?$/.test(name),
  );
  test.each(own)('%s, whose factors are its own: every bit at once', (_, parametrization) => {
    for (const make of [(a: Adapter) => a, noted]) {
      const {adapter} = learned(
        {...shapes, 'norm/beta': [6], 'l0/layer.norm/gamma': [6], 'block0/query/bias': [10]},
        parametrization,
        {targets: /kernel|embeddings/, rest: 'train'},
      );
      const given = make(adapter);
      expect(comparable(read(toPeft(given)), toJson)).toEqual(comparable(given, toJson));
      expect(read(toPeft(given)).weights.map(({factors}) => Object.keys(factors))).toEqual(
        given.weights.map(({factors}) => Object.keys(factors)),
      );
      if (make === noted) expect(encodeAdapter(read(toPeft(given)))).toEqual(encodeAdapter(given));
    }
  });

  test('of models, by names of any kind', async () => {
    for (const names of [undefined, (path: string) => `deep.${path.replace(/\W\w+$/, '').toUpperCase()}`]) {
      for (const p of [lora({rank: 2, alpha: 3}), dora({rank: 1, alpha: 2})]) {
        const {adapter} = await learnedBy(mlp(), p, {rest: 'train', keepBase: true});
        const again = expectRoundTrip(adapter, names && {names});
        expect(encodeAdapter(again)).toEqual(encodeAdapter(adapter));
      }
    }
  });

  test('with a model, what PEFT needs besides comes back behind the rest', async () => {
    const model = zoo();
    const {adapter} = await learnedBy(model, lora({rank: 2, alpha: 2}), {rest: 'train'});
    const again = read(toPeft(adapter, {skip: true, model}));
    const paths = again.weights.map(({path}) => path);
    const there = adapter.weights.filter(({path}) => paths.includes(path));
    expect(paths).toEqual([...there.map(({path}) => path), 'norm/moving_mean', 'norm/moving_variance']);
    expect(again.model).toEqual(adapter.model);
    expect(comparable({...again, weights: again.weights.slice(0, -2)}, toJson)).toEqual(
      comparable({...adapter, weights: there}, toJson),
    );
  });

  test('so a file of ours is known for that of another model', async () => {
    const [model, other] = [mlp(), mlp(undefined, 5)];
    const {adapter, trained} = await learnedBy(model, undefined, {keepBase: true});
    const files = toPeft(adapter);
    await expect(mergeAdapter(other, read(files, {model: other}))).rejects.toThrow(
      'trained on another model',
    );
    await mergeAdapter(other, read(files), {base: 'ignore'});
    await mergeAdapter(model, read(files));
    expect(Array.from(model.weights[0]!.read().dataSync())).toEqual(trained['hidden/kernel']);
  });
});

describe('the notes', () => {
  const make = () => toPeft(noted(learned({'a/kernel': [4, 3]}, lora({rank: 1})).adapter));
  const withNotes = (change: (notes: Record<string, string>) => Record<string, string>): PeftFiles => {
    const files = make();
    const {tensors, metadata} = decodeSafetensors(files['adapter_model.safetensors']);
    const weights = encodeSafetensors({tensors, metadata: change({...metadata})});
    return {...files, 'adapter_model.safetensors': weights};
  };

  test('are not needed: PEFT writes none', () => {
    const {weights, ...rest} = read(withNotes(() => ({format: 'pt'})));
    expect(rest).toEqual({generatedBy: 'PEFT', metadata: {}});
    expect(weights.map(({path, base}) => [path, base])).toEqual([['a/kernel', null]]);
  });

  test('of a base of another shape are left out; one path is enough to be wrong', () => {
    const other = toPeft(noted(learned({'a/kernel': [5, 3]}, lora({rank: 1})).adapter));
    const {metadata} = decodeSafetensors(other['adapter_model.safetensors']);
    expect(read(withNotes(() => metadata)).weights.map(({base}) => base)).toEqual([null]);
    expect(read(make()).weights.map(({base}) => base)).not.toEqual([null]);
    const nameless = withNotes(notes => ({...notes, 'tfjs-lora.paths': '{"a.weight":""}'}));
    expect(() => read(nameless)).toThrow("the metadata 'tfjs-lora.paths' is no object of paths");
  });

  test('of another model than the weights are for are left out', () => {
    const model = {'b/kernel': tf.variable(tf.zeros([4, 3]))};
    const names = () => 'a';
    expect(read(make(), {model, names}).weights.map(({path}) => path)).toEqual(['b/kernel']);
    expect(read(make(), {model, names})).not.toHaveProperty('model');
  });

  test.each([
    'x',
    '[]',
    '{"generatedBy":1}',
    '{"metadata":{"a":1}}',
    '{"bases":[]}',
    '{"bases":{"a.weight":{"norm":"1","products":[]}}}',
    '{"bases":{"a.weight":{"norm":1e999,"products":[]}}}',
    '{"bases":{"a.weight":{"norm":1,"products":[null]}}}',
    '{"bases":{"a.weight":{"norm":1,"products":[1]}}}',
    `{"bases":{"a.weight":{"norm":1,"products":[${Array(65).fill(1)}],"shape":[4,3]}}}`,
    '{"metadata":{"__proto__":"x"}}',
    '{"model":[{"path":"a/kernel","shape":[4,3]},{"path":"a/kernel","shape":[4,3]}]}',
    '{"model":[{"path":"","shape":[1]}]}',
    '{"model":{}}',
    '{"model":[{"path":1,"shape":[]}]}',
    '{"model":[{"path":"a","shape":[-1]}]}',
  ])('that are damaged are an error: %s', text => {
    const files = withNotes(notes => ({...notes, 'tfjs-lora.adapter': text}));
    expect(() => read(files)).toThrow(
      "fromPeft: the metadata 'tfjs-lora.adapter' is not what toPeft writes; remove it",
    );
  });
});
