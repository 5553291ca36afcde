import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {
  every,
  type Initializer,
  kaiming,
  lora,
  loraGA,
  osf,
  type Parametrization,
  pissa,
  projected,
  symmetric,
} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, values} from '../helpers.js';
import {interrupted, matrix, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('osf', number, what, residual, tolerance);
const minus = reference.formula('X - Y');
const size = (t: tf.Tensor) => tf.norm(t).dataSync()[0]!;
const SHAPE = [14, 10] as const;
const adam = () => tf.train.adam(0.05, 0.9, 0.999, 1e-7);

/** W after some steps along the same gradients, and the frames of W0 that it had. */
function run(inner: tf.Optimizer, p: Parametrization, steps = 20) {
  const weight = tf.variable(matrix(SHAPE, 1), true, 'osf');
  const optimizer = projected(inner, p, {targets: () => true});
  for (let step = 0; step < steps; step++) optimizer.applyGradients({osf: matrix(SHAPE, 30 + step)});
  const {u, v} = optimizer.attached[0]!.frozen as Record<string, tf.Tensor2D | undefined>;
  const result = {
    change: tf.sub(weight, matrix(SHAPE, 1)) as tf.Tensor2D,
    after: weight.clone() as tf.Tensor2D,
    u: u?.clone() as tf.Tensor2D,
    v: v?.clone() as tf.Tensor2D,
  };
  optimizer.dispose();
  weight.dispose();
  return result;
}

/** How much of a change lies in the protected directions. */
const leak = (change: tf.Tensor2D, u: tf.Tensor2D, v: tf.Tensor2D) =>
  Math.max(size(tf.matMul(u, change, true)), size(tf.matMul(change, v))) / size(change);

describe('osf', () => {
  test.each([
    [1, 1, 1],
    [2, 6, 2],
    [3, 3, 16],
    [12, 2, 3],
  ])('equals the float64 reference: rank %i, alpha %i, protect %i', (rank, alpha, protect) => {
    for (const init of [undefined, symmetric()]) {
      const worst = worstAgainst(osf({rank, alpha, protect, ...(init && {init})}), ({fresh, weight}) => {
        const {u, v} = fresh.frozen!;
        const [m, n] = weight.shape;
        const rule = reference.osf(
          alpha / rank,
          u ? fromTensor(u) : reference.zeros([m, 1]),
          v ? fromTensor(v) : reference.zeros([n, 1]),
        );
        if (!init) return rule as never;
        const {a, b} = fresh.factors as Record<string, tf.Tensor>;
        const start = rule.delta({a: fromTensor(a!), b: fromTensor(b!)});
        return {...rule, delta: (f: reference.LoraFactors) => minus({X: rule.delta(f), Y: start})} as never;
      });
      oracle('reference', 'delta, pullback and lift against float64', worst, 2e-5);
    }
  });

  test('the frames are the first singular vectors of W0', () => {
    const {u, v} = run(adam(), osf({rank: 2, protect: 4}), 1);
    expect([u.shape, v.shape]).toEqual([
      [14, 4],
      [10, 4],
    ]);
    const core = tf.matMul(tf.matMul(u, matrix(SHAPE, 1), true), v);
    const diagonal = reference.singularValues(fromTensor(matrix(SHAPE, 1))).slice(0, 4);
    const want = tf.diag(tf.tensor1d(diagonal));
    oracle(
      'frames',
      'U^T W0 V = diag of the k largest singular values',
      relativeError(values(core), values(want)),
      1e-5,
    );
  });

  test('whatever Adam does, the k largest singular triples of W0 are singular triples of W', () => {
    const {change, after, u, v} = run(adam(), osf({rank: 3, protect: 4}));
    expect(size(change)).toBeGreaterThan(0.1);
    oracle(
      'protected',
      'U^T (W - W0) = 0 and (W - W0) V = 0 after 20 steps of Adam',
      leak(change, u, v),
      1e-5,
    );
    const s = reference.singularValues(fromTensor(matrix(SHAPE, 1))).slice(0, 4);
    const now = reference.singularValues(fromTensor(after));
    const far = Math.max(...s.map(x => Math.min(...now.map(y => Math.abs(x - y))) / x));
    oracle('protected, values', 'the k largest singular values of W0 are singular values of W', far, 1e-5);
  });

  test('projecting the gradients of the factors, as published, is the same under SGD and leaks under Adam', () => {
    const ours = osf({rank: 3, protect: 4, init: inside});
    const published = (u: tf.Tensor2D, v: tf.Tensor2D) =>
      lora({
        rank: 3,
        init: inside,
        precondition: (_, {a, b}) => ({
          a: tf.sub(a, tf.matMul(u, tf.matMul(u, a as tf.Tensor2D, true))),
          b: tf.sub(b, tf.matMul(tf.matMul(b as tf.Tensor2D, v), v, false, true)),
        }),
      });
    const {change, u, v} = run(tf.train.sgd(0.01), ours);
    const theirs = run(tf.train.sgd(0.01), published(u, v));
    const same = relativeError(values(theirs.change), values(change));
    oracle('SGD', 'projected factor gradients = projected factors, from a start outside', same, 1e-4);

    expect(leak(run(adam(), published(u, v)).change, u, v)).toBeGreaterThan(0.05);
    oracle('Adam', 'ours stays outside', leak(run(adam(), ours).change, u, v), 1e-5);
  });

  test('a refresh takes the frames of the W there is', () => {
    const weight = tf.variable(matrix(SHAPE, 1));
    const optimizer = projected(adam(), osf({rank: 2, protect: 3}), {
      targets: () => true,
      refresh: every(4),
      moments: 'reset',
    });
    let middle: tf.Tensor2D | undefined;
    for (let step = 0; step < 7; step++) {
      if (step === 4) middle = weight.clone() as tf.Tensor2D;
      optimizer.applyGradients({[weight.name]: matrix(SHAPE, 30 + step)});
    }
    const {u, v} = optimizer.attached[0]!.frozen as Record<string, tf.Tensor2D>;
    const since = tf.sub(weight, middle!) as tf.Tensor2D;
    oracle('refresh', 'what moved since is outside the new frames', leak(since, u!, v!), 1e-5);
    const core = tf.matMul(tf.matMul(u!, middle!, true), v!);
    const s = reference.singularValues(fromTensor(middle!)).slice(0, 3);
    expect(relativeError(values(core), values(tf.diag(tf.tensor1d(s))))).toBeLessThan(1e-5);
    optimizer.dispose();
  });

  test.each(['cpu', 'wasm'])('trains, and an interrupted run goes on the same, on %s', async backend => {
    await tf.setBackend(backend);
    const make = () => osf({rank: 3, protect: 2});
    expect(trained(make())).toBeLessThan(0.9);
    oracle('O5', '5 steps + save + load + 3 = 8 steps', await interrupted(make), 0);
    await tf.setBackend('cpu');
  });

  test.each([
    [{protect: 0}, /osf: protect must be a whole number of at least 1, not 0/],
    [{rank: -1}, /osf: rank/],
    [{init: 3}, /osf: init must be a function/],
    [{k: 3}, /unknown option 'k'/],
  ])('refuses %o', (options, message) => {
    expect(() => osf(options as never)).toThrow(message);
  });
});

/** A start outside the 4 largest directions of W0. */
function inside({weight, rank}: {weight: tf.Tensor2D; rank: number}) {
  const u = leftVectors(weight, 4);
  const a = matrix([weight.shape[0], rank], 8);
  return {a: tf.sub(a, tf.matMul(u, tf.matMul(u, a, true)))};
}

/** By many rounds of W W^T, without the library's own decomposition. */
function leftVectors(weight: tf.Tensor2D, k: number): tf.Tensor2D {
  let q = matrix([weight.shape[0], weight.shape[0]], 5);
  for (let i = 0; i < 200; i++) q = gramSchmidt(tf.matMul(weight, tf.matMul(weight, q, true)));
  return tf.slice(q, [0, 0], [-1, k]);
}

function gramSchmidt(x: tf.Tensor2D): tf.Tensor2D {
  const columns = tf.unstack(x, 1) as tf.Tensor1D[];
  const done: tf.Tensor1D[] = [];
  for (const column of columns.slice(0, 8)) {
    let v = column;
    for (let pass = 0; pass < 2; pass++) for (const w of done) v = tf.sub(v, tf.mul(w, tf.sum(tf.mul(v, w))));
    done.push(tf.div(v, tf.norm(v)));
  }
  return tf.stack(done, 1) as tf.Tensor2D;
}

describe('a start of lora', () => {
  const start = (init: Initializer) => {
    const weight = tf.variable(matrix([12, 9], 1));
    const optimizer = projected(tf.train.sgd(0.1), osf({rank: 2, alpha: 8, protect: 4, init}), {
      targets: () => true,
    });
    return {
      weight,
      optimizer,
      step: (seed: number) => optimizer.applyGradients({[weight.name]: matrix([12, 9], seed)}),
    };
  };

  test('is given s, and sees as many gradients as it asks for', () => {
    let s: number | undefined;
    const plain = kaiming();
    start(given => {
      s = given.scale;
      return plain(given);
    }).step(2);
    expect(s).toBe(4);
    const {optimizer, step} = start(loraGA({steps: 3}));
    [2, 3].forEach(step);
    expect(optimizer.iterations).toBe(0);
    step(4);
    expect(optimizer.iterations).toBe(1);
  });

  test('that lies within what is protected is an error', () => {
    expect(() => start(pissa()).step(2)).toThrow(/dead point/);
  });
});
