import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {cosine, full, lora, loraAdam, loraPlus, loraSgd, projected, symmetric} from '../src/index.js';
import {expectOracle} from './parametrizations/oracle.js';
import {matrix, situation} from './parametrizations/exercise.js';
import {members} from './parametrizations/members.js';
import {relativeError, values} from './helpers.js';

beforeAll(() => tf.setBackend('cpu'));

const all = {targets: () => true} as const;
const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('lora-plus', number, what, residual, tolerance);

/** How far A and B went in one step from a start away from zero. */
function distances(make: () => tf.Optimizer & {factors(w: tf.Variable): Record<string, tf.Variable>}, G = 2) {
  const weight = tf.variable(matrix([12, 10], 1), true, 'w');
  const start = symmetric()({weight: weight as never, rank: 2, seed: 5} as never);
  const optimizer = make();
  optimizer.applyGradients({[weight.name]: matrix([12, 10], G)});
  const {a, b} = optimizer.factors(weight);
  const moved = [tf.sub(a!, start.a!), tf.sub(b!, start.b!)].map(values);
  optimizer.dispose();
  weight.dispose();
  return moved as [number[], number[]];
}
const init = ({weight, rank}: {weight: tf.Tensor2D; rank: number}) =>
  symmetric()({weight, rank, seed: 5} as never);

