import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {
  type Gradient,
  lora,
  loraGA,
  type LoraGAEnergy,
  type LoraGAOptions,
  projected,
} from '../../src/index.js';
import {factoredGradient} from '../../src/capture/factored.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {
  backends,
  begin,
  columnDistance,
  distance,
  random,
  rowDistance,
  sixSteps,
  trainingLosses,
} from './starts.js';

const DIRECTIONS = ['arb2r', 'a2rbr', 'arbr'] as const;
const square = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x * x, 0);
/** Deviation of s x A B for x of unit variance: its mean square is ||s A B||^2 / n. */
const deviation = ({a, b}: {a: tf.Tensor2D; b: tf.Tensor2D}, s: number) =>
  s * Math.sqrt(square(values(tf.matMul(a, b))) / b.shape[1]);
const length = (a: tf.Tensor) => Math.sqrt(square(values(a)));

describe.each(backends)('loraGA on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each([
    [8, 6, 2],
    [6, 11, 3],
    [30, 20, 4],
    [5, 2, 1],
    [2, 9, 1],
  ])('equals the float64 reference: %i x %i, r %i', (m, n, rank) => {
    const G = random(m, n, m + n);
    for (const direction of DIRECTIONS) {
      const want = reference.loraGA(
        fromTensor(G),
        reference.halves(direction, rank),
        reference.stableLength(n, 5),
      );
      const got = begin(loraGA({direction, gamma: 5, iterations: 40}), rank, {gradient: G});
      expect(columnDistance(got.a, toTensor(want.a))).toBeLessThan(1e-3);
      expect(rowDistance(got.b, toTensor(want.b))).toBeLessThan(1e-3);
    }
  });

  test('O17: what one step misses is the sum of sigma_i^2 beyond 2r, for every direction', () => {
    for (const direction of [...DIRECTIONS, 'random'] as const) {
      for (const [m, n, rank] of [
        [8, 6, 2],
        [6, 9, 1],
        [40, 30, 3],
      ] as const) {
        const G = random(m, n, 5);
        const {a, b} = begin(loraGA({direction, scale: 'unit', iterations: 60}), rank, {gradient: G});
        const g = fromTensor(G);
        const missed = reference.missed(g, {a: fromTensor(a), b: fromTensor(b)});
        const best = square(reference.singularValues(g).slice(2 * rank));
        expectOracle(
          'lora-ga',
          'O17',
          'the first step misses sum_(i>2r) sigma_i^2',
          Math.abs(missed - best) / square(values(G)),
          1e-5,
        );
      }
    }
  });

  test('O17: 2000 random orthonormal pairs do no better', () => {
    const G = random(8, 6, 5);
    const g = fromTensor(G);
    const {a, b} = begin(loraGA({scale: 'unit'}), 2, {gradient: G});
    const missed = reference.missed(g, {a: fromTensor(a), b: fromTensor(b)});
    const numbers = reference.generator(3);
    let best = Infinity;
    for (let i = 0; i < (backend === 'cpu' ? 2000 : 100); i++) {
      const basis = (size: number) => reference.svd(reference.randomMatrix([size, 2], numbers)).u;
      const pair = {a: basis(8), b: reference.transpose(basis(6))};
      best = Math.min(best, reference.missed(g, pair));
    }
    expectOracle(
      'lora-ga',
      'O17 random',
      'best of 2000 random pairs is no better: missed / best',
      missed / best,
      1,
    );
  });

  test('O18: the first step of SGD is -eta zeta G_2r, zeta = alpha^2 sqrt(n) / (r gamma)', () => {
    const [m, n, rank, alpha, gamma, eta] = [12, 9, 2, 5, 3, 1e-4];
    const G = random(m, n, 1);
    for (const direction of DIRECTIONS) {
      const weight = tf.variable(tf.zeros<tf.Rank.R2>([m, n]));
      const init = loraGA({gamma, direction});
      const optimizer = projected(tf.train.sgd(eta), lora({rank, alpha, rankStabilised: true, init}), {
        targets: () => true,
      });
      optimizer.applyGradients({[weight.name]: G});
      const zeta = (alpha ** 2 * Math.sqrt(n)) / (rank * gamma);
      expect(reference.firstStepScale(alpha / Math.sqrt(rank), reference.stableLength(n, gamma))).toBeCloseTo(
        zeta,
        10,
      );
      const want = tf.mul(toTensor(reference.best(fromTensor(G), 2 * rank)), -eta * zeta);
      // What remains is of second order in eta: eta s^3 ||G||.
      expectOracle(
        'lora-ga',
        'O18',
        'first SGD step = -eta zeta G_2r, at eta = 1e-4',
        distance(weight, want),
        1e-2,
      );
      optimizer.dispose();
      weight.dispose();
    }
  });

  test("O18: with scale 'gd' it is the gradient's best part itself, -eta G_2r, for any s", () => {
    const G = random(10, 8, 2);
    for (const alpha of [1, -7]) {
      const weight = tf.variable(tf.zeros<tf.Rank.R2>([10, 8]));
      const init = loraGA({scale: 'gd'});
      const optimizer = projected(tf.train.sgd(1e-3), lora({rank: 2, alpha, init}), {targets: () => true});
      optimizer.applyGradients({[weight.name]: G});
      const want = tf.mul(toTensor(reference.best(fromTensor(G), 4)), -1e-3);
      expect(distance(weight, want)).toBeLessThan(2e-2);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('O19: the deviation of s x A B is alpha/gamma, for every r, m, n, and size of G', () => {
    const cases = [
      [64, 48, 4, 1],
      [30, 100, 8, 1],
      [100, 30, 2, 100],
      [64, 48, 16, 1e-4],
    ] as const;
    const [alpha, gamma] = [16, 20];
    for (const [m, n, rank, size] of cases) {
      const s = reference.rankStabilisedScale(alpha, rank);
      const G = tf.mul(random(m, n, 1), size) as tf.Tensor2D;
      for (const direction of DIRECTIONS) {
        const found = deviation(begin(loraGA({gamma, direction}), rank, {gradient: G}), s);
        expectOracle(
          'lora-ga',
          'O19',
          'deviation of s x A B = alpha/gamma',
          Math.abs(found / (alpha / gamma) - 1),
          1e-5,
        );
      }
    }
    // Seen on real inputs, and not only in the mean.
    const {a, b} = begin(loraGA({gamma}), 4, {gradient: random(64, 48, 1)});
    const y = tf.mul(tf.matMul(tf.matMul(random(3000, 64, 8), a), b), 8);
    expect(length(y) / Math.sqrt(y.size)).toBeCloseTo(alpha / gamma, 1);
  });

  test("O19 tells PEFT's formula apart: its B grows with the gradient", () => {
    const deviationOf = (size: number) => {
      const G = tf.mul(random(20, 15, 1), size);
      const {a, b} = reference.loraGAOfPeft(
        fromTensor(G),
        reference.halves('arb2r', 3),
        reference.stableLength(15, 16),
      );
      return deviation({a: toTensor(a), b: toTensor(b)}, 16 / Math.sqrt(3));
    };
    expect(deviationOf(100) / deviationOf(1)).toBeCloseTo(100, 3);
  });

  test('the ablation: Gaussian or gradient directions, stable or unit length, each by an option', () => {
    const G = random(400, 300, 1);
    const {a, b} = begin(loraGA({direction: 'gaussian', scale: 'unit'}), 16, {gradient: G});
    expect(length(a) / Math.sqrt(16)).toBeCloseTo(1, 1);
    expect(length(b) / Math.sqrt(16)).toBeCloseTo(1, 1);
    const stable = begin(loraGA({direction: 'gaussian', gamma: 4}), 16, {gradient: G});
    const c = reference.stableLength(300, 4);
    expect(distance(stable.a, tf.mul(a, c))).toBeLessThan(1e-5);
    expect(distance(stable.b, tf.mul(b, c))).toBeLessThan(1e-5);
    const weighted = begin(loraGA({scale: 'weight'}), 2, {
      gradient: random(9, 8, 1),
      weight: tf.eye(9, 8),
      scale: 4,
    });
    expect(length(weighted.a) / Math.sqrt(2)).toBeCloseTo(Math.sqrt(1 / 4), 5);
  });

  test('O20: W does not move at the start, and the residual falls as r grows, to zero at 2r = min(m, n)', () => {
    const weight = tf.variable(random(10, 7, 1));
    const before = values(weight);
    const optimizer = projected(tf.train.sgd(0), lora({rank: 2, alpha: 9, init: loraGA()}), {
      targets: () => true,
    });
    optimizer.applyGradients({[weight.name]: random(10, 7, 2)});
    expect(values(weight)).toEqual(before);
    optimizer.dispose();

    for (const [m, n] of [
      [9, 7],
      [7, 9],
      [7, 7],
    ] as const) {
      const G = random(m, n, 3);
      for (const direction of [...DIRECTIONS, 'random'] as const) {
        const residuals = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(rank => {
          const {a, b} = begin(loraGA({direction, scale: 'unit'}), rank, {gradient: G});
          const live = [...values(tf.sum(tf.abs(a), 0))].map((x, i) => x + values(tf.sum(tf.abs(b), 1))[i]!);
          // No pair is dead as long as the rank is of use.
          expect(live.filter(x => x > 0).length).toBe(Math.min(rank, m, n));
          return reference.missed(fromTensor(G), {a: fromTensor(a), b: fromTensor(b)}) / square(values(G));
        });
        for (const i of [1, 2]) expect(residuals[i]).toBeLessThan(residuals[i - 1]!);
        for (const residual of residuals.slice(3)) {
          expectOracle('lora-ga', 'O20', 'nothing is missed where 2r >= min(m, n)', residual, 1e-9);
        }
      }
    }
  });

  test.each([
    [1, 8],
    [8, 1],
    [1, 1],
  ])('rows and columns: %i x %i', (m, n) => {
    for (const rank of [1, 3]) {
      const G = random(m, n, 1);
      const {a, b} = begin(loraGA({scale: 'unit'}), rank, {gradient: G});
      expect(reference.missed(fromTensor(G), {a: fromTensor(a), b: fromTensor(b)})).toBeLessThan(1e-9);
    }
  });

  test('O21: ties, zero, tiny and huge gradients have a start: finite, of full length, the same each time', () => {
    const low = tf.matMul(random(9, 1, 1), random(1, 8, 2));
    const gradients = [
      tf.eye(8),
      tf.zeros([9, 8]),
      low,
      tf.mul(random(9, 8, 1), 1e-30),
      tf.mul(random(9, 8, 1), 1e30),
    ];
    for (const [i, gradient] of (gradients as tf.Tensor2D[]).entries()) {
      for (const direction of DIRECTIONS) {
        const {a, b} = begin(loraGA({scale: 'unit', direction}), 2, {gradient});
        const flaw = Math.max(
          distance(tf.matMul(tf.transpose(a), a), tf.eye(2)),
          distance(tf.matMul(b, tf.transpose(b)), tf.eye(2)),
        );
        expectOracle('lora-ga', 'O21', 'orthonormal for ties, zero, rank 1, 1e-30 and 1e30', flaw, 1e-6);
        expect(values(begin(loraGA({scale: 'unit', direction}), 2, {gradient}).a)).toEqual(values(a));
        if (i === 0) {
          const missed = reference.missed(fromTensor(gradient), {a: fromTensor(a), b: fromTensor(b)});
          expect(missed).toBeCloseTo(4, 5);
        }
      }
    }
  });

  test('O21: a gradient with NaN moves nothing, and is told of or skipped as any other', () => {
    const weight = tf.variable(random(10, 7, 1), true, 'with-nan');
    const before = values(weight);
    const parametrization = lora({rank: 2, init: loraGA()});
    const bad = {'with-nan': tf.fill([10, 7], NaN)};
    const strict = projected(tf.train.sgd(1), parametrization, {targets: () => true});
    expect(() => strict.applyGradients(bad)).toThrow(/gradient of .*with-nan.* holds NaN/);
    const lenient = projected(tf.train.sgd(1), parametrization, {targets: () => true, nonFinite: 'skip'});
    lenient.applyGradients(bad);
    expect(lenient.skipped).toBe(1);
    expect(values(weight)).toEqual(before);
    lenient.applyGradients({'with-nan': random(10, 7, 2)});
    expect(values(weight).every(Number.isFinite)).toBe(true);
    for (const optimizer of [strict, lenient]) optimizer.dispose();
    weight.dispose();
  });

  test('onEnergy: what 2r directions hold of the gradient', () => {
    const told: LoraGAEnergy[] = [];
    const G = random(12, 10, 4);
    begin(loraGA({onEnergy: energy => told.push(energy)}), 2, {gradient: G});
    const sigma = reference.singularValues(fromTensor(G));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({shape: [12, 10], rank: 2});
    expect(told[0]!.captured / square(sigma.slice(0, 4))).toBeCloseTo(1, 4);
    expect(told[0]!.norm2 / square(sigma)).toBeCloseTo(1, 5);
  });

  test('steps: nothing moves until k gradients are seen; then the start is that of their sum', async () => {
    const parts = [1, 2, 3].map(
      seed => tf.matMul(random(40, 2, seed), random(2, 30, seed + 10)) as tf.Tensor2D,
    );
    // Each part has rank 2, their sum rank 6: a start from the last alone would not see the others.
    const weight = tf.variable(random(40, 30, 7), true, 'observed');
    const before = values(weight);
    const told: LoraGAEnergy[] = [];
    const init = loraGA({steps: 3, scale: 'unit', onEnergy: energy => told.push(energy)});
    let optimizer = projected(tf.train.sgd(1e-3), lora({rank: 3, init}), {targets: () => true});
    const again = projected(tf.train.sgd(1e-3), lora({rank: 3, init}), {targets: () => true});
    optimizer.applyGradients({observed: parts[0]!});
    await again.setWeights(await optimizer.getWeights());
    optimizer.dispose();
    optimizer = again;
    optimizer.applyGradients({observed: parts[1]!});
    expect(values(weight)).toEqual(before);
    expect(told).toHaveLength(0);
    optimizer.applyGradients({observed: parts[2]!});
    expect(values(weight)).not.toEqual(before);
    const frozen = optimizer.attached[0]!.frozen as Record<string, tf.Tensor2D>;
    const total = fromTensor(tf.addN(parts));
    const missed = reference.missed(total, {
      a: fromTensor(frozen['aStart']!),
      b: fromTensor(frozen['bStart']!),
    });
    expectOracle(
      'lora-ga',
      'k gradients',
      'of a sum of three, of rank 2r, nothing is missed',
      missed / reference.frobenius(total) ** 2,
      1e-8,
    );
    expect(told[0]!.captured / reference.frobenius(total) ** 2).toBeCloseTo(1, 4);
    expect(told[0]!.norm2 / reference.frobenius(total) ** 2).toBeGreaterThan(0.5);
    optimizer.dispose();
    weight.dispose();
  });

  test('trains, faster at first than from kaiming', () => {
    const options = {rank: 2, alpha: 2, rankStabilised: true};
    const found = trainingLosses(lora({...options, init: loraGA({gamma: 4})}));
    const plain = trainingLosses(lora(options));
    expect(found[0]).toBe(plain[0]);
    expect(found.at(-1)).toBeLessThan(0.9 * found[0]!);
    expect(found[5]).toBeLessThan(plain[5]!);
  });

  test.each([{}, {steps: 3}] as LoraGAOptions[])('saved and loaded on the way: %o', async options => {
    const whole = await sixSteps({rank: 2, init: loraGA(options)});
    for (const pause of [1, 4])
      expect(await sixSteps({rank: 2, init: loraGA(options)}, pause)).toEqual(whole);
  });

  test('matrix-free: a 1024 x 1024 weight, ten thin products, no tensor of its size, no dense gradient', () => {
    const [m, n, t, rank] = [1024, 1024, 64, 8];
    tf.tidy(() => {
      const weight = tf.zeros<tf.Rank.R2>([m, n]);
      const inner = factoredGradient([{x: random(t, m, 1), delta: random(t, n, 2)}], [m, n]);
      let multiplications = 0;
      const widths: number[] = [];
      const count = (matrix: tf.Tensor2D) => {
        widths.push(matrix.shape[1]);
        multiplications += t * (m + n) * matrix.shape[1];
      };
      const gradient: Gradient = {
        ...inner,
        leftMul: p => (count(p), inner.leftMul(p)),
        rightMul: q => (count(q), inner.rightMul(q)),
        dense: () => {
          throw new Error('the gradient was formed');
        },
      };
      const engine = tf.engine() as unknown as {trackTensor(tensor: tf.Tensor, backend: unknown): void};
      const {trackTensor} = engine;
      let [largest, seen] = [0, 0];
      engine.trackTensor = function (tensor, by) {
        largest = Math.max(largest, tensor.size);
        seen++;
        trackTensor.call(this, tensor, by);
      };
      let start;
      try {
        start = loraGA({onEnergy: () => undefined})({weight, gradient, rank, seed: 1, scale: 1});
      } finally {
        engine.trackTensor = trackTensor;
      }
      expect(start.a!.shape).toEqual([m, rank]);
      expect(seen).toBeGreaterThan(20);
      // x or delta turned, and what is thin.
      expect(largest).toBeLessThanOrEqual(t * m);
      expect(widths).toEqual(Array(10).fill(2 * rank + 8));
      // A plain step: y = x W, dL/dx, dL/dW.
      expect(multiplications).toBeLessThan(3 * 3 * t * m * n);
      expectOracle(
        'lora-ga',
        'cost',
        'multiplications of the start / those of a plain training step',
        multiplications / (3 * t * m * n),
        0.2,
      );
    });
  });
});

test('options are checked', () => {
  expect(() => loraGA({gamma: 0})).toThrow('loraGA: gamma must be a number above 0, not 0');
  expect(() => loraGA({direction: 'up' as never})).toThrow("loraGA: direction must be 'arb2r'");
  expect(() => loraGA({scale: 'large' as never})).toThrow("loraGA: scale must be 'stable'");
  expect(() => loraGA({steps: 0})).toThrow('loraGA: steps must be a whole number of at least 1, not 0');
  expect(() => loraGA({iterations: -1})).toThrow('iterations must be a whole number');
  expect(() => loraGA({iters: 1} as never)).toThrow("unknown option 'iters'");
});
