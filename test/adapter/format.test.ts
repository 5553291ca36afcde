import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {fromArtifacts, toArtifacts} from '../../src/adapter/artifacts.js';
import type {Adapter, AdapterWeight} from '../../src/adapter/adapter.js';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {decodeSafetensors, encodeSafetensors} from '../../src/adapter/safetensors.js';
import * as calculus from '../../src/calculus.js';
import {dora, flora, hadamard, kronecker, lora, normal, randomProjection} from '../../src/index.js';
import {recipe, toJson} from '../../src/recipe.js';
import {matrixShape} from '../../src/targets.js';
import {tidied} from '../../src/tensors.js';
import {tensorsLeftBy} from '../helpers.js';
import {SHAPES} from '../parametrizations/exercise.js';
import {members, shapes} from '../parametrizations/members.js';
import {adapterWith, comparable, hostOf, weightOf, wholeWeight} from './situations.js';

beforeAll(() => tf.setBackend('cpu'));

const containers: [string, (adapter: Adapter) => Adapter | Promise<Adapter>][] = [
  ['a safetensors file', adapter => decodeAdapter(encodeAdapter(adapter))],
  ['tfjs artifacts', adapter => fromArtifacts(toArtifacts(adapter))],
  [
    'artifacts through JSON and shards',
    adapter => {
      const {weightData, ...rest} = toArtifacts(adapter);
      const data = weightData as ArrayBuffer;
      // As a store would give them: JSON, and the numbers cut where it likes.
      const cuts = [0, 1, 7, 8, Math.min(30, data.byteLength), data.byteLength];
      const shards = cuts.slice(1).map((end, i) => data.slice(cuts[i]!, end));
      return fromArtifacts({...(JSON.parse(JSON.stringify(rest)) as object), weightData: shards});
    },
  ],
  [
    'a handler in memory',
    async adapter => {
      let kept: tf.io.ModelArtifacts | undefined;
      const handler = tf.io.withSaveHandler(async artifacts => {
        kept = artifacts;
        return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
      });
      await handler.save!(toArtifacts(adapter));
      return fromArtifacts(await (tf.io.fromMemory(kept!) as tf.io.IOHandler).load!());
    },
  ],
];

describe.each(containers)('%s holds', (_, through) => {
  for (const [page, forms] of Object.entries(members)) {
    test.each(Object.entries(forms))(`${page}: %s, bit for bit`, async (_, p) => {
      const sides = shapes[page] ?? SHAPES;
      const adapter = adapterWith(...sides.map((shape, i) => weightOf(p, shape, `layer/${i}/kernel`, i + 1)));
      let read!: Adapter;
      expect(await tensorsLeftBy(async () => (read = await through(adapter)))).toBe(0);
      expect(comparable(read, toJson)).toEqual(comparable(adapter, toJson));
      // The parametrization that was read makes the same weight of the same factors.
      read.weights.forEach((weight, i) => expect(made(weight)).toEqual(made(adapter.weights[i]!)));
    });
  }

  test('weights trained as they are, and names of all kinds', async () => {
    const adapter = adapterWith(
      wholeWeight('a/bias', [1, -0, 1e-45, 3.4028234663852886e38]),
      wholeWeight('__proto__', [1]),
      wholeWeight('constructor', [2]),
      wholeWeight('層/ä b"\\\n/kernel#2', [3]),
    );
    const read = await through(adapter);
    expect(comparable(read, toJson)).toEqual(comparable(adapter, toJson));
    expect(Object.is(read.weights[0]!.factors['weight']!.values[1], -0)).toBe(true);
    expect(({} as Record<string, unknown>)['weight']).toBeUndefined();
  });
});

/** The numbers of the weight over a base of ones. */
function made({parametrization, factors, frozen, shape}: AdapterWeight): number[] {
  return tf.tidy(() => {
    const tensors = (named: AdapterWeight['factors']) =>
      Object.fromEntries(
        Object.entries(named).map(([key, {shape, values}]) => [
          key,
          tf.tensor(values, [...shape], values instanceof Int32Array ? 'int32' : 'float32'),
        ]),
      );
    const state = {
      factors: tensors(factors),
      frozen: tensors(frozen),
      base: tf.ones(matrixShape(shape)) as tf.Tensor2D,
    };
    return Array.from(calculus.weightAt(parametrization!, state).dataSync());
  });
}

const p = lora({rank: 2});
const plain = () => adapterWith(weightOf(p, [6, 4], 'dense/kernel'), wholeWeight('dense/bias', [1, 2, 3, 4]));

