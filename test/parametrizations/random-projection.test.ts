import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeEach, describe, expect, test} from 'vitest';
import {
  denseGradient,
  every,
  normal,
  projected,
  randomProjection,
  type RandomProjectionOptions,
  splitSeed,
} from '../../src/index.js';
import {randomOrthonormal} from '../../src/linalg/orthonormal.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, values} from '../helpers.js';
import {
  distance,
  interrupted,
  matrix,
  type Shape,
  type Situation,
  trained,
  worstAgainst,
} from './exercise.js';
import {expectOracle} from './oracle.js';
import {apart, gradientAt, meanOf, meanOver, movedBy, norm2} from './subspace.js';

beforeEach(async () => {
  await tf.setBackend('cpu');
});

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('random-projection', number, what, residual, tolerance);
const all = {targets: () => true} as const;
/** Attached also where the rank saves nothing. */
const anyway = (options: RandomProjectionOptions = {}) => {
  const {trained: _, ...p} = randomProjection(options);
  return p;
};

/** A0 and B0 of a seed, drawn here and not by the method. */
function drawn({rank = 8, distribution}: RandomProjectionOptions, [m, n]: Shape, seed: number) {
  const draw =
    distribution === 'orthonormal'
      ? randomOrthonormal
      : (rows: number, columns: number, key: number) => normal([rows, columns], key) as tf.Tensor2D;
  return {a: draw(m, rank, splitSeed(seed, 'a')), b: draw(rank, n, splitSeed(seed, 'b'))};
}

function scale(
  {rank = 8, sides = 'both', distribution, unbiased = true}: RandomProjectionOptions,
  [m, n]: Shape,
) {
  if (!unbiased) return 1;
  if (distribution !== 'orthonormal') return reference.unbiasedGaussianScale(rank, sides === 'both' ? 2 : 1);
  const [left, right] = [Math.min(rank / m, 1), Math.min(rank / n, 1)];
  return 1 / Math.sqrt((sides === 'right' ? 0 : left) + (sides === 'left' ? 0 : right));
}

const rule =
  (options: RandomProjectionOptions) =>
  (given: Situation): reference.Parametrization<reference.Factors> => {
    const {shape} = given.weight;
    const s = scale(options, shape);
    const start = drawn(options, shape, values(given.fresh.frozen!['seed']!)[0]!);
    const [a, b] = [fromTensor(start.a), fromTensor(start.b)];
    const whole = reference.lora(s);
    const {formula} = reference;
    const filled = ({a: at, b: bt}: reference.Factors) => ({a: at ?? a, b: bt ?? b});
    const offset = options.sides === 'left' || options.sides === 'right' ? 0 : 1;
    return {
      delta: factors =>
        formula('D - x * D0')({D: whole.delta(filled(factors)), x: offset, D0: whole.delta({a, b})}),
      pullback: (factors, gradient) => {
        const both = whole.pullback(filled(factors), gradient);
        return Object.fromEntries(Object.keys(factors).map(key => [key, both[key as 'a' | 'b']]));
      },
      lift: (factors, next) => whole.lift(filled(factors), filled(next)),
    };
  };

/** One step of SGD by the optimizer: the change of W, and the matrices it used. */
function oneStep(options: RandomProjectionOptions, eta: number, G: tf.Tensor2D, seed: number) {
  const weight = tf.variable(tf.zeros(G.shape), true, 'one-step');
  const optimizer = projected(tf.train.sgd(eta), anyway(options), {...all, seed});
  optimizer.applyGradients({[weight.name]: G});
  const used = drawn(options, G.shape, values(optimizer.attached[0]!.frozen['seed']!)[0]!);
  const change = tf.add(weight, 0) as tf.Tensor2D;
  optimizer.dispose();
  weight.dispose();
  return {change, ...used};
}

