import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeAll, describe, expect, it, vi} from 'vitest';
import {every, full, lora, loraAdam, normal, projected, type ProjectedOptimizer} from '../../src/index.js';

beforeAll(() => tf.setBackend('cpu'));
afterEach(() => {
  vi.restoreAllMocks();
  tf.disposeVariables();
});

const weight = (seed: number, name?: string, shape = [8, 6]) => tf.variable(normal(shape, seed), true, name);
const step = (optimizer: ProjectedOptimizer, weights: tf.Variable[], seed = 50) =>
  optimizer.applyGradients(weights.map((w, i) => ({name: w.name, tensor: normal(w.shape, seed + i)})));
const factor = (optimizer: ProjectedOptimizer, w: tf.Variable) =>
  Array.from(optimizer.factors(w)['a']!.dataSync());
const moveOn = async (from: ProjectedOptimizer, to: ProjectedOptimizer) =>
  to.setWeights(await from.getWeights());

describe('saved state goes to the weight it was saved for', () => {
  it('unnamed variables go by order, whatever numbers tfjs gives them', async () => {
    const first = [1, 2, 3].map(seed => weight(seed));
    const before = loraAdam(0.01, {rank: 1});
    step(before, first);
    const wanted = first.map(w => factor(before, w));
    // One more variable than last time, and the same three after it: their numbers are shifted by one or more.
    weight(9);
    const second = [1, 2, 3].map(seed => weight(seed));
    const after = loraAdam(0.01, {rank: 1});
    await moveOn(before, after);
    after.setLearningRate(0);
    step(after, second);
    expect(second.map(w => factor(after, w))).toEqual(wanted);
  });

  it('names that differ in their number alone go by order, not by number', async () => {
    const first = ['q/kernel_1', 'q/kernel_2'].map((name, i) => weight(i, name));
    const before = loraAdam(0.01, {rank: 1});
    step(before, first);
    const wanted = first.map(w => factor(before, w));
    first.forEach(w => w.dispose());
    const second = ['q/kernel', 'q/kernel_1'].map((name, i) => weight(i, name));
    const after = loraAdam(0.01, {rank: 1});
    await moveOn(before, after);
    after.setLearningRate(0);
    step(after, second);
    expect(second.map(w => factor(after, w))).toEqual(wanted);
  });

  it('a renamed weight beside state that finds no weight is told, once', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const before = loraAdam(0.01, {rank: 1});
    step(before, [weight(1, 'l1/kernel'), weight(2, 'l2/kernel')]);
    const after = loraAdam(0.01, {rank: 1});
    await moveOn(before, after);
    const weights = [weight(1, 'l1/kernel_1'), weight(2, 'second/kernel')];
    step(after, weights);
    step(after, weights);
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/second\/kernel \[8,6\] start anew.*l2\/kernel \[8,6\] waits/)],
    ]);
  });

  it.each([
    [
      'another rank',
      () => lora({rank: 2}),
      /is of lora\(\{"rank":1,"alpha":1\}\), and now it is lora\(\{"rank":2\}\)/,
    ],
    ['another alpha', () => lora({rank: 1, alpha: 32}), /now it is lora\(\{"rank":1,"alpha":32\}\)/],
    ['another parametrization', () => full(), /now it is full\(\)/],
  ])('%s is refused, and nothing moves', async (_, other, message) => {
    const w = weight(1, 'w');
    const before = projected(tf.train.sgd(0.1), lora({rank: 1, alpha: 1}), {targets: 'w', keepBase: true});
    step(before, [w]);
    const after = projected(tf.train.sgd(1e-9), other(), {targets: 'w', keepBase: true});
    await moveOn(before, after);
    const values = w.dataSync().slice();
    expect(() => step(after, [w])).toThrow(message);
    expect(w.dataSync()).toEqual(values);
  });

  it('a state that cannot be taken over leaves the one there is', async () => {
    const w = weight(1, 'w');
    const [adam, sgd] = [tf.train.adam(0.1, 0.9, 0.999, 1e-7), tf.train.sgd(0.1)].map(inner =>
      projected(inner, lora({rank: 1}), {targets: 'w'}),
    ) as [ProjectedOptimizer, ProjectedOptimizer];
    step(adam, [w]);
    step(sgd, [w]);
    const known = factor(sgd, w);
    await expect(moveOn(adam, sgd)).rejects.toThrow(/which a SGD does not keep/);
    expect(factor(sgd, w)).toEqual(known);
    expect(sgd.iterations).toBe(1);
  });

  it('a factor may be called weight', async () => {
    const named = {
      name: 'plain',
      init: ({weight: {shape}}: {weight: tf.Tensor2D}) => ({factors: {weight: tf.zeros(shape)}}),
      delta: ({factors}: {factors: {weight: tf.Tensor}}) => factors.weight,
    };
    const w = weight(1, 'w');
    const before = projected(tf.train.sgd(0.1), named as never, {targets: 'w'});
    step(before, [w]);
    const after = projected(tf.train.sgd(0.1), named as never, {targets: 'w'});
    await moveOn(before, after);
    step(after, [w]);
    expect(after.iterations).toBe(2);
  });

  it('names a weight exactly before it tries the name without its number', () => {
    const [second, first] = [weight(2, 'fx/kernel_1'), weight(1, 'fx/kernel')];
    const optimizer = loraAdam(0.01, {rank: 1});
    step(optimizer, [second, first]);
    expect(optimizer.factors('fx/kernel')).toBe(optimizer.factors(first));
    expect(optimizer.factors('fx/kernel_1')).toBe(optimizer.factors(second));
  });
});

