import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {denseGradient, type Gradient, kronecker, kroneckerUniform, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {
  distance,
  interrupted,
  matrix,
  type Shape,
  SHAPES,
  situation,
  trained,
  worstAgainst,
} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('kronecker', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;

const begun = (options: object, shape: Shape) => situation(kronecker(options), shape).fresh.factors;
const shapes = (factors: Readonly<Record<string, tf.Tensor>>) =>
  Object.fromEntries(Object.entries(factors).map(([key, factor]) => [key, factor.shape]));

describe('kronecker', () => {
  test.each([
    [1, 1, undefined],
    [2, 6, undefined],
    [1, 3, 2],
    [2, 2, 1],
    [30, 3, 3],
  ])('equals the float64 reference: rank %i, alpha %i, factor %s', (rank, alpha, factor) => {
    const p = kronecker({rank, alpha, ...(factor && {factor})});
    const rule = (low: boolean) =>
      (low ? reference.lowKronecker : reference.kronecker)(alpha / rank) as unknown as Reference;
    const worst = worstAgainst(p, ({state}) => rule('d1' in state.factors), [...SHAPES, [24, 36], [35, 16]]);
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test.each([
    [12, undefined, 3],
    [13, undefined, 1],
    [16, undefined, 4],
    [1024, undefined, 32],
    [768, undefined, 24],
    [12, 2, 2],
    [12, 6, 2],
    [12, 5, 3],
    [13, 5, 1],
    [128, 16, 8],
    [100, 8, 5],
    [1, undefined, 1],
    [6, 6, 2],
  ])('a side of %i with the factor %s has a first block of %i', (size, factor, block) => {
    const {c} = begun({rank: 1000, ...(factor && {factor})}, [size, size]);
    expect(c!.shape).toEqual([block, block]);
  });

  test('D is a product where that saves numbers, and only there', () => {
    expect(shapes(begun({rank: 2}, [36, 64]))).toEqual({c: [6, 8], d1: [6, 2], d2: [2, 8]});
    expect(shapes(begun({rank: 3}, [36, 36]))).toEqual({c: [6, 6], d: [6, 6]});
    // By PEFT's rule, r < max(m2, n2) / 2, D of 64 x 4 would be split at r = 8 into 544 numbers, of 256.
    expect(shapes(begun({rank: 8, factor: 1}, [64, 4]))).toEqual({c: [1, 1], d: [64, 4]});
    for (const shape of [
      [36, 64],
      [36, 36],
      [64, 4],
    ] as const) {
      const numbers = Object.values(begun({rank: 2}, shape)).reduce((sum, {size}) => sum + size, 0);
      expect(kronecker({rank: 2}).trained!(shape)).toBe(numbers);
    }
  });

  test('O3: by products of the operator as from the dense gradient, and the choice goes by the shape', () => {
    let worst = 0;
    for (const [m, n, options, isThin] of [
      [36, 48, {rank: 1, factor: 2}, true],
      [40, 24, {rank: 1, factor: 2}, true],
      [36, 48, {rank: 2}, false],
      [36, 48, {rank: 50}, false],
    ] as const) {
      const p = kronecker({...options, alpha: 2 * options.rank});
      const {state} = situation(p, [m, n]);
      for (const t of [1, 5, 60]) {
        const [x, delta] = [matrix([t, m], 7), matrix([t, n], 8)];
        const factored = factoredGradient([{x, delta}], [m, n]);
        let formed = 0;
        const watched: Gradient = {...factored, dense: () => (formed++, factored.dense())};
        const got = calculus.pullback(p, state, watched);
        expect(formed).toBe(isThin ? 0 : 1);
        const rule = ('d' in state.factors
          ? reference.kronecker(2)
          : reference.lowKronecker(2)) as unknown as Reference;
        const factors = Object.fromEntries(Object.entries(state.factors).map(([k, f]) => [k, fromTensor(f)]));
        const want = rule.pullback(factors, fromTensor(tf.matMul(x, delta, true)));
        for (const [key, value] of Object.entries(want)) worst = Math.max(worst, distance(got[key]!, value));
      }
    }
    oracle('O3', 'by G Q and P^T G = from G', worst, ROUNDING);
  });

  test('O48: the rank of the change is the product of the ranks', () => {
    const p = kronecker({rank: 2});
    const {state} = situation(p, [16, 36]);
    const of = (x: tf.Tensor) => reference.rank(fromTensor(x), 1e-5);
    const {c, d1, d2} = state.factors;
    expect([of(c!), of(tf.matMul(d1 as tf.Tensor2D, d2 as tf.Tensor2D))]).toEqual([4, 2]);
    oracle('O48', 'rank(W - W0) = rank(C) rank(D)', Math.abs(of(calculus.phi(p, state)) - 8), 0);
  });

  test('O48: the gradients are those of finite differences, in float64', () => {
    const rule = reference.lowKronecker(1.5);
    const numbers = reference.generator(3);
    const draw = (m: number, n: number) => reference.randomMatrix([m, n], numbers);
    const factors = {c: draw(2, 3), d1: draw(4, 2), d2: draw(2, 3)};
    const G = draw(8, 9);
    const want = reference.finiteDifferences(f => reference.inner(G, rule.delta(f)), factors);
    const got = rule.pullback(factors, G);
    const worst = Math.max(
      ...Object.keys(want).map(k => reference.maxDifference(got[k as 'c'], want[k as 'c'])),
    );
    oracle('O48, gradients', 'pullback against finite differences of the reference', worst, 1e-8);
  });

  test('with the blocks of W as rows it is LoRA of rank 1', () => {
    // R(kron(C, D)) = vec(C) vec(D)^T, so a step of SGD from C = 0 moves R(W) along R(G) d d^T.
    const [m, n] = [12, 12];
    const blocks = (x: tf.Tensor) =>
      tf.reshape(tf.transpose(tf.reshape(x, [3, 4, 3, 4]), [0, 2, 1, 3]), [9, 16]) as tf.Tensor2D;
    const weight = tf.variable(matrix([m, n], 1));
    const before = weight.clone();
    const G = matrix([m, n], 2);
    const optimizer = projected(tf.train.sgd(0.5), kronecker(), {targets: () => true});
    optimizer.applyGradients({[weight.name]: G});
    const d = tf.reshape(optimizer.factors(weight)['d']!, [16, 1]) as tf.Tensor2D;
    const want = tf.mul(tf.matMul(tf.matMul(blocks(G), d), d, false, true), -0.5);
    oracle(
      'R(G)',
      'first step: R(W) moves along -eta R(G) d d^T',
      distance(blocks(tf.sub(weight, before)), fromTensor(want)),
      1e-5,
    );
    optimizer.dispose();
    weight.dispose();
  });

  test('the starts are what they say', () => {
    for (const [zero, at] of [
      ['c', 'c'],
      ['d', 'd1'],
    ] as const) {
      const factors = begun({rank: 2, init: kroneckerUniform({zero})}, [36, 64]);
      for (const [key, factor] of Object.entries(factors)) {
        const largest = Math.max(...values(tf.abs(factor))) * Math.sqrt(factor.shape[0]!);
        if (key === at) expect(largest).toBe(0);
        else expect(largest).toBeGreaterThan(0.5);
        expect(largest).toBeLessThanOrEqual(1);
      }
    }
    expect(Math.max(...values(tf.abs(begun({init: kroneckerUniform({zero: 'd'})}, [36, 36])['d']!)))).toBe(0);
  });

  test.each([[{}], [{rank: 1, init: kroneckerUniform({zero: 'd'})}], [{rank: 1, factor: 2}]])(
    'lowers a loss: %o',
    options => {
      expect(trained(kronecker(options))).toBeLessThan(0.95);
    },
  );

  test('a refresh begins again from the weight as it is', () => {
    const weight = tf.variable(matrix([30, 20], 1));
    const optimizer = projected(tf.train.sgd(0.1), kronecker(), {
      targets: () => true,
      refresh: step => step === 3,
      moments: 'reset',
    });
    for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: matrix([30, 20], step)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: tf.zeros([30, 20])});
    expect(values(weight)).toEqual(before);
    expect(Math.max(...values(tf.abs(optimizer.factors(weight)['c']!)))).toBe(0);
    optimizer.dispose();
    weight.dispose();
  });

  test('O5: a run that is saved and loaded goes on as it would have, also from a start away from zero', async () => {
    const ones = kronecker({
      rank: 1,
      init: ({shapes}) =>
        Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, tf.ones([...shape])])),
    });
    const apart = Math.max(await interrupted(() => kronecker()), await interrupted(() => ones));
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{factor: 0}, /factor must be a whole number of at least 1, not 0/],
    [{init: 'lycoris'}, /init must be a function such as kroneckerUniform/],
    [{decomposeFactor: 3}, /unknown option 'decomposeFactor'/],
  ])('refuses %o', (options, message) => {
    expect(() => kronecker(options as never)).toThrow(message);
  });

  test('refuses a start that cannot be', () => {
    const given = {weight: matrix([6, 6], 1), gradient: denseGradient(matrix([6, 6], 1), [6, 6]), seed: 1};
    expect(() => kronecker({init: () => ({c: tf.ones([3, 3])})}).init(given)).toThrow('[3,3] where [2,2] is');
    expect(() => kronecker({init: () => ({d1: tf.ones([3, 3])})}).init(given)).toThrow("returned 'd1'");
  });
});
