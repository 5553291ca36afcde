import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {lora, projected, riemannian} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, trained} from '../parametrizations/exercise.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {bent, dependence, hosted, pair} from './precondition.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('riemannian', number, what, residual, tolerance);
const exact = riemannian({regularisation: 0});

describe('riemannian', () => {
  test('equals the float64 reference', () => {
    let worst = 0;
    for (const [m, n, rank, reg] of [
      [9, 6, 3, 0.01],
      [6, 9, 2, 0],
      [1, 7, 1, 0.5],
      [7, 1, 1, 0],
      [3, 2, 5, 0.1],
    ] as const) {
      for (const G of [matrix([m, n], 5), tf.zeros([m, n]) as tf.Tensor2D]) {
        const factors = pair([m, n], rank, 1);
        const got = bent(riemannian({regularisation: reg}), factors, G, 2);
        const want = reference.riemannian(2, reg, hosted(factors), fromTensor(G));
        worst = Math.max(worst, distance(got.a, want.a), distance(got.b, want.b));
      }
    }
    oracle('reference', 'both gradients against float64', worst, 2e-5);
  });

  test('the change of W is s^2 (Pi_A G + G Pi_B), and free of s on demand', () => {
    const [factors, G] = [pair([9, 6], 2, 1), matrix([9, 6], 5)];
    const {a, b} = hosted(factors);
    const project = reference.formula('P * G + G * Q');
    const want = project({P: projectorOn(a), Q: projectorOn(reference.transpose(b)), G: fromTensor(G)});
    const moved = (by: typeof exact) => {
      const got = bent(by, factors, G, 3);
      return tf.mul(tf.add(tf.matMul(got.a, factors.b), tf.matMul(factors.a, got.b)), 3);
    };
    const residual = distance(tf.div(moved(exact), 9), want);
    oracle('tangent', 's dA B + s A dB = s^2 (Pi_A G + G Pi_B)', residual, 1e-5);
    const free = riemannian({regularisation: 0, divideByScale: true});
    oracle('tangent, s', 'with divideByScale without the s^2', distance(moved(free), want), 1e-5);
  });

  test('O44: the path of W does not depend on how A B is split; that of plain SGD does', () => {
    oracle('O44', 'SGD from (A T, T^-1 B) = from (A, B)', dependence(exact), 2e-4);
    expect(dependence(undefined)).toBeGreaterThan(0.1);
    expect(dependence(riemannian({regularisation: 1}))).toBeGreaterThan(0.01);
  });

  test('from B = 0 nothing is divided by zero, and A waits one step', () => {
    for (const regularisation of [0, 1e-2]) {
      const weight = tf.variable(matrix([12, 10], 1));
      const optimizer = projected(
        tf.train.sgd(0.01),
        lora({rank: 2, precondition: riemannian({regularisation})}),
        {targets: () => true},
      );
      optimizer.applyGradients({[weight.name]: matrix([12, 10], 2)});
      const a = values(optimizer.factors(weight)['a']!);
      optimizer.applyGradients({[weight.name]: matrix([12, 10], 3)});
      expect(values(optimizer.factors(weight)['a']!)).not.toEqual(a);
      expect(values(weight).every(Number.isFinite)).toBe(true);
      optimizer.dispose();
    }
  });

  test.each(['cpu', 'wasm'])('trains, and an interrupted run goes on the same, on %s', async backend => {
    await tf.setBackend(backend);
    const make = () => lora({rank: 3, precondition: riemannian()});
    expect(trained(make())).toBeLessThan(0.9);
    oracle('O5', '5 steps + save + load + 3 = 8 steps', await interrupted(make), 0);
    await tf.setBackend('cpu');
  });

  test('refuses what it cannot use', () => {
    expect(() => riemannian({regularisation: -1})).toThrow(/regularisation must be a number of at least 0/);
    expect(() => riemannian({reg: 1} as never)).toThrow(/unknown option 'reg'/);
    expect(() => lora({precondition: 'riemannian' as never})).toThrow(/precondition must be a function/);
  });
});

const projectorOn = (a: reference.Matrix) => reference.columnProjector(a);
