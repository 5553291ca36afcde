import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {lora, loraAdam, loraPro, projected, riemannian, symmetric} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, toTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, trained} from '../parametrizations/exercise.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {bent, dependence, hosted, type Pair, pair, path} from './precondition.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('lora-pro', number, what, residual, tolerance);
const cases = [
  [9, 6, 3],
  [6, 9, 2],
  [1, 7, 1],
  [7, 1, 1],
  [2, 17, 2],
] as const;
const moved = ({a, b}: Pair, d: Pair, s: number) =>
  tf.mul(tf.add(tf.matMul(d.a, b), tf.matMul(a, d.b)), s) as tf.Tensor2D;
const size = (...tensors: tf.Tensor[]) => Math.hypot(...tensors.map(t => tf.norm(t).dataSync()[0]!));

describe('loraPro', () => {
  test('equals the float64 reference, which solves the Sylvester equation another way', () => {
    let worst = 0;
    for (const [m, n, rank] of cases) {
      for (const G of [matrix([m, n], 5), tf.zeros([m, n]) as tf.Tensor2D]) {
        const factors = pair([m, n], rank, 1);
        const got = bent(loraPro(), factors, G, 2);
        const want = reference.loraPro(2, hosted(factors), fromTensor(G));
        // dB may be nothing but rounding: where B spans all rows.
        const scale = Math.max(...[want.a, want.b].map(reference.frobenius), 1e-30);
        for (const key of ['a', 'b'] as const)
          worst = Math.max(worst, reference.maxDifference(fromTensor(got[key]), want[key]) / scale);
      }
    }
    oracle('reference', 'both directions against float64', worst, 1e-4);
  });

  test('O43: W moves by the orthogonal projection of G on the tangent space, in either gauge', () => {
    let [worst, orthogonality, gauges] = [0, 0, 0];
    for (const [m, n, rank] of [...cases, [5, 4, 9] as const]) {
      const [factors, G] = [pair([m, n], rank, 1), matrix([m, n], 5)];
      const [minimal, zero] = [loraPro(), loraPro({gauge: 'zero'})].map(p =>
        moved(factors, bent(p, factors, G, 3), 3),
      ) as [tf.Tensor2D, tf.Tensor2D];
      if (rank <= Math.min(m, n)) {
        const want = reference.tangentProjection(hosted(factors), fromTensor(G));
        worst = Math.max(worst, distance(minimal, want));
      }
      // The normal equations of the least-squares problem.
      const rest = tf.sub(G, minimal) as tf.Tensor2D;
      const normal = [tf.matMul(factors.a, rest, true), tf.matMul(rest, factors.b, false, true)];
      orthogonality = Math.max(orthogonality, size(...normal) / (size(G) * size(factors.a, factors.b)));
      gauges = Math.max(gauges, size(tf.sub(minimal, zero)) / size(G));
    }
    oracle('O43', 's dA B + s A dB = Pi_A G + G Pi_B - Pi_A G Pi_B', worst, 5e-5);
    oracle('O43, least squares', 'what is left of G is orthogonal to the tangent space', orthogonality, 2e-5);
    oracle('O43, gauge', 'X does not change how W moves', gauges, 5e-5);
    // Riemannian counts what both sides reach twice.
    const [factors, G] = [pair([9, 6], 3, 1), matrix([9, 6], 5)];
    const twice = bent(riemannian({regularisation: 0, divideByScale: true}), factors, G, 3);
    const want = reference.tangentProjection(hosted(factors), fromTensor(G));
    expect(distance(moved(factors, twice, 3), want)).toBeGreaterThan(0.1);
  });

  test('the gauge is the shortest, and also the one nearest to the plain gradients', () => {
    const [factors, G] = [pair([9, 6], 3, 1), matrix([9, 6], 5)];
    const d = bent(loraPro(), factors, G, 2);
    const plain = {
      a: tf.mul(tf.matMul(G, factors.b, false, true), 2),
      b: tf.mul(tf.matMul(factors.a, G, true), 2),
    };
    const far = ({a, b}: Pair) => size(tf.sub(a, plain.a), tf.sub(b, plain.b));
    const zero = bent(loraPro({gauge: 'zero'}), factors, G, 2);
    expect(size(d.a, d.b)).toBeLessThan(0.99 * size(zero.a, zero.b));
    for (let seed = 0; seed < 20; seed++) {
      const x = tf.mul(matrix([3, 3], seed), 0.1) as tf.Tensor2D;
      const other = {
        a: tf.add(d.a, tf.matMul(factors.a, x)) as tf.Tensor2D,
        b: tf.sub(d.b, tf.matMul(x, factors.b)) as tf.Tensor2D,
      };
      expect(size(other.a, other.b)).toBeGreaterThan(size(d.a, d.b));
      expect(far(other)).toBeGreaterThan(far(d));
    }
  });

  test('O44: W moves the same however A B is split: exactly with X = 0, to first order with the shortest', () => {
    oracle(
      'O44',
      "SGD from (A T, T^-1 B) = from (A, B), gauge 'zero'",
      dependence(loraPro({gauge: 'zero'})),
      2e-4,
    );
    expect(dependence(undefined)).toBeGreaterThan(0.1);
    const [whole, half] = [0.2, 0.1].map(eta => dependence(loraPro(), {eta, steps: 1}));
    oracle(
      'O44, minimal',
      'half the rate, half the dependence (beside 1/2)',
      Math.abs(half! / whole! - 0.5),
      0.05,
    );
  });

  test('from B = 0 the first step is -eta Pi_A G; A B = 0 needs no rule of its own', () => {
    const weight = tf.variable(matrix([12, 10], 1));
    const before = weight.clone();
    const G = matrix([12, 10], 2);
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 3, alpha: 12, precondition: loraPro()}), {
      targets: () => true,
    });
    optimizer.applyGradients({[weight.name]: G});
    const P = reference.columnProjector(fromTensor(optimizer.factors(weight)['a']!));
    const want = reference.formula('-eta * P * G')({eta: 0.1, P, G: fromTensor(G)});
    oracle('B = 0', 'the first step moves W by -eta Pi_A G', distance(tf.sub(weight, before), want), 1e-5);
    for (let step = 0; step < 5; step++) optimizer.applyGradients({[weight.name]: matrix([12, 10], step)});
    expect(values(weight).every(Number.isFinite)).toBe(true);
    const dead = bent(loraPro(), {a: tf.zeros([4, 2]), b: tf.zeros([2, 3])}, matrix([4, 3], 1), 1);
    expect([...values(dead.a), ...values(dead.b)].every(x => x === 0)).toBe(true);
    optimizer.dispose();
  });

  test('at full rank it is full SGD, to first order', () => {
    const eta = 1e-3;
    const moves = path(loraPro(), null, {shape: [3, 5], rank: 3, eta, steps: 1});
    const full = values(tf.mul(matrix([3, 5], 50), -eta));
    oracle('full rank', 'at r = m a step of SGD is -eta G + O(eta^2)', relativeError(moves, full), 5e-3);
  });

  test.each(['cpu', 'wasm'])('trains, and an interrupted run goes on the same, on %s', async backend => {
    await tf.setBackend(backend);
    for (const make of [
      () => lora({rank: 3, precondition: loraPro()}),
      () => lora({rank: 3, init: symmetric(), precondition: loraPro({gauge: 'zero'})}),
    ]) {
      expect(trained(make())).toBeLessThan(0.9);
      oracle('O5', '5 steps + save + load + 3 = 8 steps', await interrupted(make), 0);
    }
    await tf.setBackend('cpu');
  });

  test('loraAdam takes it; the moments are of the factors alone, 2 r (m + n) numbers', () => {
    const weight = tf.variable(matrix([12, 10], 1));
    const optimizer = loraAdam(0.01, {rank: 2, precondition: loraPro(), targets: () => true});
    optimizer.applyGradients({[weight.name]: matrix([12, 10], 2)});
    const numbers = 3 * 2 * (12 + 10);
    expect(optimizer.stateBytes).toBeGreaterThanOrEqual(4 * numbers);
    expect(optimizer.stateBytes).toBeLessThan(4 * (numbers + 10));
    optimizer.dispose();
  });

  test('refuses what it cannot use', () => {
    expect(() => loraPro({gauge: 'even' as never})).toThrow(/gauge must be 'minimal' or 'zero', not 'even'/);
    expect(() => loraPro({x: 0} as never)).toThrow(/unknown option 'x'/);
  });
});

test('a gradient in the tangent space is reproduced', () => {
  const factors = pair([9, 6], 2, 1);
  const G = toTensor(reference.tangent(1, hosted(factors), hosted(pair([9, 6], 2, 7)))) as tf.Tensor2D;
  oracle(
    'projector',
    'Pi Pi G = Pi G',
    size(tf.sub(moved(factors, bent(loraPro(), factors, G, 1), 1), G)) / size(G),
    2e-5,
  );
});
