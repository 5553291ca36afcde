import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import type {AdapterWeight} from '../../src/adapter/adapter.js';
import {fromKeras, toKeras} from '../../src/adapter/keras.js';
import {decodeSafetensors, encodeSafetensors} from '../../src/adapter/safetensors.js';
import {dora, lora, loraFA, symmetric, vera} from '../../src/index.js';
import type {Parametrization} from '../../src/parametrization.js';
import {applied, learned} from './learned.js';
import {distance, readTensors} from './torch.js';

beforeAll(() => tf.setBackend('cpu'));

const shapes = {
  'block0/query/kernel': [12, 10],
  'image/kernel': [3, 2, 4, 8],
  'sound/kernel': [3, 4, 6],
  'tokens/embeddings': [20, 6],
};

const settingsOf = (bytes: Uint8Array) =>
  JSON.parse(decodeSafetensors(bytes).metadata['layers']!) as Record<
    string,
    {lora_rank: number; lora_alpha: number}
  >;

describe('Keras 3', () => {
  test.each<[string, Parametrization]>([
    ['lora', lora({rank: 2, alpha: 5})],
    ['rank-stabilised', lora({rank: 3, alpha: 4, rankStabilised: true})],
    ['from symmetric', lora({rank: 2, alpha: 3, init: symmetric()})],
    ['loraFA', loraFA({rank: 2})],
    ['vera', vera({rank: 5})],
  ])('%s: kernel + lora_alpha / lora_rank a @ b is the weight', (_, parametrization) => {
    const {adapter, before} = learned(shapes, parametrization);
    const bytes = toKeras(adapter);
    const [tensors, settings] = [readTensors(bytes), settingsOf(bytes)];
    const here = fromKeras(bytes);
    for (const weight of adapter.weights) {
      const layer = weight.path.replace(/\/\w+$/, '');
      const slot = /embeddings/.test(weight.path) ? 'embeddings' : 'kernel';
      const a = tensors.get(`${layer}/lora_${slot}_a`)!;
      const b = tensors.get(`${layer}/lora_${slot}_b`)!;
      const {lora_rank: r, lora_alpha: alpha} = settings[layer]!;
      expect(a.shape).toEqual([...weight.shape.slice(0, -1), r]);
      expect(b.shape).toEqual([r, weight.shape.at(-1)]);
      const n = b.shape[1]!;
      const base = before.get(weight.path)!;
      const kernel = Float64Array.from(base.values, (value, at) => {
        let sum = 0;
        for (let t = 0; t < r; t++)
          sum += a.values[Math.floor(at / n) * r + t]! * b.values[t * n + (at % n)]!;
        return value + (alpha / r) * sum;
      });
      expect(distance(applied(weight, base), kernel)).toBeLessThan(1e-6);
      const again = here.weights.find(({path}) => path === weight.path)!;
      expect(again.shape).toEqual(weight.shape);
      expect(distance(applied(weight, base), applied(again, base))).toBeLessThan(1e-6);
    }
  });

  test('what was trained whole is under its own name, as it is', () => {
    const {adapter} = learned({'a/kernel': [6, 5], 'a/bias': [5]}, lora({rank: 1}), {
      targets: 'a/kernel',
      rest: 'train',
    });
    const bytes = toKeras(adapter);
    expect([...readTensors(bytes).keys()]).toEqual(['a/bias', 'a/lora_kernel_a', 'a/lora_kernel_b']);
    expect(fromKeras(bytes).weights.find(({path}) => path === 'a/bias')!.factors).toEqual(
      adapter.weights[1]!.factors,
    );
  });

  test('layers and paths rename, and leave out', () => {
    const {adapter} = learned({'a/kernel': [6, 5], 'b/kernel': [6, 5]}, lora({rank: 1}));
    const bytes = toKeras(adapter, {layers: path => (path === 'a/kernel' ? 'net/first' : null)});
    expect([...readTensors(bytes).keys()]).toEqual(['net/first/lora_kernel_a', 'net/first/lora_kernel_b']);
    const paths = (layer: string, weight: string) => `${layer}:${weight}`;
    expect(fromKeras(bytes, {paths}).weights.map(({path}) => path)).toEqual(['net/first:kernel']);
    expect(() => toKeras(adapter, {layers: () => 'x'})).toThrow(/x\/lora_kernel_a would be of two weights/);
    expect(() => fromKeras(toKeras(adapter), {paths: () => 'x'})).toThrow(/two weights would be x/);
    expect(() => fromKeras(bytes, {paths: () => null})).toThrow(/holds no weight/);
  });

  test.each<[string, Record<string, number[]>, Parametrization, RegExp]>([
    [
      'a recurrent kernel',
      {'lstm/kernel': [4, 8]},
      lora({rank: 1}),
      /lstm\/kernel \[4,8\] is a recurrent weight/,
    ],
    ['a depthwise kernel', {'d/depthwise_kernel': [3, 3, 4, 2]}, lora({rank: 1}), /is a depthwise weight/],
    [
      'a pointwise kernel',
      {'d/pointwise_kernel': [1, 1, 4, 8]},
      lora({rank: 1}),
      /'pointwise_kernel', which/,
    ],
    ['DoRA', {'a/kernel': [4, 8]}, dora({rank: 1}), /a\/kernel is DoRA/],
  ])('%s is an error, or left out', (_, shapes, parametrization, message) => {
    const {adapter} = learned({...shapes}, parametrization);
    expect(() => toKeras(adapter)).toThrow(message);
    expect(() => toKeras(adapter, {skip: true})).toThrow(/nothing is left/);
  });

  test('skip leaves out what has no place, and hides no damage', () => {
    const {adapter} = learned({'a/kernel': [9, 8], 'b/kernel': [9, 8]}, lora({rank: 2}));
    const [first, second] = adapter.weights as [AdapterWeight, AdapterWeight];
    const broken = (factors: AdapterWeight['factors']) => () =>
      toKeras({...adapter, weights: [first, {...second, factors}]}, {skip: true});
    expect(broken({...second.factors, a: {shape: [5, 2], values: new Float32Array(10)}})).toThrow(
      /b\/kernel \[9,8\]: the factors of lora are \[5,2\] and \[2,8\]/,
    );
    expect(broken({a: second.factors['a']!})).toThrow(/lora needs 'b'/);
    const nan = Float32Array.from(second.factors['a']!.values, (value, i) => (i === 3 ? NaN : value));
    expect(broken({...second.factors, a: {shape: [9, 2], values: nan}})).toThrow(
      /b\/kernel has NaN in lora_kernel_a; it must be finite/,
    );
  });

  const file = (tensors: Record<string, number[]>, layers?: unknown) =>
    encodeSafetensors({
      tensors: new Map(
        Object.entries(tensors).map(([name, shape]) => [
          name,
          {shape, values: new Float32Array(shape.reduce((product, axis) => product * axis, 1)).fill(1)},
        ]),
      ),
      metadata: layers === undefined ? {} : {layers: JSON.stringify(layers)},
    });
  const both = {'x/lora_kernel_a': [3, 2], 'x/lora_kernel_b': [2, 4]};
  const told = {x: {lora_rank: 2, lora_alpha: 4}};
  test.each([
    [
      'half a pair',
      file({'x/lora_kernel_a': [3, 2]}, told),
      /'x\/lora_kernel_a' is there and 'x\/lora_kernel_b' is not/,
    ],
    ['the other half', file({'x/lora_embeddings_b': [2, 3]}, told), /'x\/lora_embeddings_a' is not/],
    ['ranks that differ', file({...both, 'x/lora_kernel_b': [3, 4]}, told), /\[3,2\] and \[3,4\]/],
    ['no settings', file(both), /no 'layers'/],
    ['settings that are none', file(both, [1]), /no 'layers'/],
    [
      'settings of another rank',
      file(both, {x: {lora_rank: 3, lora_alpha: 1}}),
      /of rank 2, and the metadata/,
    ],
    ['settings without alpha', file(both, {x: {lora_rank: 2}}), /of rank 2/],
    ['a tensor without a layer', file({lora_kernel_a: [3, 2]}, told), /no layer before its name/],
  ])('%s is refused', (_, bytes, message) => {
    expect(() => fromKeras(bytes)).toThrow(message);
  });
});
