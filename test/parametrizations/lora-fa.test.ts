import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {every, loraFA, type LoraFAOptions, orthogonal, projected, symmetric} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, values} from '../helpers.js';
import {distance, interrupted, matrix, SHAPES, situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('lora-fa', number, what, residual, tolerance);
const ROUNDING = 1e-5;
const step = reference.formula('-eta * P * G');

/** How a step of SGD moves W, and the A it went by. */
function moved(options: LoraFAOptions, G: tf.Tensor2D, eta = 0.1) {
  const {trained: _, ...p} = loraFA(options);
  const weight = tf.variable(matrix(G.shape, 9));
  const before = weight.clone();
  const optimizer = projected(tf.train.sgd(eta), p, {targets: () => true});
  optimizer.applyGradients({[weight.name]: G});
  const a = optimizer.attached[0]!.frozen['a']!.clone();
  const change = tf.sub(weight, before);
  optimizer.dispose();
  return {a: a as tf.Tensor2D, change};
}

describe('loraFA', () => {
  test.each([
    [1, 1],
    [2, 6],
    [3, 3],
    [12, 2],
  ])('equals the float64 reference: rank %i, alpha %i', (rank, alpha) => {
    const worst = worstAgainst(loraFA({rank, alpha}), ({fresh}) => {
      return reference.loraFA(alpha / rank, fromTensor(fresh.frozen!['a']!)) as never;
    });
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test('the preconditioner is s^-2 (A^T A)^-1, made once', () => {
    let worst = 0;
    for (const shape of SHAPES.filter(([m]) => m >= 2)) {
      const p = loraFA({rank: 2, alpha: 6});
      const {state, gradient} = situation(p, shape);
      const {inverse, a} = state.frozen as Record<string, tf.Tensor2D>;
      expect(inverse!.shape).toEqual([2, 2]);
      const g = tf.matMul(a!, gradient, true) as tf.Tensor2D;
      const got = p.precondition!(state as never, {b: g}, null as never);
      worst = Math.max(
        worst,
        distance(got.b, reference.loraFAPreconditioned(3, fromTensor(a!), fromTensor(g))),
      );
    }
    oracle('reference, precondition', 's^-2 (A^T A)^-1 g against float64', worst, ROUNDING);
  });

  test('O45: a step of SGD moves W by -eta Pi_A G, whatever alpha and the size of A', () => {
    let worst = 0;
    for (const [shape, options] of [
      [[9, 6], {rank: 3}],
      [[9, 6], {rank: 3, alpha: 12}],
      [[9, 6], {rank: 3, alpha: 0.5, rankStabilised: true}],
      [[20, 4], {rank: 5, init: orthogonal({gain: 30})}],
      [[6, 1], {rank: 2}],
    ] as const) {
      const G = matrix(shape, 4);
      const {a, change} = moved(options, G);
      const want = step({eta: 0.1, P: reference.columnProjector(fromTensor(a)), G: fromTensor(G)});
      worst = Math.max(worst, distance(change, want));
    }
    oracle('O45', 's A dB = -eta Pi_A G', worst, ROUNDING);
    // Without it the step goes by A A^T, which is no projector.
    const G = matrix([9, 6], 4);
    const {a, change} = moved({rank: 3, precondition: false}, G);
    const want = step({eta: 0.1, P: reference.columnProjector(fromTensor(a)), G: fromTensor(G)});
    expect(distance(change, want)).toBeGreaterThan(0.1);
  });

  test('a rank of m or more is full SGD, also where A^T A is singular', () => {
    for (const [m, n, rank] of [
      [4, 6, 4],
      [4, 6, 7],
      [1, 5, 3],
    ] as const) {
      const G = matrix([m, n], 4);
      const {change} = moved({rank}, G);
      oracle('full rank', 'at r >= m a step of SGD is -eta G', distance(change, scaled(G, -0.1)), 2e-5);
    }
  });

  test('epsilon shortens the step along directions in which A is short', () => {
    const G = matrix([9, 6], 4);
    const [plain, damped] = [moved({rank: 3}, G), moved({rank: 3, epsilon: 1}, G)];
    const size = (t: tf.Tensor) => tf.norm(t).dataSync()[0]!;
    expect(size(damped.change)).toBeLessThan(0.6 * size(plain.change));
    expect(size(damped.change)).toBeGreaterThan(0);
  });

  test('A never moves, until a refresh takes another, and W goes on from where it was', () => {
    const weight = tf.variable(matrix([12, 10], 1));
    const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), loraFA({rank: 2}), {
      targets: () => true,
      refresh: every(3),
      moments: 'reset',
    });
    const seen: number[][] = [];
    for (let i = 0; i < 4; i++) {
      optimizer.applyGradients({[weight.name]: matrix([12, 10], 20 + i)});
      seen.push(values(optimizer.attached[0]!.frozen['a']!));
    }
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
    expect(relativeError(seen[3]!, seen[0]!)).toBeGreaterThan(0.1);
    const {a, inverse} = optimizer.attached[0]!.frozen as Record<string, tf.Variable>;
    const unit = tf.matMul(inverse as tf.Tensor2D, tf.matMul(a as tf.Tensor2D, a as tf.Tensor2D, true));
    expect(relativeError(values(unit), values(tf.eye(2)))).toBeLessThan(1e-5);
    optimizer.dispose();
  });

  test.each(['cpu', 'wasm'])(
    'a loss falls, and an interrupted run goes on as if it had not been, on %s',
    async backend => {
      await tf.setBackend(backend);
      for (const options of [
        {rank: 3},
        {rank: 3, precondition: false, alpha: 12},
        {rank: 2, init: orthogonal()},
      ]) {
        expect(trained(loraFA(options))).toBeLessThan(0.9);
        oracle('O5', '5 steps + save + load + 3 = 8 steps', await interrupted(() => loraFA(options)), 0);
      }
      await tf.setBackend('cpu');
    },
  );

  test.each([
    [{rank: 0}, /loraFA: rank must be a whole number of at least 1, not 0/],
    [{epsilon: -1}, /loraFA: epsilon must be a number of at least 0, not -1/],
    [{init: 'kaiming'}, /loraFA: init must be a function/],
    [{a: 1}, /unknown option 'a'/],
  ])('refuses %o', (options, message) => {
    expect(() => loraFA(options as never)).toThrow(message);
  });

  test('refuses a start that is not A alone', () => {
    const G = matrix([12, 10], 1);
    expect(() => moved({rank: 2, init: symmetric()}, G)).toThrow(/returned a and b; a is frozen/);
    expect(() => moved({rank: 2, init: () => ({})}, G)).toThrow(/returned nothing/);
    expect(() => moved({rank: 2, init: () => ({a: tf.ones([3, 2])})}, G)).toThrow(/\[3,2\] where \[12,2\]/);
  });
});

const scaled = (G: tf.Tensor, by: number) => fromTensor(tf.mul(G, by));
