import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {
  denseGradient,
  type Gradient,
  hadamard,
  hadamardHe,
  hadamardNormal,
  hadamardUniform,
  projected,
} from '../../src/index.js';
import {factoredGradient} from '../../src/capture/factored.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('hadamard', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;
const minus = reference.formula('X - Y');

describe('hadamard', () => {
  test.each([
    [1, 1],
    [2, 6],
    [3, 3],
    [11, 2],
  ])('equals the float64 reference: rank %i, alpha %i', (rank, alpha) => {
    const worst = worstAgainst(
      hadamard({rank, alpha}),
      () => reference.hadamard(alpha / rank) as unknown as Reference,
    );
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test('a start away from zero is subtracted, once and for all', () => {
    const worst = worstAgainst(hadamard({rank: 2, init: hadamardHe()}), ({fresh}) => {
      const rule = reference.hadamard(1) as unknown as Reference;
      const start = Object.fromEntries(Object.entries(fresh.factors).map(([k, f]) => [k, fromTensor(f)]));
      return {...rule, delta: factors => minus({X: rule.delta(factors), Y: rule.delta(start)})};
    });
    oracle('reference, start', 'with (A1 B1) o (A2 B2) of the start subtracted', worst, ROUNDING);
  });

  test('O3: by products of the operator as from the dense gradient, and the choice goes by the shape', () => {
    let worst = 0;
    for (const [m, n, rank, isThin] of [
      [24, 20, 2, true],
      [40, 30, 2, true],
      [9, 6, 1, true],
      [9, 6, 2, false],
      [24, 20, 3, false],
    ] as const) {
      const p = hadamard({rank, alpha: 2});
      const {state} = situation(p, [m, n]);
      for (const t of [1, 5, 60]) {
        const [x, delta] = [matrix([t, m], 7), matrix([t, n], 8)];
        const factored = factoredGradient([{x, delta}], [m, n]);
        let formed = 0;
        const watched: Gradient = {...factored, dense: () => (formed++, factored.dense())};
        const got = calculus.pullback(p, state, watched);
        const want = reference
          .hadamard(2 / rank)
          .pullback(
            Object.fromEntries(Object.entries(state.factors).map(([k, f]) => [k, fromTensor(f)])) as never,
            fromTensor(tf.matMul(x, delta, true)),
          );
        expect(formed).toBe(isThin ? 0 : 1);
        for (const [key, value] of Object.entries(want)) worst = Math.max(worst, distance(got[key]!, value));
      }
    }
    oracle('O3', 'by G Q and P^T G = from G', worst, ROUNDING);
  });

  test('O48: the change has rank r^2, and no more', () => {
    for (const rank of [1, 2, 3]) {
      const p = hadamard({rank});
      const {state} = situation(p, [14, 12]);
      const found = reference.rank(fromTensor(calculus.phi(p, state)), 1e-5);
      oracle('O48', 'rank(W - W0) = r^2', Math.abs(found - rank * rank), 0);
    }
  });

  test('O48: the gradients are those of finite differences, in float64', () => {
    const rule = reference.hadamard(1.5);
    const numbers = reference.generator(3);
    const draw = (m: number, n: number) => reference.randomMatrix([m, n], numbers);
    const factors = {a1: draw(5, 2), b1: draw(2, 4), a2: draw(5, 2), b2: draw(2, 4)};
    const G = draw(5, 4);
    const want = reference.finiteDifferences(f => reference.inner(G, rule.delta(f)), factors);
    const got = rule.pullback(factors, G);
    const worst = Math.max(
      ...Object.keys(want).map(k => reference.maxDifference(got[k as 'a1'], want[k as 'a1'])),
    );
    oracle('O48, gradients', 'pullback against finite differences of the reference', worst, 1e-8);
  });

  test('by default A2 is at zero and alone has a gradient', () => {
    const p = hadamard({rank: 2});
    const {fresh, gradient} = situation(p, [6, 5]);
    const grads = calculus.pullback(p, {factors: fresh.factors, frozen: {}}, denseGradient(gradient, [6, 5]));
    for (const [key, grad] of Object.entries(grads)) {
      expect(Math.max(...values(tf.abs(grad))) > 0, key).toBe(key === 'a2');
    }
  });

  test('the starts have the spread they say', () => {
    const start = {weight: tf.zeros([200, 160]) as tf.Tensor2D, seed: 4, rank: 20};
    const given = {...start, gradient: denseGradient(start.weight, [200, 160])};
    const std = (x: tf.Tensor) => Math.sqrt(values(tf.mean(tf.square(x)))[0]!);
    const uniform = hadamardUniform()(given);
    expect(uniform.a2).toBeUndefined();
    expect(std(uniform.a1!) * Math.sqrt(3 * 200)).toBeCloseTo(1, 1);
    expect(std(uniform.b1!) * Math.sqrt(3 * 20)).toBeCloseTo(1, 1);
    expect(Math.max(...values(tf.abs(uniform.b2!)))).toBeLessThanOrEqual(1 / Math.sqrt(20));
    const gaussian = hadamardNormal()(given);
    expect(gaussian.b2).toBeUndefined();
    for (const [x, want] of [
      [gaussian.a1!, 1],
      [gaussian.b1!, 0.1],
      [gaussian.a2!, 1],
    ] as const) {
      expect(std(x) / want).toBeCloseTo(1, 1);
    }
    const {a1, b1, a2, b2} = hadamardHe()(given) as Record<string, tf.Tensor2D>;
    const product = tf.mul(tf.matMul(a1!, b1!), tf.matMul(a2!, b2!));
    oracle(
      'start of hadamardHe',
      'variance of (A1 B1) o (A2 B2) over 2/m, less 1',
      Math.abs((std(product) ** 2 * 200) / 2 - 1),
      0.15,
    );
  });

  test.each([
    ['uniform', hadamardUniform()],
    ['normal', hadamardNormal()],
    ['He', hadamardHe()],
  ])('lowers a loss from the %s start', (_, init) => {
    expect(trained(hadamard({rank: 2, init}))).toBeLessThan(0.9);
  });

  test('a refresh begins again from the weight as it is', () => {
    const weight = tf.variable(matrix([30, 20], 1));
    const optimizer = projected(tf.train.sgd(0.1), hadamard({rank: 2}), {
      targets: () => true,
      refresh: step => step === 3,
      moments: 'reset',
    });
    for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: matrix([30, 20], step)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: tf.zeros([30, 20])});
    expect(values(weight)).toEqual(before);
    expect(Math.max(...values(tf.abs(optimizer.factors(weight)['a2']!)))).toBe(0);
    optimizer.dispose();
    weight.dispose();
  });

  test.each([
    ['uniform', hadamardUniform()],
    ['He', hadamardHe()],
  ])('O5: a run that is saved and loaded goes on as it would have, from the %s start', async (_, init) => {
    const apart = await interrupted(() => hadamard({rank: 2, init}));
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test.each([
    [{rank: 1.5}, /rank must be a whole number of at least 1, not 1.5/],
    [{alpha: 0}, /alpha must be a number other than 0, not 0/],
    [{init: 'normal'}, /init must be a function such as hadamardUniform/],
    [{r: 3}, /unknown option 'r'/],
  ])('refuses %o', (options, message) => {
    expect(() => hadamard(options as never)).toThrow(message);
  });

  test('refuses a start that cannot be, naming it', () => {
    const given = {weight: matrix([6, 5], 1), gradient: denseGradient(matrix([6, 5], 1), [6, 5]), seed: 1};
    const start = (init: () => object) => hadamard({rank: 2, init: init as never}).init(given);
    expect(() => start(() => ({a1: tf.ones([5, 2])}))).toThrow('a1 of shape [5,2] where [6,2] is needed');
    expect(() => start(() => ({a: tf.ones([6, 2])}))).toThrow("returned 'a'; its factors are a1, b1, a2, b2");
    expect(() => start(() => ({}))).toThrow('none of a1, b1, a2, b2');
  });
});
