import fc from 'fast-check';
import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {full, lora, normal, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {expectClose, fromTensor, numTensors, toTensor, values} from '../helpers.js';
import {onEachBackend} from './backends.js';

/** Least squares, as the reference has it, in tensors. */
function tensors(problem: reference.Quadratic) {
  const [x, y, w0] = [problem.x, problem.y, problem.weight].map(toTensor) as [
    tf.Tensor2D,
    tf.Tensor2D,
    tf.Tensor2D,
  ];
  const w = tf.variable(w0, true, 'w');
  const loss = () => tf.div(tf.sum(tf.square(tf.sub(tf.matMul(x, w), y))), 2 * x.shape[0]) as tf.Scalar;
  return {w, loss};
}

const INNER = {
  sgd: {
    ours: () => tf.train.sgd(0.05),
    theirs: () => reference.sgd({learningRate: 0.05}),
  },
  momentum: {
    ours: () => tf.train.momentum(0.01, 0.9),
    theirs: () => reference.momentum({learningRate: 0.01}),
  },
  adam: {
    ours: () => tf.train.adam(0.02, 0.9, 0.999, 1e-7),
    theirs: () => reference.adam({learningRate: 0.02}),
  },
  adamax: {
    ours: () => tf.train.adamax(0.02, 0.9, 0.999, 1e-7, 0.01),
    theirs: () => reference.adamax({learningRate: 0.02, decay: 0.01}),
  },
};
type Name = keyof typeof INNER;

onEachBackend('the float64 reference', () => {
  const problem = reference.quadratic({m: 8, n: 6, t: 12, seed: 11});
  const numbers = reference.generator(12);
  const a = reference.randomMatrix([8, 2], numbers, 0.5);
  const b = reference.randomMatrix([2, 6], numbers, 0.5);

  it.each(Object.keys(INNER) as Name[])('is equalled over 50 steps of least squares: lora, %s', name => {
    for (const start of [
      {a, b: reference.zeros([2, 6])},
      {a, b},
    ]) {
      const {w, loss} = tensors(problem);
      const optimizer = projected(
        INNER[name].ours(),
        lora({rank: 2, alpha: 1, init: () => ({a: toTensor(start.a), b: toTensor(start.b)})}),
      );
      const expected = reference.trainProjected({
        weight: problem.weight,
        gradient: problem.gradient,
        parametrization: reference.lora(0.5),
        factors: start,
        optimizer: INNER[name].theirs,
        steps: 50,
      });
      for (let i = 0; i < 50; i++) optimizer.minimize(loss);
      expectClose(values(w), values(toTensor(expected.weight)), 1e-5);
      w.dispose();
    }
  });

  it.each(Object.keys(INNER) as Name[])('is equalled over 50 steps of least squares: full, %s', name => {
    const {w, loss} = tensors(problem);
    const optimizer = projected(INNER[name].ours(), full());
    const expected = reference.trainProjected({
      weight: problem.weight,
      gradient: problem.gradient,
      parametrization: reference.full,
      factors: {delta: reference.zeros([8, 6])},
      optimizer: INNER[name].theirs,
      steps: 50,
    });
    for (let i = 0; i < 50; i++) optimizer.minimize(loss);
    expectClose(values(w), values(toTensor(expected.weight)), 1e-5);
  });

  it('one step of any shape and rank equals the exact formula -eta s^2 (A A’ G + G B’ B) + eta^2 s^3 G B’ A’ G', () => {
    const size = fc.integer({min: 1, max: 24});
    const cases = fc.record({
      m: size,
      n: size,
      rank: fc.integer({min: 1, max: 30}),
      alpha: fc.constantFrom(0.5, 1, 2, -1),
      seed: fc.integer({min: 0, max: 2 ** 31 - 1}),
      symmetric: fc.boolean(),
      zero: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({m, n, rank, alpha, seed, symmetric, zero}) => {
        const before = numTensors();
        tf.tidy(() => {
          const w = tf.variable(normal([m, n], seed));
          const w0 = values(w);
          const [a, b] = [normal([m, rank], seed + 1), normal([rank, n], seed + 2)];
          const start = symmetric ? {a, b} : {a};
          const g = zero ? tf.zeros([m, n]) : normal([m, n], seed + 3, {std: 0.1});
          // A rank that saves nothing is trained as it is: only a parametrization that does not count is always used.
          const {trained: _, ...always} = lora({rank, alpha, init: () => start});
          const [eta, s] = [0.01, alpha / rank];
          const optimizer = projected(tf.train.sgd(eta), always, {targets: () => true});
          optimizer.applyGradients({[w.name]: g});
          const factors = {a: fromTensor(a), b: symmetric ? fromTensor(b) : reference.zeros([rank, n])};
          const moved = values(toTensor(reference.sgdUpdate(eta, s, factors, fromTensor(g))));
          expectClose(
            values(w),
            w0.map((x, i) => x + moved[i]!),
            1e-5,
          );
          if (zero) expect(values(w)).toEqual(w0);
          optimizer.dispose();
          w.dispose();
        });
        expect(numTensors()).toBe(before);
      }),
      {numRuns: 60, seed: 1},
    );
  });

  it('three Adam steps of any shape and rank equal the reference, with every option that should change nothing', () => {
    const size = fc.oneof(fc.constant(1), fc.integer({min: 1, max: 24}));
    const cases = fc.record({
      m: size,
      n: size,
      rank: fc.integer({min: 1, max: 26}),
      seed: fc.integer({min: 0, max: 2 ** 31 - 1}),
      keepBase: fc.boolean(),
      clipNorm: fc.constantFrom(undefined, 1e6),
    });
    fc.assert(
      fc.property(cases, ({m, n, rank, seed, keepBase, clipNorm}) => {
        const before = numTensors();
        tf.tidy(() => {
          const w = tf.variable(normal([m, n], seed));
          const a = normal([m, rank], seed + 1);
          const expected = reference.trainProjected({
            weight: fromTensor(w),
            gradient: current => fromTensor(tf.add(toTensor(current), normal([m, n], seed + 3))),
            parametrization: reference.lora(1),
            factors: {a: fromTensor(a), b: reference.zeros([rank, n])},
            optimizer: () => reference.adam({learningRate: 0.01, epsilon: 1e-2}),
            steps: 3,
          });
          const {trained: _, ...always} = lora({rank, init: () => ({a})});
          const optimizer = projected(tf.train.adam(0.01, 0.9, 0.999, 1e-2), always, {
            targets: () => true,
            keepBase,
            ...(clipNorm && {clipNorm}),
          });
          for (let i = 0; i < 3; i++)
            optimizer.applyGradients({[w.name]: tf.add(w, normal([m, n], seed + 3))});
          // In float32 0.999 is off by 3e-8, so tfjs's 1 - 0.999 by 3e-5, and its steps by half of that.
          expectClose(values(w), values(toTensor(expected.weight)), 3e-5);
          expectClose(values(optimizer.factors(w)['b']!), values(toTensor(expected.factors.b)), 3e-5);
          optimizer.dispose();
          w.dispose();
        });
        expect(numTensors()).toBe(before);
      }),
      {numRuns: 40, seed: 2},
    );
  });

  it('a rank that saves nothing trains the weight as it is when a rule names it, whatever the shape', () => {
    const size = fc.integer({min: 1, max: 12});
    fc.assert(
      fc.property(size, size, fc.integer({min: 1, max: 20}), (m, n, rank) => {
        const w = tf.variable(normal([m, n], 1));
        const [before, g] = [values(w), normal([m, n], 2)];
        const optimizer = projected(tf.train.sgd(0.5), lora({rank}), {targets: () => true});
        optimizer.applyGradients({[w.name]: g});
        const isWhole = rank * (m + n) >= m * n;
        expect(Object.keys(optimizer.factors(w))).toEqual(isWhole ? ['weight'] : ['a', 'b']);
        if (isWhole)
          expectClose(
            values(w),
            before.map((x, i) => x - 0.5 * values(g)[i]!),
            1e-6,
          );
        optimizer.dispose();
        tf.dispose([w, g]);
      }),
      {numRuns: 40, seed: 3},
    );
  });
});
