import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {denseGradient, mica, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, type Shape, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('mica', number, what, residual, tolerance);
const ROUNDING = 1e-5;

type Reference = reference.Parametrization<reference.Factors>;
const gram = reference.formula("B' * B");

describe('mica', () => {
  test.each([
    [
      1,
      1,
      false,
      [
        [9, 6],
        [1, 7],
        [7, 1],
      ],
    ],
    [
      2,
      6,
      false,
      [
        [9, 6],
        [6, 9],
        [2, 17],
      ],
    ],
    [
      5,
      5,
      true,
      [
        [9, 6],
        [5, 5],
      ],
    ],
  ] as [number, number, boolean, Shape[]][])(
    'equals the float64 reference: rank %i, alpha %i, rs %s',
    (rank, alpha, rankStabilised, shapes) => {
      const scale = rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;
      const worst = worstAgainst(
        mica({rank, alpha, rankStabilised}),
        ({state}) => reference.mica(scale, fromTensor(state.frozen['frameB']!)) as unknown as Reference,
        shapes,
      );
      oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
    },
  );

  test('the frame spans the last right singular vectors of the weight', () => {
    let worst = 0;
    for (const [shape, rank] of [
      [[9, 6], 2],
      [[6, 9], 2],
      [[12, 12], 5],
      [[2, 17], 1],
    ] as const) {
      const {weight, fresh} = situation(mica({rank}), shape);
      const wanted = gram({B: reference.trailingFrame(fromTensor(weight), rank)});
      const found = gram({B: fromTensor(fresh.frozen!['frameB']!)});
      worst = Math.max(worst, reference.maxDifference(found, wanted));
    }
    oracle('frame', 'B^T B = the projector onto the last right singular vectors', worst, ROUNDING);
  });

  test('a step of SGD is -eta s^2 G Pi_B: nothing goes where W0 is large', () => {
    const weight = tf.variable(matrix([9, 7], 1));
    const before = weight.clone();
    const G = matrix([9, 7], 2);
    const optimizer = projected(tf.train.sgd(0.1), mica({rank: 3, alpha: 6}), {targets: () => true});
    optimizer.applyGradients({[weight.name]: G});
    const moved = tf.sub(weight, before);
    const B = reference.trailingFrame(fromTensor(before), 3);
    const want = reference.formula("-0.1 * 4 * G * B' * B")({G: fromTensor(G), B});
    oracle('H(G)', 'a step of SGD is -eta s^2 G Pi_B', distance(moved, want), ROUNDING);
    const {B: leading} = reference.leadingFrames(fromTensor(before), 4);
    const seen = reference.formula("D * B'")({D: fromTensor(moved), B: leading});
    oracle(
      'minor',
      'what moves is orthogonal to the first n - r right vectors of W0',
      reference.maxDifference(seen, reference.zeros([9, 4])),
      ROUNDING,
    );
    optimizer.dispose();
    weight.dispose();
  });

  test('O27: moments go along when the frame is chosen anew', () => {
    const p = mica({rank: 2});
    const [one, other] = [situation(p, [9, 6], 1), situation(p, [9, 6], 50)];
    const {right} = p.transport!(one.state as never, other.state as never).a;
    const moment = matrix([9, 2], 9);
    const [before, after] = [one, other].map(({state}) => state.frozen['frameB'] as tf.Tensor2D);
    const want = tf.matMul(tf.matMul(moment, before!), after!, false, true);
    oracle('O27', 'm B_old B_new^T', distance(tf.matMul(moment, right!), fromTensor(want)), ROUNDING);
  });

  test('a refresh takes the singular vectors of the weight as it is', () => {
    const weight = tf.variable(matrix([20, 12], 1));
    const optimizer = projected(tf.train.sgd(0.05), mica({rank: 2}), {
      targets: () => true,
      refresh: step => step === 3,
      moments: 'transport',
    });
    for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: matrix([20, 12], step)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: tf.zeros([20, 12])});
    expect(values(weight)).toEqual(before);
    const found = gram({B: fromTensor(optimizer.attached[0]!.frozen['frameB']!)});
    const wanted = gram({B: reference.trailingFrame(fromTensor(weight), 2)});
    expect(reference.maxDifference(found, wanted)).toBeLessThan(1e-4);
    optimizer.dispose();
    weight.dispose();
  });

  test('lowers a loss', () => {
    expect(trained(mica({rank: 4}))).toBeLessThan(0.95);
  });

  test('O5: a run that is saved and loaded goes on as it would have', async () => {
    oracle('O5', '8 steps = 5 + save + load + 3', await interrupted(() => mica({rank: 3})), 0);
  });

  test('refuses a rank above the singular vectors there are, naming the weight and the fix', () => {
    const given = {weight: matrix([5, 9], 1), gradient: denseGradient(matrix([5, 9], 1), [5, 9]), seed: 1};
    expect(() => mica({rank: 6}).init(given)).toThrow(
      'rank 6 is above the 5 singular vectors of a weight [5, 9]',
    );
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{alpha: 0}, /alpha must be a number other than 0, not 0/],
    [{init: () => ({})}, /unknown option 'init'/],
  ])('refuses %o', (options, message) => {
    expect(() => mica(options as never)).toThrow(message);
  });
});
