import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeAll, describe, expect, test, vi} from 'vitest';
import {loraSgd, normal} from '../../src/index.js';
import {
  trainableGraphModel,
  type TrainableGraphModelOptions,
} from '../../src/models/trainable-graph-model.js';
import {numTensors, values} from '../helpers.js';
import {attr, Graph} from './graph.js';

beforeAll(() => tf.setBackend('cpu'));
afterEach(() => vi.restoreAllMocks());

/**
 * x [?, 6] -> body 6 -> two heads, as detectors have them: a heat map [?, 8], of which the best place is taken, and
 * offsets [?, 8], of which those at the best place are gathered. `scaled` multiplies them by a constant of two numbers.
 */
function detector({scaled = true, body = ['x', 'body/kernel']} = {}): Graph {
  const graph = new Graph();
  if (body[0] === 'x') graph.input('x', [-1, 6]);
  graph.weight('body/kernel', [6, 6], 1);
  graph.node('MatMul', 'body', body);
  for (const [i, head] of ['heat', 'offset'].entries()) {
    graph.weight(`${head}/kernel`, [6, 8], 2 + i);
    graph.node('MatMul', head, ['body', `${head}/kernel`]);
  }
  graph.node('Sigmoid', 'heat/map', ['heat']);
  graph.int('axis', 1);
  graph.node('ArgMax', 'best', ['heat/map', 'axis']);
  graph.ints('two', 2);
  graph.node('Pack', 'places', ['best', 'best'], {axis: attr.int(1), N: attr.int(2)});
  graph.node('GatherNd', 'found', ['offset', 'places']);
  if (scaled) {
    graph.weight('scale', [2], 9);
    graph.node('Mul', 'out', ['found', 'scale']);
  } else {
    graph.node('Neg', 'out', ['found']);
  }
  return graph;
}

/** A list of tensors at the start, as preprocessing by tf.map_fn leaves it, and a choice by value at the end. */
function withWaiting(): Graph {
  const graph = new Graph();
  graph.input('x', [-1, 6]);
  graph.ints('row', 6);
  graph.node('TensorListFromTensor', 'list', ['x', 'row'], {element_dtype: attr.type('FLOAT')});
  graph.int('count', 2);
  graph.node('TensorListStack', 'stack', ['list', 'row'], {
    element_dtype: attr.type('FLOAT'),
    num_elements: attr.int(2),
  });
  for (const [i, head] of ['scores', 'boxes'].entries()) {
    graph.weight(`${head}/kernel`, [6, 4], 2 + i);
    graph.node('MatMul', head, ['stack', `${head}/kernel`]);
  }
  graph.constant('limit', [], Float32Array.of(0));
  graph.node('Greater', 'high', ['scores', 'limit']);
  graph.node('Where', 'where', ['high']);
  graph.node('Cast', 'chosen', ['where'], {SrcT: attr.type('INT32'), DstT: attr.type('FLOAT')});
  // What stands behind a control input waits for it.
  graph.node('Identity', 'raw', ['boxes', '^where']);
  return graph;
}