describe('an inner optimizer', () => {
  it('C26 that has trained before forgets moments that are not ours', () => {
    const [w, twin] = [weight(1, 'w'), weight(1, 'twin')];
    const used = tf.train.adam(0.01, 0.9, 0.999, 1e-7);
    used.applyGradients([{name: 'w', tensor: normal([8, 6], 3)}]);
    w.assign(tf.clone(twin));
    const run = (inner: tf.Optimizer, v: tf.Variable) =>
      step(projected(inner, full(), {targets: () => true}), [v]);
    run(used, w);
    run(tf.train.adam(0.01, 0.9, 0.999, 1e-7), twin);
    expect(w.dataSync()).toEqual(twin.dataSync());
  });

  it('belongs to one wrapper, until that is disposed', () => {
    const inner = tf.train.sgd(0.1);
    projected(inner, lora());
    expect(() => projected(inner, lora())).toThrow(/already belongs to another wrapper/);
  });

  it('of your own that hides its state cannot be saved, and says so', async () => {
    class Hidden extends tf.Optimizer {
      static className = 'Hidden';
      readonly state = new Map<string, tf.Tensor>();
      applyGradients(gradients: {name: string; tensor: tf.Tensor}[]) {
        for (const {name, tensor} of gradients) if (tensor) this.state.set(name, tf.keep(tensor.clone()));
        this.incrementIterations();
      }
      override async getWeights() {
        return [];
      }
      getConfig() {
        return {};
      }
    }
    const w = weight(1, 'w');
    const optimizer = projected(new Hidden() as unknown as tf.Optimizer, lora({rank: 1}));
    step(optimizer, [w]);
    await expect(optimizer.getWeights()).rejects.toThrow(/Hidden keeps its state where it cannot be read/);
  });

  it('without a learning rate takes no weight decay', () => {
    class Rateless extends tf.Optimizer {
      static className = 'Rateless';
      applyGradients() {}
      getConfig() {
        return {};
      }
    }
    const make = (options: object) => projected(new Rateless() as unknown as tf.Optimizer, lora(), options);
    expect(() => make({})).not.toThrow();
    expect(() => make({weightDecay: 0.1})).toThrow(/goes by the learning rate/);
  });

  it('of its own for each factor steps only where that factor has a gradient', () => {
    const inners: tf.Optimizer[] = [];
    const optimizer = projected(
      () => {
        inners.push(tf.train.adam(0.01, 0.9, 0.999, 1e-7));
        return inners.at(-1)!;
      },
      lora({rank: 1}),
    );
    const [a, b] = [weight(1, 'a'), weight(2, 'b')];
    step(optimizer, [a, b]);
    step(optimizer, [b]);
    expect(inners.map(inner => inner.iterations)).toEqual([1, 1, 2, 2]);
  });
});

