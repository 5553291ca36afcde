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
    ['split', 8, w => tf.split(w, 2, 1)[1] as Matrix],
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

interface Watch {
  stop(): {peak: {tensors: number; buffers: number}};
}

describe.each(['cpu', 'wasm'])('what a pass holds, on %s', backend => {
  const bench = '../../bench/engine.mjs';
  let watchEngine: () => Watch;
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
    ({watchEngine} = (await import(bench)) as {watchEngine: () => Watch});
  });

  const D = 64;
  const chain = (weights: tf.Variable[], form: (w: Matrix) => Matrix) => (): tf.Scalar =>
    squared(
      weights.reduce<Matrix>(
        (h, w) => tf.tanh(tf.matMul(h, form(w as unknown as Matrix)) as Matrix),
        matrix(4, D),
      ),
    );
  const peak = (run: () => void) => {
    run();
    const watch = watchEngine();
    run();
    return watch.stop().peak.buffers;
  };
  const through = (way: typeof tapGradients, loss: () => tf.Scalar, weights: tf.Variable[]) => () =>
    way(loss, weights, (_, gradient) => void gradient.leftMul(matrix(D, 2))).dispose();
  const byTfjs = (loss: () => tf.Scalar, weights: tf.Variable[]) => () => {
    const {value, grads} = tf.variableGrads(loss, weights);
    tf.dispose([value, grads]);
  };
  const penalised = (weights: tf.Variable[]) => () =>
    weights
      .map(w => tf.tidy(() => tf.sum(tf.mul(0.1, tf.square(w)))))
      .reduce((sum, penalty) => tf.add(sum, penalty), chain(weights, w => w)()) as tf.Scalar;
  const regrouped = (w: Matrix): Matrix => tf.reshape(tf.reshape(w, [2 * D, D / 2]), [D, D]);

  // Bytes that one more weight adds, in weights: what tfjs keeps of the forward pass, and at most one gradient at a time.
  test.each<
    [string, typeof tapGradients, (weights: tf.Variable[]) => () => tf.Scalar, most: number, tfjs: number]
  >([
    ['dense', denseGradients, weights => chain(weights, w => w), 0.3, 1],
    ['taps, reshaped', tapGradients, weights => chain(weights, regrouped), backend === 'wasm' ? 2.3 : 0.3, 1],
    [
      'dense, reshaped',
      denseGradients,
      weights => chain(weights, regrouped),
      backend === 'wasm' ? 2.3 : 0.3,
      1,
    ],
    ['taps, l2', tapGradients, penalised, 3.3, 6],
    ['dense, l2', denseGradients, penalised, 3.3, 6],
  ])('%s: gradients come one by one', (_, way, lossOf, most, tfjs) => {
    const bytes = (count: number, run: (loss: () => tf.Scalar, weights: tf.Variable[]) => () => void) => {
      const weights = Array.from({length: count}, (_, i) => weight([D, D], i));
      return peak(run(lossOf(weights), weights)) / (4 * D * D);
    };
    const slope = (run: (loss: () => tf.Scalar, weights: tf.Variable[]) => () => void) =>
      (bytes(7, run) - bytes(3, run)) / 4;
    expect(slope((loss, weights) => through(way, loss, weights))).toBeLessThan(most);
    expect(slope(byTfjs)).toBeGreaterThan(tfjs);
  });

  test.each([1, 16])('a weight used %i times costs no more than training it as it is', count => {
    const [w, xs] = [weight([64, 64]), Array.from({length: count}, (_, i) => matrix(2000, 64, i))];
    const loss = () => squared(tf.addN(xs.map(from => tf.matMul(from, w as unknown as Matrix))));
    const run = () =>
      tapGradients(loss, [w], (_, gradient) => {
        gradient.leftMul(matrix(64, 2));
        gradient.rightMul(matrix(64, 2));
        gradient.norm2();
      }).dispose();
    expect(peak(run)).toBeLessThan(1.25 * peak(byTfjs(loss, [w])));
  });

  test('many large uses: products a few at a time are those of the whole', () => {
    const w = weight([16, 12]);
    const xs = Array.from({length: 24}, (_, i) => matrix(1000, 16, i));
    expectRight(
      () => squared(tf.addN(xs.map((from, i) => tf.sin(tf.mul(i, tf.matMul(from, w as unknown as Matrix)))))),
      [w],
      /factored/,
    );
  });

  test('nothing is left behind by an error: in the loss, in the walk, in the hand-over, in a pass within a pass', () => {
    const weights = [weight([6, 6], 1), weight([6, 6], 2)];
    const [a, b] = weights as unknown as [Matrix, Matrix];
    const from = matrix(5, 6);
    const loss = () => squared(tf.matMul(tf.tanh(tf.matMul(from, a)), tf.transpose(b)));
    const oops = () => {
      throw new Error('oops');
    };
    const {state} = tf.engine() as unknown as {state: {activeTape: unknown; gradientDepth: number}};
    const cases: Record<string, () => unknown> = {
      loss: () =>
        tapGradients(
          () => (loss(), oops()),
          weights,
          () => {},
        ),
      walk: () =>
        tapGradients(
          () => tf.sum(tf.topk(tf.matMul(from, a)).values),
          weights,
          () => {},
        ),
      handOver: () => tapGradients(loss, weights, oops),
      dense: () => denseGradients(loss, weights, oops),
      within: () =>
        tapGradients(
          () => tf.add(loss(), tapGradients(loss, weights, oops)),
          weights,
          () => {},
        ),
      disconnected: () =>
        tapGradients(
          () => squared(from),
          weights,
          () => {},
        ),
    };
    for (const [name, run] of Object.entries(cases)) {
      const before = tf.memory();
      expect(run, name).toThrow();
      expect(tf.memory().numTensors, name).toBe(before.numTensors);
      expect(tf.memory().numDataBuffers, name).toBe(before.numDataBuffers);
      expect(state.activeTape, name).toBe(null);
      expect(state.gradientDepth, name).toBe(0);
    }
    expectRight(loss, weights, /factored/);
  });

  test('deltas that a gradient function hands on, shares, or owns are not disposed too early', () => {
    const [u, v] = [weight([5, 6], 1), weight([5, 6], 2)];
    const mine = tf.ones([5, 6]);
    const both = tf.customGrad((...args) => {
      const [a, b] = args as unknown as tf.Tensor[];
      return {value: tf.add(a!, b!), gradFunc: (dy: tf.Tensor) => [dy, dy]};
    });
    const constant = tf.customGrad((...args) => ({
      value: tf.mul(args[0] as unknown as tf.Tensor, 1),
      gradFunc: () => mine,
    }));
    expectRight(() => squared(tf.sin(constant(tf.sin(both(tf.sin(u), tf.sin(v)))))), [u, v]);
    expect(mine.isDisposed).toBe(false);
    mine.dispose();
  });
});