describe('the file', () => {
  test('is the same for equal adapters', () => {
    expect(encodeAdapter(plain())).toEqual(encodeAdapter(plain()));
    expect(toArtifacts(plain())).toEqual(toArtifacts(plain()));
  });

  test('says what it is', () => {
    const {metadata, tensors} = decodeSafetensors(encodeAdapter(plain()));
    expect(Object.keys(metadata).sort()).toEqual(['adapter', 'format', 'generated_by', 'user', 'version']);
    expect([...tensors.keys()].sort()).toEqual(['dense/bias/weight', 'dense/kernel/a', 'dense/kernel/b']);
    const random = adapterWith(weightOf(flora({rank: 2}), [6, 4], 'k'));
    const seed = decodeSafetensors(encodeAdapter(random)).tensors.get('k/frozen/seed')!;
    expect(seed.values).toBeInstanceOf(Int32Array);
  });

  test('keeps an initialiser that is the user’s own out of it, and merges all the same', () => {
    const mine = lora({rank: 2, init: ({weight, rank}) => ({b: tf.ones([rank, weight.shape[1]])})});
    const read = decodeAdapter(encodeAdapter(adapterWith(weightOf(mine, [6, 4], 'k'))));
    expect(made(read.weights[0]!)).toEqual(made(weightOf(mine, [6, 4], 'k')));
  });
});

/** The file with another list of weights. */
function changed(adapter: Adapter, change: (list: Record<string, any>[]) => void): Uint8Array {
  const {tensors, metadata} = decodeSafetensors(encodeAdapter(adapter));
  const described = JSON.parse(metadata['adapter']!) as {weights: Record<string, any>[]};
  change(described.weights);
  return encodeSafetensors({tensors, metadata: {...metadata, adapter: JSON.stringify(described)}});
}

/** The file with other tensors. */
function withTensor(adapter: Adapter, name: string, tensor: tf.Tensor | null): Uint8Array {
  const {tensors, metadata} = decodeSafetensors(encodeAdapter(adapter));
  const all = new Map<string, {shape: readonly number[]; values: Float32Array | Int32Array}>(tensors);
  if (tensor) all.set(name, hostOf(tensor));
  else all.delete(name);
  return encodeSafetensors({tensors: all, metadata});
}

