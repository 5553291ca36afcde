import * as tf from '@tensorflow/tfjs';
import {describe, expect, it} from 'vitest';
import {full, lora, normal, projected, type LoraOptions} from '../../src/index.js';
import {expectClose, fromTensor, relativeError, values} from '../helpers.js';
import {rank} from '../../src/reference/index.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';

/** Mean squared error of tanh(x W1) W2 + bias: weights of every kind that matters, 16 rows. */
function problem() {
  const x = normal([16, 6], 11);
  const y = normal([16, 3], 12);
  const w1 = tf.variable(normal([6, 8], 13, {std: 0.4}), true, 'w1');
  const w2 = tf.variable(normal([8, 3], 14, {std: 0.4}), true, 'w2');
  const bias = tf.variable(tf.zeros([3]), true, 'bias');
  const loss = () => {
    const hidden = tf.tanh(tf.matMul(x as tf.Tensor2D, w1 as tf.Tensor2D));
    const out = tf.add(tf.matMul(hidden as tf.Tensor2D, w2 as tf.Tensor2D), bias);
    return tf.losses.meanSquaredError(y, out) as tf.Scalar;
  };
  const weights = [w1, w2, bias];
  const all = () => weights.flatMap(values);
  return {x, y, w1, w2, bias, loss, weights, all, dispose: () => weights.forEach(w => w.dispose())};
}

function train(optimizer: tf.Optimizer, steps: number, work = problem()): number[] {
  for (let i = 0; i < steps; i++) optimizer.minimize(work.loss, false, work.weights);
  const end = work.all();
  work.dispose();
  optimizer.dispose();
  return end;
}

onEachBackend('the yardstick', () => {
  it.each(OPTIMIZER_NAMES)('C11 full through projected equals plain %s over 50 steps', name => {
    const plain = train(OPTIMIZERS[name](), 50);
    const wrapped = train(projected(OPTIMIZERS[name](), full(), {targets: /.*/}), 50);
    expectClose(wrapped, plain, 1e-6);
    // A test that passed because nothing moved would prove nothing.
    expect(relativeError(plain, train(OPTIMIZERS[name](), 0))).toBeGreaterThan(0.01);
  });

  it('C11 full through projected equals plain SGD to the last bit where the sums are exact', () => {
    // W in eighths, gradient 1/4 everywhere, rate 1/2: every number of W moves by exactly -1/8 a step.
    const run = (optimizer: tf.Optimizer) => {
      const w = tf.variable(
        tf.tensor2d(
          [1, 2, 3, 4, 5, 6].map(v => v / 8),
          [2, 3],
        ),
        true,
        'w',
      );
      for (let i = 0; i < 5; i++) optimizer.minimize(() => tf.div(tf.sum(w), 4) as tf.Scalar, false, [w]);
      const end = values(w);
      w.dispose();
      return end;
    };
    const plain = run(tf.train.sgd(0.5));
    expect(plain).toEqual([-4, -3, -2, -1, 0, 1].map(v => v / 8));
    expect(run(projected(tf.train.sgd(0.5), full(), {targets: 'w'}))).toEqual(plain);
  });

  it.each(OPTIMIZER_NAMES)("C13 the rule 'train' equals plain %s bit by bit", name => {
    const plain = train(OPTIMIZERS[name](), 50);
    const wrapped = train(projected(OPTIMIZERS[name](), lora(), {targets: [[/.*/, 'train']]}), 50);
    expect(wrapped).toEqual(plain);
  });

  it("C13 what no rule names is untouched with rest 'freeze', and trained as it is with rest 'train'", () => {
    const frozen = problem();
    const bias = values(frozen.bias);
    const w2 = values(frozen.w2);
    train(projected(tf.train.sgd(0.1), lora({rank: 2}), {targets: 'w1'}), 3, {
      ...frozen,
      dispose: () => {
        expect(values(frozen.bias)).toEqual(bias);
        expect(values(frozen.w2)).toEqual(w2);
      },
    });
    frozen.dispose();
    // With w1 at rest under a rate of its own of 0, the others must be what plain SGD makes of them.
    const trained = problem();
    const still = projected(({factor}) => tf.train.sgd(factor === 'weight' ? 0.1 : 0), lora({rank: 2}), {
      targets: 'w1',
      rest: 'train',
    });
    const wrapped = train(still, 5, trained);
    const plainWork = problem();
    const plain = tf.train.sgd(0.1);
    for (let i = 0; i < 5; i++) plain.minimize(plainWork.loss, false, [plainWork.w2, plainWork.bias]);
    expect(wrapped).toEqual(plainWork.all());
  });
});

