import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {bind} from '../../src/adapter/bind.js';
import {lora} from '../../src/index.js';

beforeAll(() => tf.setBackend('cpu'));

type Shapes = Record<string, number[]>;

/** Variables by path, and what an adapter for these paths is bound to. */
const variables = (shapes: Shapes) =>
  Object.fromEntries(Object.entries(shapes).map(([path, shape]) => [path, tf.variable(tf.zeros(shape))]));
const adapterFor = (shapes: Shapes): Adapter => ({
  weights: Object.entries(shapes).map(([path, shape]) => ({
    path,
    shape,
    parametrization: lora(),
    factors: {},
    frozen: {},
    base: null,
  })),
  generatedBy: '',
  metadata: {},
});
const places = (model: Shapes, adapter: Shapes) =>
  bind(variables(model), adapterFor(adapter)).map(({entry, path}) => `${entry.path} -> ${path}`);

describe('an adapter is bound', () => {
  test('by path', () => {
    expect(
      places({x: [2, 3], 'a/kernel': [2, 3], 'b/kernel': [2, 3]}, {'b/kernel': [2, 3], x: [2, 3]}),
    ).toEqual(['b/kernel -> b/kernel', 'x -> x']);
  });

  test('without the number that tfjs gives to a second variable of a name', () => {
    expect(places({'a/kernel_1': [2, 3], 'b/kernel_1': [2, 3]}, {'b/kernel': [2, 3]})).toEqual([
      'b/kernel -> b/kernel_1',
    ]);
    expect(places({'a/kernel': [2, 3]}, {'a/kernel_3': [2, 3]})).toEqual(['a/kernel_3 -> a/kernel']);
    expect(() => places({k_1: [2, 3], k_2: [2, 3]}, {k: [2, 3]})).toThrow(/it has no k \[2,3\]/);
  });

  test('in order, where tfjs has numbered the layers otherwise', () => {
    const dense = (i: number) => `dense_Dense${i}/kernel`;
    expect(
      places(
        {[dense(7)]: [2, 3], [dense(8)]: [2, 3], head: [3, 3]},
        {[dense(1)]: [2, 3], [dense(2)]: [2, 3], head: [3, 3]},
      ),
    ).toEqual([`${dense(1)} -> ${dense(7)}`, `${dense(2)} -> ${dense(8)}`, 'head -> head']);
    // Numbers that overlap say nothing: the second of then is the second of now.
    expect(
      places({[dense(2)]: [3, 3], [dense(3)]: [3, 3]}, {[dense(1)]: [3, 3], [dense(2)]: [3, 3]}),
    ).toEqual([`${dense(1)} -> ${dense(2)}`, `${dense(2)} -> ${dense(3)}`]);
    // The adapter has no part for the small one; the shape tells the others from it.
    expect(places({[dense(4)]: [2, 1], [dense(5)]: [3, 3]}, {[dense(2)]: [3, 3]})).toEqual([
      `${dense(2)} -> ${dense(5)}`,
    ]);
    expect(
      places({'sequential_3/conv2d_Conv2D12/kernel': [2]}, {'sequential_1/conv2d_Conv2D2/kernel': [2]}),
    ).toEqual(['sequential_1/conv2d_Conv2D2/kernel -> sequential_3/conv2d_Conv2D12/kernel']);
    // Which of three it is nobody knows.
    expect(() =>
      places(
        {[dense(4)]: [3, 3], [dense(5)]: [3, 3], [dense(6)]: [3, 3]},
        {[dense(1)]: [3, 3], [dense(2)]: [3, 3]},
      ),
    ).toThrow(/it has no dense_Dense1\/kernel/);
  });

  test('in order, where the model names all of its weights otherwise', () => {
    expect(
      places(
        {'x/kernel': [2, 3], 'x/bias': [3], 'y/kernel': [3, 3], 'y/bias': [3]},
        {'enc/kernel': [2, 3], 'dec/kernel': [3, 3], 'enc/bias': [3], 'dec/bias': [3]},
      ),
    ).toEqual([
      'enc/kernel -> x/kernel',
      'dec/kernel -> y/kernel',
      'enc/bias -> x/bias',
      'dec/bias -> y/bias',
    ]);
    expect(places({'12': [2, 3], '13': [2, 3]}, {'4': [2, 3], '5': [2, 3]})).toEqual(['4 -> 12', '5 -> 13']);
    // One path that is there says that names mean something.
    expect(() =>
      places({'x/kernel': [2, 3], 'y/kernel': [3, 3]}, {'x/kernel': [2, 3], 'z/kernel': [3, 3]}),
    ).toThrow(/it has no z\/kernel \[3,3\]; the nearest are y\/kernel \[3,3\], x\/kernel \[2,3\]/);
    expect(() => places({'x/kernel': [3, 3], 'y/kernel': [3, 3]}, {'z/kernel': [3, 3]})).toThrow(
      /it has no z\/kernel/,
    );
    expect(() => places({'x/kernel': [3, 3]}, {'z/embeddings': [3, 3]})).toThrow(/it has no z\/embeddings/);
  });
});

describe('an adapter that does not fit', () => {
  const six = Object.fromEntries('abcdef'.split('').map(name => [`${name}/kernel`, [2, 3]]));

  test('is told in one message, with a few of the others', () => {
    expect(() => places({'a/kernel': [2, 4]}, six)).toThrow(
      'the adapter is for another model: a/kernel is [2,4] in it and [2,3] in the adapter; nor do b/kernel, c/kernel, ' +
        'd/kernel, 2 more fit. Nothing was changed.',
    );
    expect(() => places({}, {a: [1]})).toThrow(/it has no a \[1\]; it has no weights at all/);
  });

  test('because of a type, a weight that is gone, two for one', () => {
    expect(() => bind({a: tf.variable(tf.zeros([2], 'int32'))}, adapterFor({a: [2]}))).toThrow(
      /its a is int32, not float32/,
    );
    const gone = variables({a: [2]});
    gone['a']!.dispose();
    expect(() => bind(gone, adapterFor({a: [2]}))).toThrow(/its a was disposed/);
    expect(() => bind(variables({k: [2]}), adapterFor({k: [2], k_1: [2]}))).toThrow(
      /the adapter's k and k_1 are both for k/,
    );
  });
});