describe('weights that come and go', () => {
  it('what was disposed is let go: six models in a row keep no more than one', () => {
    const optimizer = loraAdam(0.01, {rank: 1, rest: 'train'});
    const counts = Array.from({length: 6}, (_, i) => {
      const [kernel, bias] = [weight(i, `m${i}/kernel`), weight(i, `m${i}/bias`, [6])];
      step(optimizer, [kernel, bias]);
      const held = optimizer.stateBytes;
      tf.dispose([kernel, bias]);
      return held;
    });
    expect(new Set(counts.slice(1)).size).toBe(1);
    expect(counts[1]).toBe(counts[0]);
  });

  it('a weight without a gradient when a refresh is due is refreshed when it has one', () => {
    const [a, b] = [weight(1, 'a'), weight(2, 'b')];
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 1}), {refresh: every(2), moments: 'keep'});
    step(optimizer, [a, b]);
    step(optimizer, [a, b]);
    step(optimizer, [a]);
    expect(optimizer.attached.map(({refreshed}) => refreshed)).toEqual([true, false]);
    step(optimizer, [b]);
    expect(optimizer.attached.map(({refreshed}) => refreshed)).toEqual([true, true]);
  });

  it('a refresh waits for the gradients that are being gathered', () => {
    const w = weight(1, 'w');
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 1}), {
      refresh: step => step === 1,
      moments: 'keep',
      accumulate: 2,
    });
    step(optimizer, [w]);
    step(optimizer, [w]);
    const start = factor(optimizer, w);
    step(optimizer, [w]);
    const renewed = factor(optimizer, w);
    expect(renewed).not.toEqual(start);
    step(optimizer, [w]);
    // One factor moved by the step, none of it chosen anew in the middle of the cycle.
    expect(factor(optimizer, w)).not.toEqual(start);
    expect(optimizer.iterations).toBe(2);
  });

  it('a step that fails keeps the gradients gathered for it', () => {
    const w = weight(1, 'w');
    const twin = weight(1, 'twin');
    let broken = true;
    const options = {accumulate: 2, targets: () => true};
    const optimizer = projected(tf.train.sgd(0.1), full(), {
      ...options,
      learningRate: () => (broken ? NaN : 0.1),
    });
    step(optimizer, [w], 1);
    expect(() => step(optimizer, [w], 2)).toThrow(/learningRate at step 0/);
    broken = false;
    step(optimizer, [w], 2);
    const plain = projected(tf.train.sgd(0.1), full(), options);
    step(plain, [twin], 1);
    step(plain, [twin], 2);
    expect(w.dataSync()).toEqual(twin.dataSync());
  });

  it('a weight without numbers is left alone', () => {
    const [w, none] = [weight(1, 'w'), tf.variable(tf.zeros([0]), true, 'none')];
    const optimizer = loraAdam(0.01, {rank: 1, rest: 'train', clipNorm: 1});
    step(optimizer, [w, none]);
    expect(optimizer.attached.map(({name}) => name)).toEqual(['w']);
  });

  it('an embedding whose trained rows are not in the batch is no dead point', () => {
    weight(1, 'w');
    const mask = tf.tensor2d([1, 1, 0, 0, 0, 0, 0, 0], [8, 1]);
    const masked = {
      name: 'masked',
      init: ({weight: {shape}}: {weight: tf.Tensor2D}) => ({factors: {d: tf.zeros(shape)}, frozen: {mask}}),
      delta: ({factors, frozen}: {factors: {d: tf.Tensor}; frozen: {mask: tf.Tensor}}) =>
        tf.mul(factors.d, frozen.mask),
    };
    const optimizer = projected(tf.train.sgd(0.1), masked as never, {targets: 'w'});
    const other = tf.tensor2d([0, 0, 0, 0, 1, 1, 0, 0], [8, 1]).mul(tf.ones([8, 6]));
    expect(() => optimizer.applyGradients({w: other})).not.toThrow();
  });

  it('with a kept base W is the base plus what the factors say, with no rounding of earlier steps', () => {
    const w = weight(1, 'w');
    const start = w.clone();
    const optimizer = loraAdam(0.05, {rank: 2, keepBase: true});
    for (let i = 0; i < 50; i++) step(optimizer, [w], i);
    const {a, b} = optimizer.factors(w) as Record<string, tf.Tensor2D>;
    expect(w.dataSync()).toEqual(tf.add(start, tf.matMul(a!, b!)).dataSync());
  });
});