/** LoRA by automatic differentiation on its own factors: what the wrapper must equal. */
function explicitLora(inner: tf.Optimizer, options: LoraOptions, start: Start, steps: number) {
  const {w1, w2, bias, x, y} = problem();
  const {rank = 8, alpha = rank} = options;
  const s = options.rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;
  const bases = [w1, w2].map(w => w.clone());
  const factors = [w1, w2].map((w, i) => {
    const {a, b} = start(w.shape as [number, number], rank, i);
    return {a: tf.variable(a, true), b: tf.variable(b, true), product: tf.mul(tf.matMul(a, b), s)};
  });
  const merged = (i: number) => {
    const {a, b, product} = factors[i]!;
    return tf.add(tf.sub(bases[i]!, product), tf.mul(tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D), s));
  };
  const loss = () => {
    const hidden = tf.tanh(tf.matMul(x as tf.Tensor2D, merged(0) as tf.Tensor2D));
    const out = tf.add(tf.matMul(hidden as tf.Tensor2D, merged(1) as tf.Tensor2D), bias);
    return tf.losses.meanSquaredError(y, out) as tf.Scalar;
  };
  const variables = factors.flatMap(({a, b}) => [a, b]);
  for (let i = 0; i < steps; i++) inner.minimize(loss, false, variables);
  const end = [...values(merged(0)), ...values(merged(1)), ...values(bias)];
  const thetas = variables.flatMap(values);
  [...variables, w1, w2, bias].forEach(v => v.dispose());
  inner.dispose();
  return {end, thetas};
}

type Start = (shape: [number, number], rank: number, index: number) => {a: tf.Tensor2D; b: tf.Tensor2D};

const bZero: Start = ([m, n], rank, i) => ({
  a: normal([m, rank], 20 + i, {std: 0.3}) as tf.Tensor2D,
  b: tf.zeros([rank, n]),
});
const bothSides: Start = ([m, n], rank, i) => ({
  a: normal([m, rank], 20 + i, {std: 0.3}) as tf.Tensor2D,
  b: normal([rank, n], 30 + i, {std: 0.3}) as tf.Tensor2D,
});

function wrappedLora(inner: tf.Optimizer, options: LoraOptions, start: Start, steps: number) {
  const work = problem();
  const optimizer = projected(
    inner,
    lora({
      ...options,
      init: ({weight, rank}) => start(weight.shape, rank, weight.shape[0] === 6 ? 0 : 1),
    }),
    {targets: ['w1', 'w2']},
  );
  for (let i = 0; i < steps; i++) optimizer.minimize(work.loss, false, work.weights);
  const end = work.all();
  const thetas = [work.w1, work.w2].flatMap(w => {
    const {a, b} = optimizer.factors(w);
    return [...values(a!), ...values(b!)];
  });
  work.dispose();
  optimizer.dispose();
  return {end, thetas};
}

onEachBackend('LoRA by automatic differentiation on its factors', () => {
  const cases: [string, () => tf.Optimizer, LoraOptions, Start][] = [
    ['Adam', OPTIMIZERS.adam, {rank: 2}, bZero],
    ['Adam, alpha 8', OPTIMIZERS.adam, {rank: 2, alpha: 8}, bZero],
    ['momentum', OPTIMIZERS.momentum, {rank: 2}, bZero],
    ['RMSProp', OPTIMIZERS.rmsprop, {rank: 2}, bZero],
    ['SGD', OPTIMIZERS.sgd, {rank: 2}, bZero],
    ['Adam, a symmetric start', OPTIMIZERS.adam, {rank: 2}, bothSides],
    ['Adam, rank-stabilised', OPTIMIZERS.adam, {rank: 2, alpha: 3, rankStabilised: true}, bothSides],
    ['Adam, rank 1', OPTIMIZERS.adam, {rank: 1}, bZero],
  ];
  it.each(cases)('C12 is equalled by the wrapper over 50 steps: %s', (_, inner, options, start) => {
    const explicit = explicitLora(inner(), options, start, 50);
    const wrapped = wrappedLora(inner(), options, start, 50);
    expectClose(wrapped.end, explicit.end, 2e-6);
    expectClose(wrapped.thetas, explicit.thetas, 2e-6);
    expect(relativeError(explicit.end, problem().all())).toBeGreaterThan(0.01);
  });
});