const messageOf = (f: () => unknown): string => {
  try {
    f();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('it did not throw');
};

/** The options that a message recommends, read as the code that they are. */
const advice = (message: string): TrainableGraphModelOptions => {
  const [code] = /\{outputs:.*\}$/.exec(message)!;
  return new Function(`return ${code}`)() as TrainableGraphModelOptions;
};

describe('advice where an op stands in the way', () => {
  test('names the last nodes before it, and with them every weight trains', async () => {
    const model = await detector({scaled: false}).load();
    const message = messageOf(() => trainableGraphModel(model));
    expect(message).toMatch(
      /^nothing in this graph can be trained: tfjs has no gradient for GatherNd \(node found\)/,
    );
    const options = advice(message);
    expect(options.inputs).toBeUndefined();
    expect([...options.outputs!].sort()).toEqual(['heat/map', 'offset']);
    const trainable = trainableGraphModel(model, options);
    expect(Object.keys(trainable.variables)).toEqual(['body/kernel', 'heat/kernel', 'offset/kernel']);
    expect(trainable.blocked).toEqual([]);
    trainable.restore();
    // A weight that was named gets the same advice.
    expect(advice(messageOf(() => trainableGraphModel(model, {targets: 'body/kernel'})))).toEqual(options);
  });

  test('an output that is open stays one', async () => {
    const model = await detector().load({inputs: {x: 'x'}, outputs: {map: 'heat/map', out: 'out'}});
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    expect(advice(messageOf(() => trainableGraphModel(model, {targets: 'body/kernel'}))).outputs).toEqual([
      'heat/map',
      'offset',
    ]);
  });

  test('where next to nothing is left, that is said, once, and not where half of the numbers train', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const model = await detector().load();
    const trainable = trainableGraphModel(model);
    expect(Object.keys(trainable.variables)).toEqual(['scale']);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]![0]).toMatch(
      /^tfjs-lora: 2 of the 134 numbers of this graph can be trained: .*GatherNd.*What comes before can be trained with/,
    );
    expect(trainable.blocked).toEqual([
      {
        node: 'found',
        op: 'GatherNd',
        why: 'tfjs has no gradient for GatherNd',
        weights: ['body/kernel', 'heat/kernel', 'offset/kernel'],
        before: ['offset'],
      },
    ]);
    trainable.restore();
    // What was named is what is wanted.
    trainableGraphModel(model, {targets: 'scale'}).restore();
    trainableGraphModel(model, {outputs: ['heat/map', 'offset']}).restore();
    expect(warn).toHaveBeenCalledTimes(1);
  });

  test('a graph of many weights makes one short line', async () => {
    const graph = new Graph();
    graph.input('x', [-1, 3]);
    const last = Array.from({length: 40}).reduce<string>((from, _, i) => {
      graph.weight(`layer${i}/kernel`, [3, 3], i + 1);
      return graph.node('MatMul', `layer${i}`, [from, `layer${i}/kernel`]);
    }, 'x');
    graph.int('axis', 1);
    graph.node('Cumprod', 'a', [last, 'axis']);
    graph.node('Cumprod', 'b', ['a', 'axis']);
    const model = await graph.load();
    expect(messageOf(() => trainableGraphModel(model))).toBe(
      'nothing in this graph can be trained: tfjs has no gradient for Cumprod (node a and 1 more), which is on the way ' +
        "to layer0/kernel, layer1/kernel and 38 more. What comes before can be trained with {outputs: ['layer39']}",
    );
  });
});

describe('advice where an op has to wait', () => {
  test('names outputs before it and inputs behind it; a list of tensors can be fed where it ends', async () => {
    const model = await withWaiting().load();
    const message = messageOf(() => trainableGraphModel(model));
    expect(message).toMatch(/^\w+ is \w+, which tfjs runs with executeAsync only/);
    const options = advice(message);
    expect([...options.outputs!].sort()).toEqual(['boxes', 'scores']);
    expect(options.inputs).toEqual(['stack']);
    const tensors = numTensors();
    const trainable = trainableGraphModel(model, options);
    expect(Object.keys(trainable.variables)).toEqual(['scores/kernel', 'boxes/kernel']);
    const x = normal([2, 6], 5);
    const before = (await model.executeAsync(x, 'boxes')) as tf.Tensor;
    const at = options.outputs!.indexOf('boxes');
    const outputs = trainable.applyAll(x);
    expect(values(outputs[at]!)).toEqual(values(before));
    const optimizer = loraSgd(0.1, {rank: 1});
    const variables = Object.values(trainable.variables);
    const loss = () => tf.addN(trainable.applyAll(x).map(y => tf.sum(tf.square(y)))) as tf.Scalar;
    optimizer.minimize(loss, false, variables);
    const after = (await model.executeAsync(x, 'boxes')) as tf.Tensor;
    expect(values(after)).not.toEqual(values(before));
    optimizer.dispose();
    trainable.restore();
    tf.dispose([x, before, after, outputs]);
    expect(numTensors()).toBe(tensors);
  });
});
