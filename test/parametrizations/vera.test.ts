import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {projected, vera, veraConstant} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, type Shape, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('vera', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;
const minus = reference.formula('X - Y');
const both = () =>
  vera({rank: 3, init: ({weight, rank}) => ({d: tf.ones([rank]), b: tf.ones([weight.shape[1]])})});
const frames = (shape: Shape, options = {}) =>
  situation(vera({rank: 4, ...options}), shape).fresh.frozen as Record<'frameA' | 'frameB', tf.Tensor>;

describe('vera', () => {
  test.each([1, 3, 20])('equals the float64 reference: rank %i', rank => {
    const worst = worstAgainst(vera({rank}), ({state: {frozen}}) => {
      const {frameA, frameB} = frozen as Record<string, tf.Tensor>;
      return reference.vera(fromTensor(frameA!), fromTensor(frameB!)) as unknown as Reference;
    });
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test('a start away from zero is subtracted', () => {
    const worst = worstAgainst(both(), ({fresh}) => {
      const {frameA, frameB} = fresh.frozen as Record<string, tf.Tensor>;
      const rule = reference.vera(fromTensor(frameA!), fromTensor(frameB!)) as unknown as Reference;
      const start = Object.fromEntries(Object.entries(fresh.factors).map(([k, f]) => [k, fromTensor(f)]));
      return {...rule, delta: factors => minus({X: rule.delta(factors), Y: rule.delta(start)})};
    });
    oracle('reference, start', 'with A diag(d0) B diag(b0) subtracted', worst, ROUNDING);
  });

  test('O3: matrix-free, whatever the number of rows of the input', () => {
    const p = vera({rank: 5});
    const {state} = situation(p, [9, 6]);
    const {frameA, frameB} = state.frozen as Record<string, tf.Tensor>;
    const rule = reference.vera(fromTensor(frameA!), fromTensor(frameB!));
    let worst = 0;
    for (const t of [1, 4, 40]) {
      const [x, delta] = [matrix([t, 9], 7), matrix([t, 6], 8)];
      const dense = () => {
        throw new Error('G was formed');
      };
      const got = calculus.pullback(p, state, {...factoredGradient([{x, delta}], [9, 6]), dense});
      const want = rule.pullback(
        {d: fromTensor(state.factors['d']!), b: fromTensor(state.factors['b']!)},
        fromTensor(tf.matMul(x, delta, true)),
      );
      worst = Math.max(worst, distance(got['d']!, want.d), distance(got['b']!, want.b));
    }
    oracle('O3', 'by A^T G = from G', worst, ROUNDING);
  });

  test('O48: the gradients are those of finite differences, in float64', () => {
    const numbers = reference.generator(3);
    const draw = (m: number, n: number) => reference.randomMatrix([m, n], numbers);
    const rule = reference.vera(draw(5, 3), draw(3, 4));
    const [factors, G] = [{d: draw(1, 3), b: draw(1, 4)}, draw(5, 4)];
    const want = reference.finiteDifferences(f => reference.inner(G, rule.delta(f)), factors);
    const got = rule.pullback(factors, G);
    const worst = Math.max(reference.maxDifference(got.d, want.d), reference.maxDifference(got.b, want.b));
    oracle('O48', 'pullback against finite differences of the reference', worst, 1e-8);
  });

  test('equal sides have equal frames, whatever the weight; a smaller one is the beginning of a larger', () => {
    const [one, other, wide] = [frames([8, 6]), frames([8, 6], {rank: 4}), frames([8, 11])];
    expect(values(other.frameA)).toEqual(values(one.frameA));
    expect(values(wide.frameA)).toEqual(values(one.frameA));
    expect(values(tf.slice(wide.frameB, [0, 0], [4, 6]))).toEqual(values(one.frameB));
    const tall = frames([13, 6]);
    expect(values(tall.frameB)).toEqual(values(one.frameB));
    const rescaled = tf.mul(tf.slice(tall.frameA, [0, 0], [8, 4]), Math.sqrt(13 / 8));
    expect(distance(rescaled, fromTensor(one.frameA))).toBeLessThan(1e-6);
    expect(values(frames([8, 6], {projectionSeed: 1}).frameA)).not.toEqual(values(one.frameA));
    // By two optimizers with seeds of their own.
    const drawn = [3, 4].map(seed => {
      const weight = tf.variable(matrix([8, 6], seed));
      const optimizer = projected(tf.train.sgd(1), vera({rank: 4}), {targets: () => true, seed});
      optimizer.applyGradients({[weight.name]: tf.ones([8, 6])});
      const found = values(optimizer.attached[0]!.frozen['frameA']!);
      optimizer.dispose();
      weight.dispose();
      return found;
    });
    expect(drawn[0]).toEqual(drawn[1]);
  });

  test('the frames have the variance 2/m and 2/r', () => {
    const {frameA, frameB} = frames([300, 200], {rank: 40});
    const variance = (x: tf.Tensor) => values(tf.mean(tf.square(x)))[0]!;
    expect(variance(frameA) * 300).toBeCloseTo(2, 1);
    expect(variance(frameB) * 40).toBeCloseTo(2, 1);
  });

  test('it starts with d = 0.1 and b = 0', () => {
    const {factors} = situation(vera({rank: 3}), [6, 5]).fresh;
    expect(values(factors['d']!)).toEqual(values(tf.fill([3], 0.1)));
    expect(values(factors['b']!)).toEqual([0, 0, 0, 0, 0]);
    const other = situation(vera({rank: 3, init: veraConstant({d: 2})}), [6, 5]).fresh;
    expect(values(other.factors['d']!)).toEqual([2, 2, 2]);
  });

  test('lowers a loss', () => {
    expect(trained(vera({rank: 16}), {rate: 0.2})).toBeLessThan(0.95);
    expect(trained(both())).toBeLessThan(0.999);
  });

  test('O5: a run that is saved and loaded goes on as it would have', async () => {
    const apart = Math.max(
      await interrupted(() => vera({rank: 16})),
      await interrupted(() => vera({rank: 16}), {keepBase: true}),
      await interrupted(both),
    );
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test('what is stored: d, b and both frames, for every weight', async () => {
    const weight = tf.variable(matrix([40, 30], 1));
    const optimizer = projected(tf.train.sgd(1), vera({rank: 8}), {targets: () => true});
    optimizer.applyGradients({[weight.name]: tf.ones([40, 30])});
    const saved = await optimizer.getWeights();
    const sizes = saved.map(({name, tensor}) => [name.split('/').at(-1), tensor.size]);
    for (const entry of [
      ['d', 8],
      ['b', 30],
      ['frameA', 40 * 8],
      ['frameB', 8 * 30],
    ]) {
      expect(sizes).toContainEqual(entry);
    }
    optimizer.dispose();
    weight.dispose();
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{projectionSeed: 0.5}, /projectionSeed must be a whole number, not 0.5/],
    [{init: 0.1}, /init must be a function such as veraConstant/],
    [{dInitial: 0.1}, /unknown option 'dInitial'/],
  ])('refuses %o', (options, message) => {
    expect(() => vera(options as never)).toThrow(message);
  });
});
