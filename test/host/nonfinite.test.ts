import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {every, full, lora, loraAdam, normal, projected, type ProjectedOptions} from '../../src/index.js';
import {numTensors, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';

/** Two weights; `v` gets a gradient with one bad number in it. */
function two() {
  const u = tf.variable(normal([6, 5], 1), true, 'u');
  const v = tf.variable(normal([6, 5], 2), true, 'v');
  return {u, v};
}

const good = (step = 0) => ({u: normal([6, 5], 10 + step), v: normal([6, 5], 20 + step)});

function bad(value: number) {
  const numbers = values(good().v);
  numbers[7] = value;
  return {u: good().u, v: tf.tensor(numbers, [6, 5])};
}

/** All there is to move: weights, state, counters, tensors. */
async function everything(optimizer: ReturnType<typeof loraAdam>, weights: tf.Variable[]) {
  const state = (await optimizer.getWeights()).map(({name, tensor}) => [name, values(tensor)]);
  return {weights: weights.map(values), state, tensors: numTensors(), steps: optimizer.iterations};
}

onEachBackend('C24 a gradient that is not finite', () => {
  const settings: [string, ProjectedOptions][] = [
    ['by default', {}],
    ["with rest 'train' and keepBase", {targets: 'u', rest: 'train', keepBase: true}],
    ['with weightDecay and clipNorm', {weightDecay: 0.1, clipNorm: 1}],
    ['when a refresh is due', {refresh: every(1), moments: 'reset'}],
    ['in accumulation', {accumulate: 3}],
  ];
  it.each(settings)('is an error that names the weight, and nothing moves: %s', async (_, options) => {
    const {u, v} = two();
    const optimizer = loraAdam(0.1, {rank: 2, ...options});
    for (const taken of [0, 1, 2]) {
      if (taken > 0) optimizer.applyGradients(good(taken));
      for (const value of [NaN, Infinity, -Infinity]) {
        const gradients = bad(value);
        await optimizer.getWeights();
        const before = await everything(optimizer, [u, v]);
        expect(() => optimizer.applyGradients(gradients)).toThrow(
          /gradient of v \[6,5\] holds NaN or infinity at step \d; nothing was moved/,
        );
        tf.dispose(gradients);
        before.tensors -= 2;
        expect(await everything(optimizer, [u, v])).toEqual(before);
      }
    }
    // The next good step is as if nothing had been: compare with a run that saw no bad gradient.
    optimizer.applyGradients(good(3));
    const end = [values(u), values(v)];
    u.assign(normal([6, 5], 1));
    v.assign(normal([6, 5], 2));
    const other = loraAdam(0.1, {rank: 2, ...options});
    for (const step of [1, 2, 3]) other.applyGradients(good(step));
    expect([values(u), values(v)]).toEqual(end);
  });

  it('through minimize too, on the very first step, and nothing is left behind', () => {
    const {u, v} = two();
    const optimizer = loraAdam(0.1, {rank: 2});
    // d sqrt(x) / dx is infinite at 0.
    const loss = () => tf.sum(tf.add(tf.square(u), tf.sqrt(tf.mul(v, 0)))) as tf.Scalar;
    const before = [values(u), values(v), numTensors(), optimizer.stateBytes];
    expect(() => optimizer.minimize(loss, true)).toThrow(/gradient of v \[6,5\]/);
    expect([values(u), values(v), numTensors(), optimizer.stateBytes]).toEqual(before);
    expect(() => optimizer.factors('u')).toThrow(/not attached/);
  });

  it('names every weight that has one', () => {
    two();
    const optimizer = loraAdam(0.1, {rank: 2});
    const gradients = {u: tf.fill([6, 5], NaN), v: tf.fill([6, 5], Infinity)};
    expect(() => optimizer.applyGradients(gradients)).toThrow(/u \[6,5\], v \[6,5\]/);
  });

  it('in a frozen weight nobody minds', () => {
    const {u} = two();
    const optimizer = loraAdam(0.1, {rank: 2, targets: 'u'});
    const before = values(u);
    optimizer.applyGradients(bad(NaN));
    expect(values(u)).not.toEqual(before);
  });

  it("is passed over with nonFinite: 'skip', and counted", async () => {
    const {u, v} = two();
    const optimizer = loraAdam(0.1, {rank: 2, nonFinite: 'skip'});
    optimizer.applyGradients(good(0));
    const gradients = bad(NaN);
    // The count itself is saved, in the layout.
    const everythingElse = async () => {
      const {state, ...rest} = await everything(optimizer, [u, v]);
      return {...rest, state: state.filter(([name]) => name !== 'tfjs-lora/layout')};
    };
    const before = await everythingElse();
    expect(before.state.length).toBeGreaterThan(5);
    optimizer.applyGradients(gradients);
    expect(await everythingElse()).toEqual(before);
    expect(optimizer.skipped).toBe(1);
    optimizer.applyGradients(good(1));
    expect(optimizer.skipped).toBe(1);
    expect(optimizer.iterations).toBe(2);
  });

  it("goes through with nonFinite: 'ignore'", () => {
    const {u, v} = two();
    const optimizer = loraAdam(0.1, {rank: 2, nonFinite: 'ignore'});
    optimizer.applyGradients(bad(NaN));
    expect(values(v).some(Number.isNaN)).toBe(true);
    expect(values(u).every(Number.isFinite)).toBe(true);
    expect(optimizer.iterations).toBe(1);
  });

  it('is not a huge one that is clipped: 1e25 is finite though its square is not', () => {
    const {u} = two();
    const huge = {u: tf.fill([6, 5], 1e25)};
    for (const make of [
      () => loraAdam(0.1, {rank: 2, clipNorm: 1}),
      () => projected(tf.train.sgd(0.1), full(), {targets: 'u', clipNorm: 1}),
    ]) {
      const before = values(u);
      const optimizer = make();
      optimizer.applyGradients(huge);
      optimizer.applyGradients(huge);
      expect(values(u)).not.toEqual(before);
      expect(values(u).every(Number.isFinite)).toBe(true);
      optimizer.dispose();
    }
  });

  it('is one that is too large to square, which would stay in the second moment of Adam for good', () => {
    const {u} = two();
    const before = values(u);
    const optimizer = loraAdam(0.1, {rank: 2});
    expect(() => optimizer.applyGradients({u: tf.fill([6, 5], 1e25)})).toThrow(
      /u \[6,5\] is too large to square/,
    );
    expect(values(u)).toEqual(before);
    optimizer.applyGradients({u: good().u});
    expect(values(u)).not.toEqual(before);
  });

  it.each(OPTIMIZER_NAMES)('a zero gradient moves nothing at the first step: %s', name => {
    const {u} = two();
    const before = values(u);
    const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}));
    optimizer.applyGradients({u: tf.zeros([6, 5])});
    expect(values(u)).toEqual(before);
    optimizer.applyGradients({u: good().u});
    expect(values(u)).not.toEqual(before);
  });

  it('made by the inner optimizer out of finite ones is an error too; no weight moves, and the next step works', () => {
    // tfjs's centered RMSProp takes the root of a negative number at a zero gradient.
    const {u} = two();
    const optimizer = projected(tf.train.rmsprop(0.1, 0.9, 0, 1e-7, true), lora({rank: 2}), {
      targets: [['u', 'train']],
    });
    const before = values(u);
    expect(() => optimizer.applyGradients({u: tf.zeros([6, 5])})).toThrow(/inner optimizer made NaN/);
    expect(values(u)).toEqual(before);
    expect(optimizer.iterations).toBe(0);
    optimizer.applyGradients({u: good().u});
    expect(values(u).every(Number.isFinite)).toBe(true);
    expect(values(u)).not.toEqual(before);
  });
});
