import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {denseGradient, dora, type DoraOptions, loraGA, pissa, projected, symmetric} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, SHAPES, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('dora', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;
const plus = reference.formula('X + Y');
const minus = reference.formula('X - Y');

/** The reference on a base, with the whole weight for its `delta`. */
const rule = (scale: number, base: reference.Matrix, options = {}): Reference => {
  const found = reference.dora(scale, base, options) as unknown as Reference;
  return {...found, delta: factors => plus({X: found.delta(factors), Y: base})};
};

const named = (tensors: Readonly<Record<string, tf.Tensor>>) =>
  Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [key, fromTensor(tensor)]));

describe('dora', () => {
  test.each([
    [1, 1, false],
    [2, 6, false],
    [3, 3, true],
    [12, 6, false],
  ])('equals the float64 reference: rank %i, alpha %i, rs %s', (rank, alpha, rankStabilised) => {
    const scale = rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;
    const worst = worstAgainst(dora({rank, alpha, rankStabilised}), ({weight}) =>
      rule(scale, fromTensor(weight)),
    );
    oracle('reference', 'weight, pullback and its change against float64', worst, ROUNDING);
  });

  test('a start away from zero is subtracted from V', () => {
    const worst = worstAgainst(dora({rank: 2, init: symmetric()}), ({weight, fresh}) => {
      const {a, b} = fresh.factors as Record<string, tf.Tensor2D>;
      return rule(1, minus({X: fromTensor(weight), Y: fromTensor(tf.matMul(a!, b!))}));
    });
    oracle('reference, start', 'with V = W0 - s A0 B0 + s A B', worst, ROUNDING);
  });

  test('at the start W is W0 bit for bit, and magnitude the lengths of its columns', () => {
    for (const shape of SHAPES) {
      const p = dora({rank: 2});
      const {weight, fresh} = situation(p, shape);
      const state = {factors: fresh.factors, frozen: {}, base: weight};
      expect(values(calculus.phi(p, state))).toEqual(values(weight));
      const lengths = reference.columnLengths(fromTensor(weight));
      expect(distance(fresh.factors['magnitude']!, lengths)).toBeLessThan(1e-6);
    }
  });

  test('O48: the columns of W are as long as magnitude says, also after training', () => {
    const weight = tf.variable(matrix([12, 10], 1));
    const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), dora({rank: 2}), {
      targets: () => true,
    });
    for (let step = 0; step < 10; step++) optimizer.applyGradients({[weight.name]: matrix([12, 10], step)});
    const magnitude = tf.abs(optimizer.factors(weight)['magnitude']!);
    const residual = distance(magnitude, reference.columnLengths(fromTensor(weight)));
    oracle('O48', '||W||_col = |magnitude|', residual, ROUNDING);
    optimizer.dispose();
    weight.dispose();
  });

  test("the weight is PEFT's merged output, in its own orientation", () => {
    const p = dora({rank: 3, alpha: 6});
    const {weight, state} = situation(p, [9, 7]);
    const {a, b, magnitude} = state.factors as Record<string, tf.Tensor2D>;
    // weight [out, in], lora_A [r, in], lora_B [out, r]; the norm is taken along dim 1.
    const [loraA, loraB, W] = [tf.transpose(a!), tf.transpose(b!), tf.transpose(weight)];
    const directed = tf.add(W, tf.mul(tf.matMul(loraB, loraA), 6 / 3));
    const norm = tf.sqrt(tf.sum(tf.square(directed), 1));
    const merged = tf.mul(tf.expandDims(tf.div(magnitude!, norm), 1), directed);
    const residual = distance(tf.transpose(calculus.phi(p, state)), fromTensor(merged));
    oracle('PEFT, merged', "W = PEFT's merged weight", residual, ROUNDING);
  });

  test("norm: 'constant' gives PEFT's gradients, and the pullback stays the adjoint", () => {
    let [worst, apart] = [0, Infinity];
    for (const shape of SHAPES.filter(([m]) => m > 1)) {
      const [constant, differentiated] = [dora({rank: 2, norm: 'constant'}), dora({rank: 2})];
      const {weight, state, gradient} = situation(constant, shape);
      const operator = denseGradient(gradient, shape);
      const grads = calculus.pullback(constant, state, operator);
      const bent = constant.precondition!(state as never, grads as never, operator) as Record<
        string,
        tf.Tensor
      >;
      const want = rule(1, fromTensor(weight), {constant: true}).pullback(
        named(state.factors),
        fromTensor(gradient),
      );
      for (const [key, value] of Object.entries(want)) worst = Math.max(worst, distance(bent[key]!, value));
      const own = calculus.pullback(differentiated, state, operator);
      for (const key of Object.keys(own)) expect(values(grads[key]!)).toEqual(values(own[key]!));
      apart = Math.min(apart, distance(bent['b']!, fromTensor(own['b']!)));
    }
    oracle(
      'PEFT, gradient',
      "norm: 'constant' gives the gradients with the lengths held fixed",
      worst,
      ROUNDING,
    );
    expect(apart).toBeGreaterThan(0.01);
    expect(dora({rank: 2}).precondition).toBeUndefined();
  });

  test("to autograd, PEFT's gradient is the one with the norm as a constant", () => {
    const p = dora({rank: 2, norm: 'constant'});
    const {weight, state, gradient} = situation(p, [9, 6]);
    const {a, b, magnitude} = state.factors as Record<string, tf.Tensor2D>;
    const norm = toTensor(reference.columnLengths(fromTensor(tf.add(weight, tf.matMul(a!, b!)))));
    const merged = (a: tf.Tensor, b: tf.Tensor) =>
      tf.mul(tf.add(weight, tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D)), tf.div(magnitude!, norm));
    const [ga, gb] = tf.grads((a: tf.Tensor, b: tf.Tensor) => merged(a, b))([a!, b!], gradient);
    const operator = denseGradient(gradient, [9, 6]);
    const bent = p.precondition!(state as never, calculus.pullback(p, state, operator) as never, operator);
    expect(Math.max(distance(bent.a, fromTensor(ga!)), distance(bent.b, fromTensor(gb!)))).toBeLessThan(
      ROUNDING,
    );
  });

  test('O48: the gradients are those of finite differences, in float64', () => {
    const numbers = reference.generator(3);
    const draw = (m: number, n: number) => reference.randomMatrix([m, n], numbers);
    const exact = reference.dora(1.5, draw(5, 4));
    const factors = {a: draw(5, 2), b: draw(2, 4), magnitude: draw(1, 4)};
    const G = draw(5, 4);
    const want = reference.finiteDifferences(f => reference.inner(G, exact.delta(f)), factors);
    const got = exact.pullback(factors, G);
    const worst = Math.max(
      ...(['a', 'b', 'magnitude'] as const).map(k => reference.maxDifference(got[k], want[k])),
    );
    oracle('O48, gradients', 'pullback against finite differences of the reference', worst, 1e-8);
  });

  test('the gradient of V has no part along V: the length is magnitude alone', () => {
    const p = dora({rank: 9, init: () => ({a: tf.eye(9)})});
    const {weight, state, gradient} = situation(p, [9, 6]);
    // With A = I the gradient of B is that of V.
    const at = {...state, factors: {...state.factors, a: tf.eye(9)}};
    const ofV = calculus.pullback(p, at, denseGradient(gradient, [9, 6]))['b']!;
    const v = tf.add(weight, state.factors['b']!);
    const residual = Math.max(...values(tf.abs(tf.sum(tf.mul(ofV, v), 0))));
    oracle('radial', 'diag(V^T G_V) = 0', residual, 1e-4);
  });

  test('a column of zeros stays finite and learns', () => {
    const start = tf.mul(matrix([8, 8], 1), tf.tensor1d([1, 1, 0, 1, 1, 1, 1, 1]));
    for (const norm of ['differentiated', 'constant'] as const) {
      const weight = tf.variable(start);
      const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), dora({rank: 1, norm}), {
        targets: () => true,
      });
      const target = matrix([8, 8], 2);
      const column = () => values(tf.slice(tf.sub(target, weight), [0, 2], [8, 1]));
      const before = Math.hypot(...column());
      const loss = () => tf.sum(tf.squaredDifference(weight, target)) as tf.Scalar;
      for (let step = 0; step < 60; step++) optimizer.minimize(loss);
      expect(values(weight).every(Number.isFinite)).toBe(true);
      expect(Math.hypot(...column())).toBeLessThan(before);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test.each([{rank: 1}, {rank: 1, norm: 'constant'}, {rank: 2, init: symmetric()}] as DoraOptions[])(
    'lowers a loss: %o',
    options => {
      expect(trained(dora(options))).toBeLessThan(0.9);
    },
  );

  test("takes any of lora's starts: from the weight, and from the sum of several gradients", () => {
    expect(trained(dora({rank: 2, init: pissa()}))).toBeLessThan(0.9);
    expect(trained(dora({rank: 2, init: loraGA({steps: 3})}))).toBeLessThan(0.9);
    const weight = tf.variable(matrix([12, 10], 1));
    const start = values(weight);
    const optimizer = projected(tf.train.sgd(0.1), dora({rank: 2, init: loraGA({steps: 3})}), {
      targets: () => true,
    });
    for (let step = 0; step < 3; step++) {
      expect(values(weight)).toEqual(start);
      optimizer.applyGradients({[weight.name]: matrix([12, 10], step)});
    }
    expect(values(weight)).not.toEqual(start);
    optimizer.dispose();
    weight.dispose();
  });

  test('a refresh begins again from the weight as it is', () => {
    const weight = tf.variable(matrix([30, 20], 1));
    const optimizer = projected(tf.train.sgd(0.1), dora({rank: 2}), {
      targets: () => true,
      refresh: step => step === 3,
      moments: 'reset',
    });
    for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: matrix([30, 20], step)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: tf.zeros([30, 20])});
    expect(values(weight)).toEqual(before);
    expect(Math.max(...values(tf.abs(optimizer.factors(weight)['b']!)))).toBe(0);
    optimizer.dispose();
    weight.dispose();
  });

  test('O5: a run that is saved and loaded goes on as it would have', async () => {
    const apart = Math.max(
      await interrupted(() => dora({rank: 2})),
      await interrupted(() => dora({rank: 2, norm: 'constant', init: symmetric()})),
    );
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{norm: 'detached'}, /norm must be 'differentiated' or 'constant', not 'detached'/],
    [{init: 'gaussian'}, /init must be a function such as kaiming/],
    [{useDora: true}, /unknown option 'useDora'/],
  ])('refuses %o', (options, message) => {
    expect(() => dora(options as never)).toThrow(message);
  });
});