describe('loraPlus', () => {
  test('with SGD B goes ratio times as far as with one rate, and A as far', () => {
    const [a, b] = distances(() => loraSgd(0.01, {rank: 2, init, ...all}) as never);
    const [a16, b16] = distances(() => loraSgd(0.01, {rank: 2, init, ratio: 16, ...all}) as never);
    oracle('rates', 'SGD: dA is what it was', relativeError(a16, a), 1e-5);
    oracle(
      'rates, B',
      'SGD: dB is 16 times what it was',
      relativeError(
        b16,
        b.map(x => 16 * x),
      ),
      1e-5,
    );
  });

  test('with Adam the first step moves every number of A by the rate, of B by ratio times the rate', () => {
    const adam = () => tf.train.adam(1, 0.9, 0.999, 1e-7);
    const [a, b] = distances(
      () => projected(adam, lora({rank: 2, init}), {...all, learningRate: loraPlus(1e-3)}) as never,
    );
    const off = (moves: number[], rate: number) =>
      Math.max(...moves.map(x => Math.abs(Math.abs(x) / rate - 1)));
    oracle('Adam', 'the first step is 1e-3 in A, 1.6e-2 in B', Math.max(off(a, 1e-3), off(b, 1.6e-2)), 1e-3);
    const [same] = distances(() => loraAdam(1e-3, {rank: 2, init, ratio: 16, ...all}) as never);
    expect(same).toEqual(a);
  });

  test('follows a schedule; weights that are trained as they are go at the plain rate', () => {
    const schedule = cosine(0.1, {steps: 10});
    const rate = loraPlus(schedule, {ratio: 4});
    for (const step of [0, 3, 10]) {
      expect(rate(step, {weight: 'w', factor: 'a'})).toBe(schedule(step, {}));
      expect(rate(step, {weight: 'w', factor: 'b'})).toBe(4 * schedule(step, {}));
      expect(rate(step, {weight: 'w', factor: 'weight'})).toBe(schedule(step, {}));
    }
  });

  test('is saved with the optimizer: half a run, loaded, is the whole run', async () => {
    const weight = tf.variable(matrix([12, 10], 1), true, 'saved');
    const make = () => loraAdam(cosine(0.01, {steps: 9}), {rank: 2, ratio: 8, targets: /saved/});
    const take = (optimizer: tf.Optimizer, steps: number[]) => {
      for (const step of steps) optimizer.applyGradients({[weight.name]: matrix([12, 10], step)});
    };
    const whole = make();
    take(whole, [1, 2, 3, 4, 5]);
    const wanted = values(weight);
    weight.assign(matrix([12, 10], 1));
    const first = make();
    take(first, [1, 2]);
    const config = first.getConfig();
    const second = (first.constructor as unknown as {fromConfig: Function}).fromConfig(
      first.constructor,
      config,
    );
    await second.setWeights(await first.getWeights());
    take(second, [3, 4, 5]);
    oracle('O5', '2 steps + save + load + 3 = 5 steps', relativeError(values(weight), wanted), 0);
    for (const used of [whole, first, second]) used.dispose();
    weight.dispose();
  });

  test('O16: alpha, the size of B and the rate of B are one knob', () => {
    const k = 4;
    const path = (adam: boolean, size: number, ratio: number) => {
      const weight = tf.variable(matrix([9, 7], 1));
      const start = {a: matrix([9, 2], 2), b: tf.div(matrix([2, 7], 3), size) as tf.Tensor2D};
      const make = () => (adam ? tf.train.adam(1, 0.9, 0.999, 1e-9) : tf.train.sgd(1));
      const optimizer = projected(make, lora({rank: 2, alpha: 2 * size, init: () => start}), {
        ...all,
        learningRate: loraPlus(0.01, {ratio}),
      });
      const seen: number[] = [];
      for (let step = 0; step < 8; step++) {
        optimizer.applyGradients({[weight.name]: matrix([9, 7], 20 + step)});
        seen.push(...values(tf.sub(weight, matrix([9, 7], 1))));
      }
      optimizer.dispose();
      weight.dispose();
      return seen;
    };
    for (const [adam, power] of [
      [false, 2],
      [true, 1],
    ] as const) {
      const name = adam ? 'Adam' : 'SGD';
      const plain = path(adam, 1, 1);
      const balanced = relativeError(path(adam, k, k ** -power), plain);
      oracle(`O16, ${name}`, `(A, B/k, s k) at eta_B/k^${power} = (A, B, s)`, balanced, 2e-5);
      expect(relativeError(path(adam, k, 1), plain)).toBeGreaterThan(0.05);
    }
  });

  test('refuses one inner optimizer for all, and rates that are none', () => {
    const weight = tf.variable(matrix([12, 10], 1));
    const before = values(weight);
    const shared = projected(tf.train.adam(1), lora({rank: 2}), {...all, learningRate: loraPlus(1e-3)});
    expect(() => shared.applyGradients({[weight.name]: matrix([12, 10], 1)})).toThrow(
      /b cannot have a rate of its own; give a function/,
    );
    expect(values(weight)).toEqual(before);
    expect(() => loraPlus(-1)).toThrow(/loraPlus: rate must be/);
    expect(() => loraPlus(1, {ratio: 0})).toThrow(/ratio must be a number above 0, not 0/);
    expect(() => loraPlus(1, {lambda: 4} as never)).toThrow(/unknown option 'lambda'/);
    expect(() => loraSgd(1, {ratio: -1})).toThrow(/ratio/);
    shared.dispose();
  });

  test('a whole weight beside is moved by the plain rate', () => {
    const [w, v] = [tf.variable(matrix([12, 10], 1), true, 'm'), tf.variable(tf.zeros([3]), true, 'v')];
    const optimizer = projected(() => tf.train.sgd(1), full(), {
      targets: [['m', lora({rank: 2})]],
      rest: 'train',
      learningRate: loraPlus(0.5, {ratio: 3}),
    });
    optimizer.applyGradients({m: matrix([12, 10], 2), v: tf.ones([3])});
    expect(values(v)).toEqual([-0.5, -0.5, -0.5]);
    optimizer.dispose();
    for (const used of [w, v]) used.dispose();
  });
});

test('the methods with a factor b are those that docs/lora-plus.md lists', () => {
  const withB = Object.entries(members).filter(([, forms]) =>
    Object.values(forms).some(p => tf.tidy(() => 'b' in situation(p, [12, 12]).fresh.factors)),
  );
  expect(withB.map(([method]) => method).sort()).toEqual(
    ['lora', 'dora', 'osf', 'lora-fa', 'vera', 'additive', 'random-projection'].sort(),
  );
});