describe('randomProjection', () => {
  const forms: RandomProjectionOptions[] = [
    {},
    {rank: 1, unbiased: false},
    {rank: 3, distribution: 'orthonormal'},
    {rank: 3, sides: 'left'},
    {rank: 2, sides: 'right', distribution: 'orthonormal'},
    {rank: 20, sides: 'right', unbiased: false},
    {rank: 20, distribution: 'orthonormal'},
  ];

  test.each(forms)('equals the float64 reference: %o', options => {
    oracle(
      'reference',
      'delta, pullback and lift against float64',
      worstAgainst(randomProjection(options), rule(options)),
      1e-5,
    );
  });

  test('a step of SGD is the formula of the source, as written with `unbiased: false`, else with s', () => {
    const G = matrix([7, 9], 1);
    for (const rank of [1, 3]) {
      const raw = oneStep({rank, unbiased: false}, 0.1, G, 1);
      const written = reference.randomStepAsWritten(0.1, fromTensor(raw.a), fromTensor(raw.b), fromTensor(G));
      oracle('step, as written', '(a - eta G b^T)(b - eta a^T G) - a b', distance(raw.change, written), 1e-5);
      const ours = oneStep({rank}, 0.1, G, 1);
      const s = reference.unbiasedGaussianScale(rank, 2);
      const scaled = reference.randomStep(0.1, s, fromTensor(ours.a), fromTensor(ours.b), fromTensor(G));
      oracle('step', 'the same with s = 1/sqrt(2r)', distance(ours.change, scaled), 1e-5);
    }
  });

  test('O31: the mean step is -2 eta r G as written, and -eta G with s = 1/sqrt(2r)', () => {
    const G = matrix([6, 5], 1);
    for (const rank of [1, 3]) {
      // At a rate this high the term of eta^2 is no smaller than the others; its mean is 0 all the same.
      const raw = meanOf(randomProjection({rank, unbiased: false}), G, {mean: 2 * rank, eta: 0.2});
      oracle('O31', 'mean of the step as written = -2 eta r G, in standard errors', raw.sigmas, 4);
      const ours = meanOf(randomProjection({rank}), G, {eta: 0.2});
      oracle('O31, unbiased', 'mean of the step = -eta G, in standard errors', ours.sigmas, 4);
      const mistaken = meanOf(randomProjection({rank, unbiased: false}), G, {mean: 1, eta: 0.2});
      expect(mistaken.sigmas).toBeGreaterThan(10);
    }
  });

  const [m, n, r] = [10, 14, 3];
  const balance = m / (m + n);
  test.each([
    ['two-sided Gaussian', {}, (m + 1 + n + 1) / (4 * r)],
    ['left Gaussian', {sides: 'left'}, (m + 1) / r],
    ['right Gaussian', {sides: 'right'}, (n + 1) / r],
    ['left orthonormal', {sides: 'left', distribution: 'orthonormal'}, m / r - 1],
    ['right orthonormal', {sides: 'right', distribution: 'orthonormal'}, n / r - 1],
    [
      'two-sided orthonormal',
      {distribution: 'orthonormal'},
      (1 - balance) ** 2 * (m / r - 1) + balance ** 2 * (n / r - 1),
    ],
  ] as const)('the mean and the noise of a step: %s', (name, options, wanted) => {
    const {sigmas, noise} = meanOf(randomProjection({rank: r, ...options}), matrix([m, n], 1), {eta: 1e-3});
    oracle('unbiased', 'E[step] = -eta G in every form, in standard errors', sigmas, 4);
    const off = Math.abs(noise.mean - wanted) / noise.error;
    oracle(
      `noise, ${name}`,
      `E||step/eta + G||^2 / ||G||^2 = ${wanted.toFixed(3)} at 10 x 14, r 3, in standard errors`,
      off,
      4,
    );
  });

  test('O32: at equal mean progress the weights move further than with SGD, by a term that fades as 1/T', () => {
    const [shape, rank, eta]: [Shape, number, number] = [[8, 6], 2, 1e-3];
    const G = matrix(shape, 1);
    const length = norm2(G);
    for (const [T, runs] of [
      [1, 400],
      [5, 120],
      [20, 40],
    ] as const) {
      const measure = (options: RandomProjectionOptions) =>
        meanOver(runs, seed =>
          tf.tidy(() => {
            const optimizer = projected(tf.train.sgd(eta), anyway({rank, ...options}), {...all, seed});
            return norm2(movedBy(optimizer, Array<tf.Tensor2D>(T).fill(G))) / (length * (eta * T) ** 2);
          }),
        );
      const [one, two] = [measure({sides: 'left'}), measure({})];
      const laws = [1 + (shape[0] + 1) / (rank * T), 1 + (shape[0] + shape[1] + 2) / (4 * rank * T)];
      const off = [one, two].map(({mean, error}, i) => Math.abs(mean - laws[i]!) / error);
      oracle(
        'O32',
        '||W_T - W0||^2 = ||eta T G||^2 (1 + (m + 1)/(r T)), one-sided, in standard errors',
        off[0]!,
        4,
      );
      oracle('O32, two-sided', '… (1 + (m + n + 2)/(4 r T)), in standard errors', off[1]!, 4);
      expect(one.mean - 4 * one.error).toBeGreaterThan(1);
    }
  });

  test('O33: the same seed and step give the same matrices on every backend, others at every step', async () => {
    const runs: {seeds: number[]; factors: number[]}[] = [];
    for (const backend of ['cpu', 'wasm']) {
      await tf.setBackend(backend);
      const weight = tf.variable(tf.zeros([5, 6]), true, 'o33');
      const optimizer = projected(tf.train.sgd(0), anyway({rank: 2}), all);
      const seen = [0, 1, 2].map(step => {
        optimizer.applyGradients({[weight.name]: gradientAt([5, 6], step)});
        const {a, b} = optimizer.factors(weight);
        return {
          seed: values(optimizer.attached[0]!.frozen['seed']!)[0]!,
          factors: [...values(a!), ...values(b!)],
        };
      });
      expect(new Set(seen.map(({seed}) => seed)).size).toBe(3);
      runs.push({seeds: seen.map(({seed}) => seed), factors: seen.flatMap(({factors}) => factors)});
      optimizer.dispose();
      weight.dispose();
    }
    expect(runs[0]!.seeds).toEqual(runs[1]!.seeds);
    oracle(
      'O33',
      'A0 and B0 of three steps on cpu and on wasm, bit for bit',
      relativeError(runs[0]!.factors, runs[1]!.factors),
      0,
    );
  });

  test('moments: kept ones are refused; with a reset at every step momentum is SGD', () => {
    expect(() => projected(tf.train.adam(0.1), randomProjection(), {moments: 'keep'})).toThrow(
      /'keep' makes no sense for randomProjection with Adam: the next step has other.*sgd.*'reset'/,
    );
    expect(() => projected(tf.train.momentum(0.1, 0.9), randomProjection(), {moments: 'transport'})).toThrow(
      /'transport' makes no sense for randomProjection.*sides: 'both' a moment of one factor.*'reset'/,
    );
    expect(() => projected(tf.train.sgd(0.1), randomProjection(), {moments: 'keep'})).not.toThrow();
    const gradients = [0, 1, 2, 3].map(step => gradientAt([6, 7], step));
    const [sgd, momentum] = [tf.train.sgd(0.1), tf.train.momentum(0.1, 0.9)].map(inner =>
      movedBy(projected(inner, anyway({rank: 2}), all), gradients),
    );
    oracle('momentum', 'momentum that is reset at every step = SGD', apart(momentum!, sgd!), 1e-6);
  });

  test('moments: Adam that is reset at every step moves along the signs of the projected gradient', () => {
    const G = gradientAt([6, 7], 0);
    const weight = tf.variable(tf.zeros([6, 7]), true, 'signs');
    const inner = tf.train.adam(0.1, 0.9, 0.999, 1e-7);
    const optimizer = projected(inner, anyway({rank: 2, sides: 'left'}), all);
    for (const step of [0, 1, 2]) {
      const before = weight.clone();
      optimizer.applyGradients({[weight.name]: G});
      const {a} = drawn({rank: 2}, [6, 7], values(optimizer.attached[0]!.frozen['seed']!)[0]!);
      const signs = tf.mul(tf.matMul(a, tf.sign(tf.matMul(a, G, true))), -0.1 / Math.sqrt(2));
      oracle(
        'Adam',
        'a step of Adam after a reset = -eta s A0 sign(A0^T G)',
        apart(tf.sub(weight, before), signs),
        1e-5 * (step + 1),
      );
    }
    optimizer.dispose();
  });

  test('moments: a transport at every step is possible one-sided, and does not grow', () => {
    for (const distribution of ['gaussian', 'orthonormal'] as const) {
      for (const sides of ['left', 'right'] as const) {
        const p = anyway({rank: 3, sides, distribution});
        const options = {...all, moments: 'transport'} as const;
        const gradients = [gradientAt([12, 12], 0), ...Array<tf.Tensor2D>(30).fill(tf.zeros([12, 12]))];
        const [once, before, after] = [1, 30, 31].map(steps =>
          movedBy(projected(tf.train.momentum(1, 0.99), p, options), gradients.slice(0, steps)),
        );
        // All but about r/m of its square is lost at each step, which a product of random matrices would not do.
        expect(apart(after!, before!)).toBeLessThan(1e-3);
        expect(apart(before!, once!)).toBeGreaterThan(0.05);
      }
    }
  });

  test.each([
    [{rank: 0}, /randomProjection: rank must be/],
    [{sides: 'top'}, /sides must be 'both' or 'left' or 'right'/],
    [{distribution: 'uniform'}, /distribution must be 'gaussian' or 'orthonormal'/],
    [{unbiased: 1}, /unbiased must be true or false, not 1/],
    [{alpha: 2}, /unknown option 'alpha'/],
  ])('refuses %o', (options, message) => {
    expect(() => randomProjection(options as never)).toThrow(message);
  });

  test('keeps the factors, the seed and the shape', () => {
    const weight = matrix([5, 9], 1);
    const start = {weight, gradient: denseGradient(weight, [5, 9] as const), seed: 0x89abcdef};
    const shapes = (options: RandomProjectionOptions) =>
      Object.fromEntries(
        Object.entries(randomProjection(options).init(start).factors).map(([k, f]) => [k, f.shape]),
      );
    expect(shapes({rank: 2})).toEqual({a: [5, 2], b: [2, 9]});
    expect(shapes({rank: 2, sides: 'left'})).toEqual({b: [2, 9]});
    expect(shapes({rank: 2, sides: 'right'})).toEqual({a: [5, 2]});
    const {frozen} = randomProjection().init(start);
    expect(Object.keys(frozen!)).toEqual(['seed', 'shape']);
    expect(values(frozen!['seed']!)[0]! >>> 0).toBe(0x89abcdef);
  });

  test('trains, with another subspace at every step', () => {
    const x = matrix([24, 12], 3);
    const y = tf.matMul(x, matrix([12, 10], 4));
    for (const options of forms.filter(({unbiased}) => unbiased !== false)) {
      const weight = tf.variable(matrix([12, 10], 5));
      const loss = () => tf.mean(tf.squaredDifference(tf.matMul(x, weight), y)) as tf.Scalar;
      const first = values(loss())[0]!;
      const optimizer = projected(tf.train.sgd(0.5), anyway(options), all);
      for (let step = 0; step < 80; step++) optimizer.minimize(loss);
      expect(values(loss())[0]!, JSON.stringify(options)).toBeLessThan(0.5 * first);
      optimizer.dispose();
      weight.dispose();
    }
    expect(trained(anyway({rank: 2}), {rate: 0.02})).toBeLessThan(0.7);
  });

  test('a run that is saved and loaded goes on as it would have', async () => {
    for (const sides of ['both', 'left'] as const) {
      expect(await interrupted(() => randomProjection({rank: 3, sides}))).toBe(0);
    }
    const options = {refresh: every(3), moments: 'transport'} as const;
    expect(await interrupted(() => randomProjection({rank: 3, sides: 'right'}), options)).toBe(0);
  });
});
