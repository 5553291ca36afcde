import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {
  denseGradient,
  full,
  gaussian,
  type Initializer,
  kaiming,
  kroneckerUniform,
  orthogonal,
  symmetric,
  veraConstant,
} from '../../src/index.js';

const start = (init: Initializer, m: number, n: number, rank: number, seed = 3) => {
  const weight = tf.zeros([m, n]) as tf.Tensor2D;
  return init({weight, gradient: denseGradient(weight, [m, n]), rank, seed});
};
const moments = (tensor: tf.Tensor) => {
  const {mean, variance} = tf.moments(tensor);
  return {mean: mean.dataSync()[0]!, std: Math.sqrt(variance.dataSync()[0]!)};
};

describe.each(['cpu', 'wasm'])('starts on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test('kaiming: a is uniform in 1/sqrt(m), b is left at zero', () => {
    const {a, b} = start(kaiming(), 400, 10, 50);
    expect(b).toBeUndefined();
    expect(Math.max(...a!.dataSync().map(Math.abs))).toBeLessThanOrEqual(1 / 20);
    // Variance of U(-c, c) is c^2/3; the standard error of 20,000 numbers is below 1 %.
    expect(moments(a!).std).toBeCloseTo(1 / 20 / Math.sqrt(3), 3);
    expect(moments(a!).mean).toBeCloseTo(0, 2);
  });

  test('gaussian: std 1/rank unless told otherwise', () => {
    expect(moments(start(gaussian(), 500, 10, 40).a!).std).toBeCloseTo(1 / 40, 3);
    expect(moments(start(gaussian({std: 2}), 500, 10, 40).a!).std).toBeCloseTo(2, 1);
  });

  test('symmetric: columns of a and rows of b have length 1 in the mean', () => {
    const {a, b} = start(symmetric(), 300, 200, 64);
    expect(tf.sum(tf.square(a!)).dataSync()[0]! / 64).toBeCloseTo(1, 1);
    expect(tf.sum(tf.square(b!)).dataSync()[0]! / 64).toBeCloseTo(1, 1);
  });

  test.each([
    [30, 4],
    [4, 30],
    [7, 7],
    [1, 5],
  ])('orthogonal: the short side of a [%i, %i] is orthonormal', (m, rank) => {
    const a = start(orthogonal(), m, 8, rank).a as tf.Tensor2D;
    const gram = m >= rank ? tf.matMul(a, a, true) : tf.matMul(a, a, false, true);
    expect(tf.max(tf.abs(tf.sub(gram, tf.eye(Math.min(m, rank))))).dataSync()[0]!).toBeLessThan(1e-6);
  });

  test('every start follows from its seed, 0 included, and is the same on every backend', async () => {
    for (const init of [kaiming(), gaussian(), symmetric(), orthogonal({both: true})]) {
      const [first, again, other] = [
        start(init, 8, 6, 3, 0),
        start(init, 8, 6, 3, 0),
        start(init, 8, 6, 3, 1),
      ];
      expect(again.a!.dataSync()).toEqual(first.a!.dataSync());
      expect(other.a!.dataSync()).not.toEqual(first.a!.dataSync());
      await tf.setBackend(backend === 'cpu' ? 'wasm' : 'cpu');
      expect(start(init, 8, 6, 3, 0).a!.dataSync()).toEqual(first.a!.dataSync());
      await tf.setBackend(backend);
    }
  });
});

test.each([
  [gaussian, {sdt: 1}, "gaussian: unknown option 'sdt'; it takes 'std'"],
  [gaussian, {std: NaN}, 'gaussian: std must be a number above 0, not NaN'],
  [gaussian, {std: '1'}, "gaussian: std must be a number above 0, not '1'"],
  [symmetric, {sdt: 1}, "symmetric: unknown option 'sdt'; it takes 'std'"],
  [symmetric, {std: 0}, 'symmetric: std must be a number above 0, not 0'],
  [orthogonal, {bothh: true}, "orthogonal: unknown option 'bothh'; it takes 'gain', 'both'"],
  [orthogonal, {both: 1}, 'orthogonal: both must be true or false, not 1'],
  [orthogonal, {gain: 0}, 'orthogonal: gain must be a number other than 0, not 0'],
  [veraConstant, {dd: 1}, "veraConstant: unknown option 'dd'; it takes 'd'"],
  [veraConstant, {d: 0}, 'veraConstant: d must be a number other than 0, not 0'],
  [kroneckerUniform, {zeros: 'c'}, "kroneckerUniform: unknown option 'zeros'; it takes 'zero'"],
  [kroneckerUniform, {zero: 'e'}, "kroneckerUniform: zero must be 'c' or 'd', not 'e'"],
  [full, {rank: 8}, "full: unknown option 'rank'; it takes none"],
] as [(options: never) => unknown, object, string][])('%o refuses %o', (make, options, message) => {
  expect(() => make(options as never)).toThrow(message);
});