describe('is refused:', () => {
  const cases: [string, () => unknown, RegExp][] = [
    [
      'another version',
      () => {
        const file = decodeSafetensors(encodeAdapter(plain()));
        return decodeAdapter(encodeSafetensors({...file, metadata: {...file.metadata, version: '2'}}));
      },
      /of version "2", and this program reads version '1'/,
    ],
    [
      'a file of something else',
      () => decodeAdapter(encodeSafetensors({tensors: new Map(), metadata: {format: 'pt'}})),
      /does not say format 'tfjs-lora'/,
    ],
    [
      'a missing tensor',
      () => decodeAdapter(withTensor(plain(), 'dense/kernel/a', null)),
      /weight "dense\/kernel": the tensor "dense\/kernel\/a" is missing/,
    ],
    [
      'one too many',
      () => decodeAdapter(withTensor(plain(), 'dense/kernel/c', tf.zeros([1]))),
      /the tensor "dense\/kernel\/c" belongs to no weight/,
    ],
    [
      'NaN',
      () =>
        decodeAdapter(withTensor(plain(), 'dense/kernel/b', tf.tensor2d([1, 2, 3, NaN, 5, 6, 7, 8], [2, 4]))),
      /weight "dense\/kernel": number 3 of its factor "b" is NaN/,
    ],
    [
      'a factor of another shape',
      () => decodeAdapter(withTensor(plain(), 'dense/kernel/b', tf.zeros([2, 5]))),
      /lora with the factors a \[6,2\], b \[2,5\] does not make a weight of \[6,4\]/,
    ],
    [
      'sides that are swapped, though the count is right',
      () => decodeAdapter(changed(adapterWith(weightOf(p, [6, 4], 'k')), ([k]) => (k!['shape'] = [4, 6]))),
      /does not make a weight of \[4,6\]: it makes \[6,4\]/,
    ],
    [
      'the same, for a weight too large to be made for trial',
      () => decodeAdapter(changed(adapterWith(large), ([k]) => (k!['shape'] = [1000, 2000]))),
      /does not make a weight of \[1000,2000\]/,
    ],
    [
      'a weight too large for anything',
      () => decodeAdapter(changed(plain(), ([k]) => (k!['shape'] = [2 ** 31, 2 ** 31]))),
      /weight "dense\/kernel": its shape must be/,
    ],
    [
      'a path twice',
      () => decodeAdapter(changed(plain(), list => list.push(list[0]!))),
      /the weight "dense\/kernel" twice/,
    ],
    [
      'a factor called __proto__',
      () => decodeAdapter(changed(plain(), ([k]) => (k!['factors'] = ['__proto__', 'b']))),
      /a factor may not be called "__proto__"/,
    ],
    [
      'a factor called constructor',
      () => decodeAdapter(changed(plain(), ([k]) => (k!['factors'] = ['constructor', 'b']))),
      /a factor may not be called "constructor"/,
    ],
    [
      'a parametrization this program does not have',
      () => decodeAdapter(changed(plain(), ([k]) => (k!['parametrization'] = {$recipe: 'hers', args: []}))),
      /trained by "hers", which this program does not contain: import the module .* recipe\("hers", …\)/,
    ],
    [
      'options its parametrization does not take',
      () =>
        decodeAdapter(
          changed(plain(), ([k]) => (k!['parametrization'] = {$recipe: 'lora', args: [{rank: -1}]})),
        ),
      /"lora" cannot be made: lora: rank must be/,
    ],
    [
      'a recipe that makes something else',
      () => decodeAdapter(changed(plain(), ([k]) => (k!['parametrization'] = {$recipe: 'every', args: [3]}))),
      /"every"/,
    ],
    [
      'another rank than the factors have',
      () =>
        decodeAdapter(
          changed(plain(), ([k]) => (k!['parametrization'] = {$recipe: 'lora', args: [{rank: 1e9}]})),
        ),
      /they are 20 numbers, and it would train 10000000000/,
    ],
    [
      'random matrices for another shape',
      () =>
        decodeAdapter(
          withTensor(
            adapterWith(weightOf(randomProjection({rank: 2}), [6, 4], 'k')),
            'k/frozen/shape',
            tf.tensor1d([2 ** 30, 4], 'int32'),
          ),
        ),
      /its frozen part 'shape' says \[1073741824,4\], and as a matrix it is \[6, 4\]/,
    ],
    [
      'a seed that is float32',
      () =>
        decodeAdapter(
          withTensor(adapterWith(weightOf(flora({rank: 2}), [6, 4], 'k')), 'k/frozen/seed', tf.scalar(1)),
        ),
      /its frozen part "seed" is float32 where int32 is asked for/,
    ],
    [
      'lists nested deep',
      () => {
        const {tensors, metadata} = decodeSafetensors(encodeAdapter(plain()));
        const adapter = `{"weights":${'['.repeat(1e5)}${']'.repeat(1e5)}}`;
        return decodeAdapter(encodeSafetensors({tensors, metadata: {...metadata, adapter}}));
      },
      /list of weights \(metadata 'adapter'\) is no JSON: more than 32 levels/,
    ],
    [
      'a key twice',
      () => {
        const {tensors, metadata} = decodeSafetensors(encodeAdapter(plain()));
        const adapter = metadata['adapter']!.replace('{"weights"', '{"weights":[],"weights"');
        return decodeAdapter(encodeSafetensors({tensors, metadata: {...metadata, adapter}}));
      },
      /'weights' stands twice/,
    ],
  ];
  const large: AdapterWeight = tidied(() => ({
    path: 'k',
    shape: [2000, 1000],
    parametrization: lora({rank: 1}),
    factors: {a: hostOf(normal([2000, 1], 1)), b: hostOf(normal([1, 1000], 2))},
    frozen: {},
    base: null,
  }));
  test.each(cases)('%s', async (_, read, message) => {
    // The cases make tensors of their own.
    const left = await tensorsLeftBy(() => {
      tf.tidy(() => {
        expect(read).toThrow(message);
        expect(read).toThrow(/^[^\n\r]{1,600}$/);
      });
    });
    expect(left).toBe(0);
  });

  test('a claim of gigabytes in a small file, without making them', () => {
    const {heapUsed, external, arrayBuffers} = process.memoryUsage();
    const start = performance.now();
    const huge = [2 ** 15, 2 ** 15];
    for (const p of [hadamard({rank: 1}), kronecker({rank: 1}), lora({rank: 1}), dora({rank: 1})]) {
      const adapter = adapterWith(weightOf(p, [16, 16], 'k'));
      expect(() => decodeAdapter(changed(adapter, ([k]) => (k!['shape'] = huge)))).toThrow(/k/);
    }
    const small = (shape: number[]) => hostOf(tf.tidy(() => normal(shape, 1)));
    // All that can be said of these without the model is that they may be right.
    const right = adapterWith(
      {...large, path: 'a', shape: huge, factors: {a: small([2 ** 15, 1]), b: small([1, 2 ** 15])}},
      {
        ...large,
        path: 'b',
        shape: [2 ** 31 - 1, 1],
        parametrization: randomProjection({rank: 1, sides: 'left'}),
        factors: {b: small([1, 1])},
        frozen: {
          seed: {shape: [], values: Int32Array.of(1)},
          shape: {shape: [2], values: Int32Array.of(2 ** 31 - 1, 1)},
        },
      },
    );
    expect(decodeAdapter(encodeAdapter(right)).weights).toHaveLength(2);
    const after = process.memoryUsage();
    expect(after.heapUsed + after.external - heapUsed - external).toBeLessThan(2 ** 26);
    expect(after.arrayBuffers - arrayBuffers).toBeLessThan(2 ** 26);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('what could not be read again is not written:', () => {
  test.each<[string, () => Adapter, RegExp]>([
    ['no weights', () => adapterWith(), /no weights/],
    [
      'a parametrization of no recipe',
      () => adapterWith({...weightOf(p, [6, 4], 'k'), parametrization: {...p}}),
      /"k": its parametrization "lora" was not made by recipe/,
    ],
    ['NaN', () => adapterWith(wholeWeight('k', [1, NaN])), /number 1 of its factor "weight" is NaN/],
    [
      'two tensors of one name',
      () =>
        adapterWith(weightOf(flora({rank: 2}), [6, 4], 'k'), {
          ...weightOf(lora({rank: 2}), [6, 4], 'k/frozen'),
          factors: {seed: {shape: [1], values: Float32Array.of(1)}},
        }),
      /two tensors of this adapter would be called "k\/frozen\/seed"/,
    ],
    [
      'a factor that the name of another would hide',
      () =>
        adapterWith({
          ...wholeWeight('k', [1]),
          factors: {'x/y': {shape: [1], values: Float32Array.of(1)}},
        }),
      /the name of a factor must be/,
    ],
  ])('%s', (_, make, message) => {
    expect(() => encodeAdapter(make())).toThrow(message);
    expect(() => toArtifacts(make())).toThrow(message);
  });

  test('a recipe of the user’s own is written and read', () => {
    const own = recipe('test/own', ({gain = 1}: {gain?: number} = {}) => ({
      ...lora({rank: 2, alpha: 2 * gain}),
      name: 'own',
    }));
    const adapter = adapterWith(weightOf(own({gain: 3}), [6, 4], 'k'));
    expect(made(decodeAdapter(encodeAdapter(adapter)).weights[0]!)).toEqual(made(adapter.weights[0]!));
  });
});

describe('artifacts are refused:', () => {
  const good = () => toArtifacts(plain());
  test.each<[string, () => unknown, RegExp]>([
    ['nothing', () => null, /there is nothing/],
    ['no metadata', () => ({...good(), userDefinedMetadata: undefined}), /no tfjsLora/],
    [
      'a graph model',
      () => ({format: 'graph-model', modelTopology: {node: []}}),
      /this is a model, not an adapter/,
    ],
    [
      'a checkpoint',
      () => ({format: 'tfjs-lora-checkpoint', modelTopology: {class_name: 'x', config: {}}}),
      /this is a checkpoint, not an adapter/,
    ],
    ['a binary topology', () => ({modelTopology: new ArrayBuffer(4)}), /this is a model, not an adapter/],
    ['no specs', () => ({...good(), weightSpecs: undefined}), /no list of tensors/],
    ['no data', () => ({...good(), weightData: null}), /weightData is no ArrayBuffer/],
    ['too few bytes', () => ({...good(), weightData: new ArrayBuffer(8)}), /bytes, and there are 8/],
    ['too many bytes', () => ({...good(), weightData: new ArrayBuffer(800)}), /bytes, and there are 800/],
    [
      'a tensor twice',
      () => ({...good(), weightSpecs: [...good().weightSpecs!, good().weightSpecs![0]]}),
      /two tensors called/,
    ],
    [
      'a quantized one',
      () => ({
        ...good(),
        weightSpecs: good().weightSpecs!.map(spec => ({...spec, quantization: {dtype: 'uint8'}})),
      }),
      /is quantized/,
    ],
    [
      'a huge one',
      () => ({...good(), weightSpecs: [{name: 'a', shape: [2 ** 31, 2 ** 31], dtype: 'float32'}]}),
      /its tensors take/,
    ],
    ['an entry that is null', () => ({...good(), weightSpecs: [null]}), /has no name/],
    ['strings', () => ({...good(), weightSpecs: [{name: 'a', shape: [1], dtype: 'string'}]}), /neither/],
  ])('%s', (_, make, message) => {
    expect(() => fromArtifacts(make() as tf.io.ModelArtifacts)).toThrow(message);
  });

  test('a model of tfjs-layers', async () => {
    const model = tf.sequential({layers: [tf.layers.dense({units: 2, inputShape: [3]})]});
    let kept: tf.io.ModelArtifacts | undefined;
    await model.save(
      tf.io.withSaveHandler(async artifacts => {
        kept = artifacts;
        return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
      }),
    );
    expect(() => fromArtifacts(kept!)).toThrow(/this is a model, not an adapter/);
    model.dispose();
  });
});
