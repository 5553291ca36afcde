import * as tf from '@tensorflow/tfjs';
import {afterEach, expect, it} from 'vitest';
import {full, loraAdam, normal, projected, lora} from '../src/index.js';
import {mlp} from './host/models.js';

afterEach(() => tf.disposeVariables());

function weights() {
  return [
    tf.variable(normal([8, 6], 1), true, 'kernel'),
    tf.variable(tf.zeros([6]), true, 'bias'),
    tf.variable(normal([4, 2], 2), true, 'tiny'),
    tf.variable(tf.zeros([6]), false, 'mean'),
  ];
}

it('tells of every weight what happens to it and why, before the first step', () => {
  const optimizer = loraAdam(1e-3, {
    rank: 2,
    targets: [
      ['kernel', lora({rank: 2})],
      ['bias', 'train'],
      ['tiny', full()],
    ],
  });
  const rows = optimizer.explain(weights(), null);
  expect(rows).toEqual([
    // Factors 2 (8 + 6) = 28 numbers, and two moments each: 28 * 3 * 4 bytes.
    {
      name: 'kernel',
      shape: [8, 6],
      rule: '"kernel"',
      why: 'named by a rule',
      treatment: 'lora',
      rank: 2,
      trained: 28,
      of: 48,
      stateBytes: 336,
      capture: 'not seen yet',
    },
    // Two moments of 6 numbers.
    expect.objectContaining({
      name: 'bias',
      treatment: 'train',
      rank: null,
      trained: 6,
      of: 6,
      stateBytes: 48,
    }),
    // delta and its moments: 8 * 3 * 4.
    expect.objectContaining({name: 'tiny', treatment: 'full', trained: 8, of: 8, stateBytes: 96}),
    expect.objectContaining({
      name: 'mean',
      treatment: 'freeze',
      trained: 0,
      stateBytes: 0,
      capture: 'none: frozen',
    }),
  ]);
  optimizer.dispose();
});

it('C39 what it predicts is what it measures after a step, and the rows add up to the state', () => {
  const targets = [
    ['kernel', lora({rank: 2})],
    ['bias', 'train'],
    ['tiny', full()],
  ] as const;
  const optimizer = loraAdam(1e-3, {targets});
  const given = weights();
  const predicted = optimizer.explain(given, null);
  const before = tf.memory().numBytes;
  const gradients = Object.fromEntries(given.slice(0, 3).map(w => [w.name, w.clone()]));
  const empty = optimizer.stateBytes;
  optimizer.applyGradients(gradients);
  tf.dispose(gradients);
  const measured = optimizer.explain(given, null);
  const arrived = ['dense: applyGradients', 'dense: applyGradients', 'dense: applyGradients', 'none: frozen'];
  expect(measured).toEqual(predicted.map((row, i) => ({...row, capture: arrived[i]})));
  const sum = measured.reduce((total, row) => total + row.stateBytes, 0);
  expect(sum).toBe(336 + 48 + 96);
  expect(tf.memory().numBytes - before).toBe(sum);
  expect(optimizer.stateBytes - empty).toBe(sum);
  optimizer.dispose();
});

it('takes a model, prints a table with totals, and lists what was trained when nothing is given', () => {
  const model = mlp('explained');
  const optimizer = loraAdam(1e-3, {rank: 2});
  const lines: string[] = [];
  const print = (line: string) => void lines.push(line);
  expect(optimizer.explain(undefined, print)).toEqual([]);
  expect(lines.join('\n')).toMatch(/no weight seen yet/);
  lines.length = 0;
  // 2 (6 + 8) + 2 (8 + 3) = 50 of 48 + 8 + 24 + 3 = 83 numbers.
  expect(optimizer.explain(model, print)).toHaveLength(4);
  const table = lines.join('\n');
  expect(table).toMatch(/weight +shape +treatment +trained +of +state +gradient +rule/);
  expect(table).toMatch(/hidden\/kernel\S* +6 x 8 +lora r=2 +28 +48 +336 B +not seen yet/);
  expect(table).toMatch(/trained 50 of 83 numbers \(60.2 %\); the optimizer keeps 600 B, .* 664 B/);
  expect(table).not.toMatch(/warning/);
  optimizer.dispose();
  model.dispose();
});

it('warns of an inner optimizer that has the backend’s epsilon, where that is not 1e-7', () => {
  const told = (inner: tf.Optimizer) => {
    const lines: string[] = [];
    const optimizer = projected(inner, lora({rank: 2}));
    optimizer.explain(weights(), line => void lines.push(line));
    tf.disposeVariables();
    return lines.join('\n');
  };
  const backend = tf.backend() as unknown as {epsilon(): number};
  const {epsilon} = backend;
  backend.epsilon = () => 1e-4; // as webgl says with half floats
  try {
    expect(told(tf.train.adam(1e-3))).toMatch(
      /warning: the Adam has the backend's epsilon 0.0001; give it 1e-7/,
    );
    expect(told(tf.train.adam(1e-3, 0.9, 0.999, 1e-7))).not.toMatch(/warning/);
  } finally {
    backend.epsilon = epsilon;
  }
});

