import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {loraXS, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, SHAPES, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('lora-xs', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;
const minus = reference.formula('X - Y');

describe('loraXS', () => {
  test.each([
    [1, 1, false],
    [2, 6, false],
    [3, 3, true],
    [40, 40, false],
  ])('equals the float64 reference: rank %i, alpha %i, rs %s', (rank, alpha, rankStabilised) => {
    const scale = rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;
    const worst = worstAgainst(loraXS({rank, alpha, rankStabilised}), ({state: {frozen}}) => {
      const {frameA, frameB} = frozen as Record<string, tf.Tensor>;
      return reference.loraXS(scale, fromTensor(frameA!), fromTensor(frameB!)) as unknown as Reference;
    });
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test('the frames are U_r S_r and V_r^T of the weight', () => {
    let worst = 0;
    for (const shape of SHAPES) {
      for (const rank of [1, 2, 9]) {
        const {weight, fresh} = situation(loraXS({rank}), shape);
        const {frameA, frameB} = fresh.frozen as Record<string, tf.Tensor2D>;
        const {A, B} = reference.leadingFrames(fromTensor(weight), rank);
        // Both frames turn their signs together.
        const product = reference.formula('A * B')({A, B});
        worst = Math.max(worst, distance(tf.matMul(frameA!, frameB!), product));
        const gram = reference.formula("B * B'")({B: fromTensor(frameB!)});
        worst = Math.max(worst, reference.maxDifference(gram, reference.identity(frameB!.shape[0])));
      }
    }
    oracle('frames', 'A B = the best approximation of W0 of rank r, and B B^T = I', worst, ROUNDING);
  });

  test('a start of R away from zero is subtracted', () => {
    const worst = worstAgainst(loraXS({rank: 2, std: 0.5}), ({fresh}) => {
      const {frameA, frameB} = fresh.frozen as Record<string, tf.Tensor>;
      const rule = reference.loraXS(1, fromTensor(frameA!), fromTensor(frameB!)) as unknown as Reference;
      const start = {r: fromTensor(fresh.factors['r']!)};
      return {...rule, delta: factors => minus({X: rule.delta(factors), Y: rule.delta(start)})};
    });
    oracle('reference, start', 'with s A R0 B subtracted', worst, ROUNDING);
    const {fresh} = situation(loraXS({rank: 30, std: 1e-5}), [40, 50]);
    expect(Math.sqrt(values(tf.mean(tf.square(fresh.factors['r']!)))[0]!) * 1e5).toBeCloseTo(1, 1);
  });

  test('O3: matrix-free, whatever the number of rows of the input', () => {
    const p = loraXS({rank: 3});
    const {state} = situation(p, [9, 6]);
    const {frameA, frameB} = state.frozen as Record<string, tf.Tensor>;
    const rule = reference.loraXS(1, fromTensor(frameA!), fromTensor(frameB!));
    const dense = () => {
      throw new Error('G was formed');
    };
    const worst = [1, 4, 40].map(t => {
      const [x, delta] = [matrix([t, 9], 7), matrix([t, 6], 8)];
      const got = calculus.pullback(p, state, {...factoredGradient([{x, delta}], [9, 6]), dense});
      const want = rule.pullback({r: reference.zeros([3, 3])}, fromTensor(tf.matMul(x, delta, true)));
      return distance(got['r']!, want.r);
    });
    oracle('O3', 'by A^T G = from G', Math.max(...worst), ROUNDING);
  });

  test('a step of SGD is s^2 U S^2 U^T G V V^T', () => {
    const weight = tf.variable(matrix([9, 7], 1));
    const before = weight.clone();
    const {A, B} = reference.leadingFrames(fromTensor(before), 2);
    const G = matrix([9, 7], 2);
    const optimizer = projected(tf.train.sgd(0.1), loraXS({rank: 2, alpha: 6}), {targets: () => true});
    optimizer.applyGradients({[weight.name]: G});
    const want = reference.formula("-0.1 * 9 * A * A' * G * B' * B")({A, B, G: fromTensor(G)});
    oracle(
      'H(G)',
      'a step of SGD is -eta s^2 A A^T G B^T B',
      distance(tf.sub(weight, before), want),
      ROUNDING,
    );
    optimizer.dispose();
    weight.dispose();
  });

  test('a refresh takes the singular vectors of the weight as it is', () => {
    const weight = tf.variable(matrix([30, 20], 1));
    const optimizer = projected(tf.train.sgd(0.01), loraXS({rank: 2, std: 1e-5}), {
      targets: () => true,
      refresh: step => step === 3,
      moments: 'reset',
    });
    for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: matrix([30, 20], step)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: tf.zeros([30, 20])});
    expect(values(weight)).toEqual(before);
    const {frameA, frameB} = optimizer.attached[0]!.frozen as Record<string, tf.Tensor2D>;
    const {A, B} = reference.leadingFrames(fromTensor(weight), 2);
    expect(distance(tf.matMul(frameA!, frameB!), reference.formula('A * B')({A, B}))).toBeLessThan(1e-4);
    optimizer.dispose();
    weight.dispose();
  });

  test('lowers a loss', () => {
    expect(trained(loraXS({rank: 6}))).toBeLessThan(0.95);
  });

  test('O5: a run that is saved and loaded goes on as it would have', async () => {
    const apart = Math.max(
      await interrupted(() => loraXS({rank: 3})),
      await interrupted(() => loraXS({rank: 3, std: 1e-5})),
    );
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{std: -1}, /std must be a number of at least 0, not -1/],
    [{iterations: 0.5}, /iterations must be a whole number, not 0.5/],
    [{init: () => ({})}, /unknown option 'init'/],
  ])('refuses %o', (options, message) => {
    expect(() => loraXS(options as never)).toThrow(message);
  });
});
