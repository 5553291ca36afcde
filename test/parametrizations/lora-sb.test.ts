import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {every, loraSB, type LoraSBOptions, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, values} from '../helpers.js';
import {distance, interrupted, matrix, type Shape, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('lora-sb', number, what, residual, tolerance);
const size = (t: tf.Tensor) => tf.norm(t).dataSync()[0]!;
const gradients = (shape: Shape, count: number) =>
  Array.from({length: count}, (_, i) => matrix(shape, 70 + i));

/** Runs along given gradients; the change of W and the frames afterwards. */
function run(p: LoraSBOptions, gs: readonly tf.Tensor2D[], inner: tf.Optimizer = tf.train.sgd(0.1)) {
  const {trained: _, ...always} = loraSB(p);
  const shape = gs[0]!.shape;
  const weight = tf.variable(matrix(shape, 1), true, `sb-${shape}`);
  const optimizer = projected(inner, always, {targets: () => true});
  for (const G of gs) optimizer.applyGradients({[weight.name]: G});
  const {u, v} = optimizer.attached[0]!.frozen as Record<string, tf.Tensor2D>;
  const result = {
    change: tf.sub(weight, matrix(shape, 1)) as tf.Tensor2D,
    u: u!.clone() as tf.Tensor2D,
    v: v!.clone() as tf.Tensor2D,
    r: optimizer.factors(weight)['r']!.clone(),
  };
  optimizer.dispose();
  weight.dispose();
  return result;
}

const onFrames = ({u, v}: {u: tf.Tensor2D; v: tf.Tensor2D}, G: tf.Tensor) =>
  tf.matMul(u, tf.matMul(tf.matMul(tf.matMul(u, G as tf.Tensor2D, true), v), v, false, true)) as tf.Tensor2D;
/** ||Pi_U G Pi_V||^2 over the sum of the r largest squared singular values. */
const captured = (frames: {u: tf.Tensor2D; v: tf.Tensor2D}, G: tf.Tensor) => {
  const s = reference.singularValues(fromTensor(G)).slice(0, frames.u.shape[1]);
  return size(onFrames(frames, G)) ** 2 / s.reduce((sum, x) => sum + x * x, 0);
};

describe('loraSB', () => {
  test.each([
    [1, 1],
    [2, 6],
    [5, 5],
    [16, 4],
  ])('equals the float64 reference: rank %i, alpha %i', (rank, alpha) => {
    for (const target of ['gradient', 'sign'] as const) {
      const worst = worstAgainst(loraSB({rank, alpha, target}), ({fresh}) => {
        const {u, v} = fresh.frozen!;
        return reference.loraSB(alpha / rank, fromTensor(u!), fromTensor(v!)) as never;
      });
      oracle('reference', 'delta, pullback and lift against float64', worst, 2e-5);
    }
  });

  test('rankStabilised: s = alpha/sqrt(r), in what is added and what is pulled back', () => {
    const [rank, alpha] = [4, 6];
    const worst = worstAgainst(loraSB({rank, alpha, rankStabilised: true}), ({fresh}) => {
      const {u, v} = fresh.frozen!;
      const s = reference.rankStabilisedScale(alpha, rank);
      return reference.loraSB(s, fromTensor(u!), fromTensor(v!)) as never;
    });
    oracle('reference, rankStabilised', 's = alpha/sqrt(r), against float64', worst, 2e-5);
  });

  test('the first step of SGD is -eta times the best approximation of rank r of the gradient', () => {
    for (const shape of [
      [14, 9],
      [9, 14],
      [1, 6],
      [20, 20],
    ] as const) {
      const [G] = gradients(shape, 1);
      const {change, ...frames} = run({rank: 3}, [G!]);
      const want = fromTensor(tf.mul(onFrames(frames, G!), -0.1));
      oracle('first step', 'W moves by -eta Pi_U G Pi_V', distance(change, want), 1e-5);
      oracle(
        'best of rank r',
        '||Pi_U G Pi_V||^2 = the r largest sigma^2 of G',
        1 - captured(frames, G!),
        1e-3,
      );
      expect(frames.u.shape).toEqual([shape[0], Math.min(3, ...shape)]);
    }
  });

  test('at full rank every step of SGD is that of SGD on the whole weight', () => {
    const gs = gradients([6, 8], 4);
    const {change} = run({rank: 6}, gs);
    const u = tf.mul(tf.addN(gs), -0.1);
    // Pi_V is no identity for n > r: only G of the frames' own span is kept.
    const square = run({rank: 6}, gradients([6, 6], 4)).change;
    oracle(
      'full rank',
      'W - W0 = -eta sum of G',
      distance(square, fromTensor(tf.mul(tf.addN(gradients([6, 6], 4)), -0.1))),
      1e-5,
    );
    expect(distance(change, fromTensor(u))).toBeGreaterThan(0.05);
  });

  test('steps: the frames are those of the sum of the gradients, and nothing moves until all are seen', () => {
    const shape = [40, 30] as const;
    const strong = tf.mul(tf.matMul(matrix([40, 2], 5), matrix([2, 30], 6)), 2) as tf.Tensor2D;
    const gs = gradients(shape, 4).map(noise => tf.add(strong, noise) as tf.Tensor2D);
    const sum = tf.addN(gs);
    const {change, ...frames} = run({rank: 2, steps: 4}, gs);
    oracle(
      'sketch',
      'the frames of a sketch capture what the best of rank r do',
      1 - captured(frames, sum),
      0.02,
    );
    const last = fromTensor(tf.mul(onFrames(frames, gs[3]!), -0.1));
    oracle('observe', 'only the last of the gradients seen moves W', distance(change, last), 2e-5);
  });

  test("target 'sign': the frames are those of the signs of the sum", () => {
    const gs = gradients([12, 8], 3);
    const {change: _, ...frames} = run({rank: 2, steps: 3, target: 'sign'}, gs);
    oracle(
      'sign',
      'the r largest sigma^2 of sign(sum G) are captured',
      1 - captured(frames, tf.sign(tf.addN(gs))),
      1e-4,
    );
    expect(captured(frames, tf.addN(gs))).toBeLessThan(0.999);
  });

  test('where R starts makes no difference to the path, so it starts at zero', () => {
    const gs = gradients([14, 9], 6);
    const path = (from: number) => {
      const p = loraSB({rank: 3});
      const start: typeof p.init = given => {
        const fresh = p.init(given);
        const r = tf.mul(matrix([3, 3], 4), from);
        return {factors: {r}, frozen: {...fresh.frozen, start: r}};
      };
      const weight = tf.variable(matrix([14, 9], 1), true, 'path');
      const shifted = {
        ...p,
        init: start,
        delta: (s: never) => {
          const {factors, frozen} = s as {factors: {r: tf.Tensor}; frozen: Record<string, tf.Tensor>};
          return p.delta({factors: {r: tf.sub(factors.r, frozen['start']!)}, frozen});
        },
      };
      const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), shifted as typeof p, {
        targets: () => true,
      });
      for (const G of gs) optimizer.applyGradients({path: G});
      const result = values(tf.sub(weight, matrix([14, 9], 1)));
      optimizer.dispose();
      weight.dispose();
      return result;
    };
    oracle(
      'start of R',
      'W0 + U (R - R0) V^T from any R0 = from 0, under Adam',
      relativeError(path(2), path(0)),
      1e-4,
    );
  });

  test('a refresh takes new frames and carries momentum over (the map itself is held to the law of transport)', () => {
    const weight = tf.variable(matrix([12, 12], 1));
    const optimizer = projected(tf.train.momentum(0.1, 0.9), loraSB({rank: 11}), {
      targets: () => true,
      refresh: every(2),
      moments: 'transport',
    });
    for (const G of gradients([12, 12], 5)) optimizer.applyGradients({[weight.name]: G});
    expect(values(weight).every(Number.isFinite)).toBe(true);
    optimizer.dispose();
  });

  test.each(['cpu', 'wasm'])('trains, and an interrupted run goes on the same, on %s', async backend => {
    await tf.setBackend(backend);
    for (const options of [{rank: 4}, {rank: 4, steps: 3}, {rank: 4, steps: 7, target: 'sign'}] as const) {
      expect(trained(loraSB(options))).toBeLessThan(0.95);
      oracle('O5', '5 calls + save + load + 3 = 8 calls', await interrupted(() => loraSB(options)), 0);
    }
    await tf.setBackend('cpu');
  });

  test.each([
    [{rank: 0}, /loraSB: rank/],
    [{steps: 0}, /loraSB: steps must be a whole number of at least 1, not 0/],
    [{target: 'signs'}, /target must be 'gradient' or 'sign', not 'signs'/],
    [{frames: 1}, /unknown option 'frames'/],
  ])('refuses %o', (options, message) => {
    expect(() => loraSB(options as never)).toThrow(message);
  });
});