it.each([
  ['keepBase', {keepBase: true}],
  ['a weight decay', {weightDecay: 0.1}],
  ['both, and the rest trained', {keepBase: true, weightDecay: 0.1, rest: 'train' as const}],
])('predicts the bytes it will measure, with %s', (_, options) => {
  const [kernel, bias] = [tf.variable(tf.ones([8, 6])), tf.variable(tf.ones([6]))];
  const optimizer = loraAdam(1e-3, {rank: 2, ...options});
  const predicted = optimizer.explain([kernel, bias], null);
  const empty = optimizer.stateBytes;
  optimizer.applyGradients({[kernel.name]: tf.ones([8, 6]), [bias.name]: tf.ones([6])});
  const measured = optimizer.explain([kernel, bias], null);
  expect(measured.map(row => row.stateBytes)).toEqual(predicted.map(row => row.stateBytes));
  expect(optimizer.stateBytes - empty).toBe(measured.reduce((sum, row) => sum + row.stateBytes, 0));
  optimizer.dispose();
  expect(optimizer.stateBytes).toBe(0);
});

it('tells of a rule that matches nothing before a step would', () => {
  const lines: string[] = [];
  const optimizer = loraAdam(1e-3, {targets: ['kernel', 'kernal']});
  optimizer.explain(
    [tf.variable(tf.ones([32, 32]), true, 'explained/kernel')],
    line => void lines.push(line),
  );
  expect(lines.at(-1)).toBe('warning: the rule "kernal" matches no weight');
});

it('tells by which op a gradient came as an operator, and why it was formed where it was', () => {
  const told = (shape: number[], loss: (w: tf.Tensor) => tf.Tensor, treatment: 'train' | 'lora' = 'lora') => {
    const weight = tf.variable(normal(shape, 1));
    const targets = [[() => true, treatment === 'train' ? treatment : lora({rank: 1})]] as const;
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 1}), {targets});
    optimizer.minimize(() => tf.mean(tf.square(loss(weight))), false, [weight]);
    const lines: string[] = [];
    const [row] = optimizer.explain([weight], line => void lines.push(line));
    expect(lines.join('\n')).toContain(row!.capture);
    optimizer.dispose();
    return row!.capture;
  };
  type Matrix = tf.Tensor2D;
  const x = normal([5, 4], 2) as Matrix;
  const product = (w: tf.Tensor) => tf.matMul(x, w as Matrix);
  const plain = 'factored: matMul';
  expect(told([4, 6], product)).toBe(plain);
  expect(told([4, 6], w => tf.fused.matMul({a: x, b: w as Matrix, bias: tf.ones([6])}))).toBe(plain);
  expect(told([4, 6], w => tf.gather(w, [1, 2]))).toBe('factored: gather');
  const tied = (w: tf.Tensor) => tf.matMul(tf.gather(w, [1, 2]), w as Matrix, false, true);
  expect(told([4, 6], tied)).toBe('factored: gather, matMul');
  // What does not lead to the loss has no say.
  expect(told([4, 6], w => (w.norm().dataSync(), w.isNaN(), product(tf.mul(w, 2)), product(w)))).toBe(plain);
  expect(told([4, 6], product, 'train')).toBe('dense: trained as it is');
  // The table of docs/capture.md, where an op of it has no factored form.
  expect(told([4, 4], w => tf.matMul(w as Matrix, w as Matrix))).toBe('mixed: both sides of one matMul');
  expect(told([3, 4, 6], w => tf.matMul(normal([3, 5, 4], 2), w))).toBe(
    'dense: a batch of matrices in a matMul',
  );
  expect(told([4, 6], w => tf.gather(w, [1, 2], 1))).toBe('dense: gather along axis 1');
  expect(told([4, 6], w => tf.gather(tf.transpose(w), [1, 2]))).toBe('dense: gather from the transpose');
  const custom = tf.customGrad((...args) => ({
    value: tf.mul(args[0] as unknown as tf.Tensor, 2),
    gradFunc: (dy: tf.Tensor) => tf.mul(dy, 2),
  }));
  expect(told([4, 6], w => custom(w))).toBe('dense: an op with a gradient of its own (customGrad)');
  expect(told([4, 6], w => tf.matMul(x, tf.reshape(tf.reshape(w, [8, 3]), [4, 6])))).toBe(
    'dense: Reshape regroups its columns',
  );
  expect(told([4, 6], w => tf.add(tf.sum(tf.abs(w)), product(w)))).toBe('mixed: Abs has no factored form');
});