onEachBackend('what LoRA promises', () => {
  it('C14 with b = 0 the weight is where it was until the factors move, and W - W0 has rank r after 20 steps', () => {
    const work = problem();
    const before = work.all();
    const w0 = work.w1.clone();
    const still = projected(tf.train.sgd(0), lora({rank: 2}), {targets: 'w1'});
    still.minimize(work.loss, false, work.weights);
    expect(work.all()).toEqual(before);
    const moving = projected(OPTIMIZERS.adam(), lora({rank: 2}), {targets: 'w1'});
    for (let i = 0; i < 20; i++) moving.minimize(work.loss, false, work.weights);
    expect(rank(fromTensor(tf.sub(work.w1, w0)), 1e-5)).toBe(2);
  });

  it('C15 a seed, and 0 too, gives the same run again; another seed gives another', () => {
    const run = (seed: number) => train(projected(OPTIMIZERS.adam(), lora({rank: 2}), {seed}), 5);
    expect(run(0)).toEqual(run(0));
    expect(run(7)).toEqual(run(7));
    expect(relativeError(run(0), run(7))).toBeGreaterThan(1e-4);
  });

  it('C15 the order of the weights changes nothing', () => {
    const run = (reverse: boolean) => {
      const work = problem();
      const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 2}), {rest: 'train'});
      const order = reverse ? [...work.weights].reverse() : work.weights;
      for (let i = 0; i < 5; i++) optimizer.minimize(work.loss, false, order);
      const end = work.all();
      work.dispose();
      return end;
    };
    expect(run(true)).toEqual(run(false));
  });

  it('C17 variables of rank 0 to 5 train through one optimizer: matrices of [all but last, last], the rest as told', () => {
    const shapes = [[], [6], [6, 5], [2, 3, 5], [2, 2, 2, 5], [1, 2, 2, 2, 5]];
    const weights = shapes.map((shape, i) => tf.variable(normal(shape, i + 1), true, `rank${i}`));
    const before = weights.map(values);
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 1}), {rest: 'train', keepBase: true});
    const loss = () => tf.addN(weights.map(w => tf.sum(tf.square(w)))) as tf.Scalar;
    const first = values(loss())[0]!;
    for (let i = 0; i < 5; i++) optimizer.minimize(loss);
    expect(values(loss())[0]!).toBeLessThan(first);
    weights.forEach((w, i) => {
      expect(w.shape).toEqual(shapes[i]);
      expect(values(w)).not.toEqual(before[i]);
      expect(Object.keys(optimizer.factors(w))).toEqual(i < 2 ? ['weight'] : ['a', 'b']);
      expect(values(optimizer.base(w))).toEqual(before[i]);
    });
    const m = [2 * 3, 2 * 2 * 2, 1 * 2 * 2 * 2];
    weights.slice(3).forEach((w, i) => expect(optimizer.factors(w)['a']!.shape).toEqual([m[i], 1]));
  });

  it('C18 a matrix too small for the rank is left to rest, and trained as it is when a rule names it', () => {
    // Rank 8 on [6, 8] would train 8 * 14 = 112 numbers of 48.
    const byDefault = projected(tf.train.sgd(0.1), lora({rank: 8}));
    const work = problem();
    expect(() => byDefault.minimize(work.loss, false, work.weights)).toThrow(/Lower the rank.*w1 \[6,8\]/);
    work.dispose();
    const plain = train(tf.train.sgd(0.1), 5);
    const named = train(projected(tf.train.sgd(0.1), lora({rank: 8}), {targets: /.*/}), 5);
    expect(named).toEqual(plain);
  });
});

describe('conv kernels, on cpu', () => {
  it('C12 a conv kernel through the wrapper equals LoRA by automatic differentiation on [kh kw in, out]', async () => {
    await tf.setBackend('cpu');
    tf.engine().startScope();
    const [x, y] = [normal([2, 6, 6, 2], 1) as tf.Tensor4D, normal([2, 6, 6, 6], 2)];
    const w0 = normal([3, 3, 2, 6], 3, {std: 0.3}) as tf.Tensor4D;
    // [18, 6] as a matrix; rank 4 trains 4 * 24 = 96 of 108.
    const a0 = normal([18, 4], 4, {std: 0.3}) as tf.Tensor2D;
    const lossOf = (w: tf.Tensor4D) =>
      tf.losses.meanSquaredError(y, tf.tanh(tf.conv2d(x, w, 1, 'same'))) as tf.Scalar;

    const [a, b] = [tf.variable(a0), tf.variable(tf.zeros([4, 6]) as tf.Tensor2D)];
    const merged = () => tf.add(w0, tf.reshape(tf.matMul(a, b), [3, 3, 2, 6])) as tf.Tensor4D;
    const explicit = OPTIMIZERS.adam();
    for (let i = 0; i < 50; i++) explicit.minimize(() => lossOf(merged()), false, [a, b]);

    const w = tf.variable(w0);
    const wrapped = projected(OPTIMIZERS.adam(), lora({rank: 4, init: () => ({a: a0})}));
    for (let i = 0; i < 50; i++) wrapped.minimize(() => lossOf(w), false, [w]);
    expectClose(values(w), values(merged()), 2e-6);
    expect(relativeError(values(w), values(w0))).toBeGreaterThan(0.1);
    tf.disposeVariables();
    tf.engine().endScope();
  });
});
