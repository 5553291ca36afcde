import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeAll, describe, expect, test} from 'vitest';
import {type CapturedHow, denseGradients, tapGradients} from '../../src/capture/tape.js';
import {full, normal, projected} from '../../src/index.js';

/** Losses that differentiate, assign or throw while they run, and what a pass costs. tfjs's own gradients are right. */

type Matrix = tf.Tensor2D;
const matrix = (rows: number, columns: number, seed = 9) => normal([rows, columns], seed) as Matrix;
const squared = (y: tf.Tensor) => tf.mean(tf.square(y)) as tf.Scalar;
const weight = (shape: number[], seed = 5) => tf.variable(normal(shape, seed));

/** The dense gradient and how it came, through taps and through taps that form everything. */
function captured(loss: () => tf.Scalar, weights: tf.Variable[], way = tapGradients) {
  const got = new Map<tf.Variable, {g: Float32Array; how: CapturedHow}>();
  way(loss, weights, (w, gradient, how) => {
    expect(got.has(w)).toBe(false);
    got.set(w, {g: gradient.dense().dataSync<'float32'>().slice(), how});
  }).dispose();
  return weights.map(w => got.get(w)!);
}

function expectRight(loss: () => tf.Scalar, weights: tf.Variable[], path?: RegExp) {
  const values = weights.map(w => w.clone());
  const restore = () => weights.forEach((w, i) => w.assign(values[i]!));
  const {grads, value} = tf.variableGrads(loss, weights);
  const wanted = weights.map(w => grads[w.name]!.dataSync<'float32'>());
  for (const way of [tapGradients, denseGradients]) {
    restore();
    captured(loss, weights, way).forEach(({g, how}, i) => {
      const size = Math.max(...wanted[i]!.map(Math.abs));
      expect(size).toBeGreaterThan(0);
      wanted[i]!.forEach((want, k) => expect(Math.abs(g[k]! - want) / size).toBeLessThan(1e-5));
      if (way === denseGradients) expect(how.path).toBe('dense');
      else if (path) expect(how.path).toMatch(path);
    });
  }
  tf.dispose([grads, value, values]);
}

afterEach(() => tf.disposeVariables());

describe.each(['cpu', 'wasm'])('a loss that does more than compute, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each<[string, number, (w: Matrix) => Matrix]>([
    ['whole', 8, w => w],
    ['transposed', 6, w => tf.transpose(w)],
    ['sliced', 6, w => tf.slice(w, [1, 0], [6, 6])],
    ['split', 8, w => tf.split(w, 2, 1)[1]!],
    ['sliced from the transpose', 4, w => tf.slice(tf.transpose(w), [1, 2], [4, 5])],
    ['reshaped', 6, w => tf.reshape(w, [6, 8])],
  ])('a gradient penalty on a forward pass made outside of it, the weight %s', (_, rows, form) => {
    const w = weight([8, 6]);
    const x = matrix(7, rows);
    expectRight(() => {
      const s = tf.sum(tf.square(tf.tanh(tf.matMul(x, form(w as unknown as Matrix)))));
      return squared(tf.grad(() => s)(x));
    }, [w]);
  });

  test('a gradient penalty on a product with a bias, and on a convolution of a part of a filter', () => {
    const [w, b] = [weight([6, 8]), weight([8], 6)];
    const x = matrix(7, 6);
    expectRight(() => {
      const y = tf.fused.matMul({a: x, b: w as unknown as Matrix, bias: b});
      const s = tf.sum(tf.square(tf.tanh(y)));
      return squared(tf.grad(() => s)(x));
    }, [w, b]);
  });

  test("the engine's clone of a weight is the weight (tfjs itself records it twice outside of a kernel)", () => {
    const w = weight([6, 8]);
    const {clone} = tf.engine() as unknown as {clone(x: tf.Tensor): Matrix};
    const loss = (form: () => tf.Tensor) => () => {
      const s = tf.sum(tf.square(tf.tanh(tf.matMul(matrix(7, 6), form() as Matrix))));
      return squared(tf.grad(() => s)(w));
    };
    const cloned = () => tf.tidy('mine', () => clone.call(tf.engine(), w));
    const squares = (form: () => tf.Tensor) => () => squared(tf.matMul(matrix(7, 6), form() as Matrix));
    expect(captured(squares(cloned), [w])[0]!.g).toEqual(
      captured(
        squares(() => w),
        [w],
      )[0]!.g,
    );
    expectRight(
      loss(() => w),
      [w],
    );
  });

  test('the gradient of a weight itself, taken inside', () => {
    const w = weight([6, 8]);
    expectRight(() => {
      const s = tf.sum(tf.square(tf.tanh(tf.matMul(matrix(7, 6), w as unknown as Matrix)))) as tf.Scalar;
      return squared(tf.variableGrads(() => s, [w]).grads[w.name]!);
    }, [w]);
  });

  test('W assigned: halved after its use, between two uses, by an optimizer of its own', () => {
    const x = matrix(5, 6);
    const w = weight([6, 6]);
    const m = w as unknown as Matrix;
    expectRight(
      () => {
        const loss = squared(tf.matMul(tf.tanh(tf.matMul(x, m)), m, false, true));
        w.assign(tf.mul(w, 0.5));
        return loss;
      },
      [w],
      /factored/,
    );
    expectRight(() => {
      const h = tf.tanh(tf.matMul(x, tf.transpose(m)));
      w.assign(tf.mul(w, 0.5));
      const g = tf.tanh(tf.matMul(h, m));
      w.assign(tf.mul(w, 3));
      return squared(tf.add(tf.matMul(g, m), tf.square(w).sum()));
    }, [w]);
    for (const make of [() => tf.train.sgd(0.1), () => projected(tf.train.sgd(0.1), full())]) {
      expectRight(() => {
        const h = tf.tanh(tf.matMul(x, m));
        make().minimize(() => squared(tf.matMul(x, m)), false, [w]);
        return squared(tf.matMul(h, m));
      }, [w]);
    }
    expect(Object.hasOwn(w, 'assign')).toBe(false);
  });
});
