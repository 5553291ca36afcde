import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeEach, describe, expect, test} from 'vitest';
import {
  type Additive,
  at,
  denseGradient,
  every,
  flora,
  type FloraOptions,
  lora,
  normal,
  projected,
  type State,
} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {checkLaws} from '../../src/testing/index.js';
import {fromTensor, relativeError, values} from '../helpers.js';
import {interrupted, matrix, type Shape, type Situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';
import {apart, cosine, gradientAt, meanOf, movedBy} from './subspace.js';

beforeEach(async () => {
  await tf.setBackend('cpu');
});

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('flora', number, what, residual, tolerance);
const all = {targets: () => true} as const;
/** Attached also where the rank saves nothing. */
const anyway = (options: FloraOptions) => {
  const {trained: _, ...p} = flora(options);
  return p;
};

/** P of a seed, drawn here and not by the method. */
const drawn = (size: number, rank: number, seed: number) =>
  normal([size, rank], seed, {std: 1 / Math.sqrt(rank)}) as tf.Tensor2D;

const isLeft = ({side = 'smaller'}: FloraOptions, [m, n]: Shape) =>
  ({smaller: m <= n, larger: m > n, left: true, right: false})[side];

const rule = (options: FloraOptions) => (given: Situation) => {
  const {rank = 8, scale = 1} = options;
  const [m, n] = given.weight.shape;
  const left = isLeft(options, [m, n]);
  const p = fromTensor(drawn(left ? m : n, rank, values(given.fresh.frozen!['seed']!)[0]!));
  const make = left ? reference.leftProjection : reference.rightProjection;
  return make(scale, p) as reference.Parametrization<reference.Factors>;
};

describe('flora', () => {
  const forms: FloraOptions[] = [
    {},
    {rank: 1},
    {rank: 3, side: 'larger', scale: 0.5},
    {rank: 20, side: 'left'},
    {rank: 4, side: 'right', scale: -2},
  ];

  test.each(forms)('equals the float64 reference: %o', options => {
    const worst = worstAgainst(flora(options), rule(options));
    oracle('reference', 'delta, pullback and lift against float64', worst, 1e-5);
  });

  test('what is kept is the seed, 32 bits of it, the shape, and R on the side that was asked for', () => {
    const begin = (options: FloraOptions, [m, n]: Shape, seed: number) => {
      const weight = matrix([m, n], 1);
      return flora(options).init({weight, gradient: denseGradient(weight, [m, n]), seed});
    };
    const {factors, frozen} = begin({rank: 2}, [5, 9], 0xfedcba98);
    expect(Object.keys(frozen!)).toEqual(['seed', 'shape']);
    expect(frozen!['seed']).toMatchObject({dtype: 'int32', shape: []});
    expect(values(frozen!['seed']!)[0]! >>> 0).toBe(0xfedcba98);
    expect(factors.r.shape).toEqual([2, 9]);
    const shape = (side: FloraOptions['side'], of: Shape) =>
      begin({rank: 2, ...(side && {side})}, of, 1).factors.r.shape;
    expect(shape('smaller', [9, 5])).toEqual([9, 2]);
    expect(shape('smaller', [5, 5])).toEqual([2, 5]);
    expect(shape('larger', [9, 5])).toEqual([2, 5]);
    expect(shape('left', [9, 5])).toEqual([2, 5]);
    expect(shape('right', [5, 9])).toEqual([5, 2]);
  });

  test('O30: P P^T G is G in the mean, with the noise and the length of Gaussian matrices', () => {
    const [m, n, r] = [12, 15, 4];
    const {sigmas, noise, length} = meanOf(flora({rank: r}), matrix([m, n], 1));
    oracle('O30', 'E[P P^T G] = G, in standard errors', sigmas, 4);
    oracle(
      'O30, noise',
      'E||P P^T G - G||^2 = (m + 1)/r ||G||^2, in standard errors',
      Math.abs(noise.mean - (m + 1) / r) / noise.error,
      4,
    );
    oracle(
      'O30, length',
      'E||P P^T G||^2 = (m + r + 1)/r ||G||^2, in standard errors',
      Math.abs(length.mean - (m + r + 1) / r) / length.error,
      4,
    );
    // The bounds are sharp enough to tell Gaussian matrices from orthonormal ones, whose noise is m/r - 1.
    expect(Math.abs(noise.mean - (m / r - 1)) / noise.error).toBeGreaterThan(4);
  });

  test('O33: the same seed and step give the same P on every backend', async () => {
    const runs: number[][] = [];
    for (const backend of ['cpu', 'wasm']) {
      await tf.setBackend(backend);
      const weight = matrix([6, 9], 1);
      const p = flora({rank: 3});
      const {frozen = {}} = p.init({weight, gradient: denseGradient(weight, [6, 9]), seed: -5});
      const r = tf.concat([tf.eye(3), tf.zeros([3, 6])], 1);
      runs.push(values(tf.slice(p.delta({factors: {r}, frozen}), [0, 0], [6, 3])));
      expect(runs.at(-1)).toEqual(values(drawn(6, 3, -5)));
    }
    oracle('O33', 'P on cpu and on wasm, bit for bit', relativeError(runs[0]!, runs[1]!), 0);
  });

  test('O34: without a renewal, momentum in the subspace is P P^T of momentum in full', () => {
    const gradients = [0, 1, 2, 3, 4, 5].map(step => gradientAt([6, 10], step));
    const p = flora({rank: 3});
    const optimizer = projected(tf.train.momentum(0.1, 0.9), p, {...all, seed: 3});
    const weight = tf.variable(tf.zeros([6, 10]), true, 'o34');
    for (const gradient of gradients) optimizer.applyGradients({[weight.name]: gradient});
    const {seed} = optimizer.attached[0]!.frozen;
    const P = drawn(6, 3, values(seed!)[0]!);
    const full = movedBy(tf.train.momentum(0.1, 0.9), gradients);
    const residual = apart(weight, tf.matMul(P, tf.matMul(P, full, true)));
    oracle('O34', 'W - W0 = P P^T (W - W0 of momentum without a projection)', residual, 1e-6);
    optimizer.dispose();
  });

  /** The momentum decompressed before a renewal and after it: a step without a gradient moves along it. */
  function acrossRenewal(p: Additive<'r'>, shape: Shape): number {
    const weight = tf.variable(tf.zeros([...shape]), true, 'o35');
    const optimizer = projected(tf.train.momentum(1, 0.9), p, {...all, refresh: at([2])});
    const moves = [gradientAt(shape, 0), tf.zeros([...shape]), tf.zeros([...shape])].map(gradient => {
      const before = weight.clone();
      optimizer.applyGradients({[weight.name]: gradient});
      return tf.sub(weight, before);
    });
    const result = cosine(moves[1]!, moves[2]!);
    optimizer.dispose();
    weight.dispose();
    return result;
  }

  test('O35: momentum survives a renewal, as far as random subspaces can have something in common', () => {
    const [shape, rank]: [Shape, number] = [[200, 300], 32];
    const p = flora({rank});
    const got = acrossRenewal(p, shape);
    // E<x, P P^T x> = 1 and E||P P^T x||^2 = (m + r + 1)/r for a unit x: about this.
    const expected = Math.sqrt(rank / (200 + rank + 1));
    oracle(
      'O35',
      'cosine of the momentum across a renewal = sqrt(r/(m + r + 1))',
      Math.abs(got - expected),
      0.05,
    );
    // Flora's optax code moves from the old matrix to the old one, and only then takes the new (section 3.10).
    const stale: Additive<'r'> = {...p, transport: state => p.transport!(state, state)};
    expect(Math.abs(acrossRenewal(stale, shape))).toBeLessThan(0.05);
    const small = flora({rank: 3});
    const broken = checkLaws({...small, transport: (state: State<'r'>) => small.transport!(state, state)});
    expect(broken.filter(({holds}) => !holds).map(({law}) => law)).toContain('transport');
    const tall = acrossRenewal(flora({rank}), [300, 200]);
    expect(Math.abs(tall - expected)).toBeLessThan(0.05);
  });

  test('O35: the momentum after a renewal is P_new^T P_old m', () => {
    const weight = tf.variable(tf.zeros([5, 7]), true, 'o35-exact');
    const inner = tf.train.momentum(0.5, 1);
    const optimizer = projected(inner, flora({rank: 3}), {...all, refresh: every(1)});
    const G = gradientAt([5, 7], 0);
    optimizer.applyGradients({[weight.name]: G});
    const seedOf = () => values(optimizer.attached[0]!.frozen['seed']!)[0]!;
    const old = drawn(5, 3, seedOf());
    const before = weight.clone();
    optimizer.applyGradients({[weight.name]: tf.zerosLike(G)});
    const next = drawn(5, 3, seedOf());
    expect(values(next)).not.toEqual(values(old));
    const m = reference.product(reference.transpose(fromTensor(old)), fromTensor(G));
    const carried = reference.transported(fromTensor(next), fromTensor(old), m);
    const wanted = reference.formula('-eta * P * M')({eta: 0.5, P: fromTensor(next), M: carried});
    const residual = reference.maxDifference(fromTensor(tf.sub(weight, before)), wanted);
    oracle('O35, exact', 'the step along the transported momentum, against float64', residual, 1e-5);
    optimizer.dispose();
  });

  test('O36: LoRA from B = 0 is, but for eta^3, this projection of the sum of the gradients', () => {
    const shape: Shape = [8, 10];
    const rank = 3;
    const P = drawn(8, rank, 4);
    const gradients = Array.from({length: 6}, (_, step) => gradientAt(shape, step));
    const total = tf.addN(gradients);
    const projection = tf.matMul(P, tf.matMul(P, total, true));
    /** W_T - W0 + eta P P^T sum G. */
    const rest = (eta: number) => {
      const p = lora({rank, init: () => ({a: P})});
      const {trained: _, ...anyShape} = p;
      const moved = movedBy(projected(tf.train.sgd(eta), anyShape, all), gradients);
      return tf.norm(tf.add(moved, tf.mul(projection, eta))).dataSync()[0]!;
    };
    const ratio = rest(0.04) / rest(0.02);
    expectOracle(
      'lora',
      'O36',
      'halving eta divides the distance to -eta A0 A0^T sum G by 8',
      Math.abs(ratio / 8 - 1),
      0.02,
    );

    // Flora is that limit itself: with P held, W - W0 = -eta P P^T sum G, to rounding and for any eta.
    const weight = tf.variable(tf.zeros([...shape]), true, 'o36');
    const optimizer = projected(tf.train.sgd(0.3), flora({rank}), all);
    for (const gradient of gradients) optimizer.applyGradients({[weight.name]: gradient});
    const own = drawn(8, rank, values(optimizer.attached[0]!.frozen['seed']!)[0]!);
    const wanted = tf.mul(tf.matMul(own, tf.matMul(own, total, true)), -0.3);
    oracle('O36', 'W - W0 = -eta P P^T sum G for SGD', apart(weight, wanted), 1e-6);
    optimizer.dispose();
  });

  test('O36 in float64: the same ratio, to three digits', () => {
    const at = (tensor: tf.Tensor) => fromTensor(tensor);
    const [P, G] = [at(drawn(8, 3, 4)), [0, 1, 2, 3].map(step => at(gradientAt([8, 10], step)))];
    const rest = (eta: number) => {
      const rule = reference.lora(1);
      let factors = {a: P, b: reference.zeros([3, 10])};
      let sum = reference.zeros([8, 10]);
      for (const g of G) {
        const {a, b} = rule.pullback(factors, g);
        const step = reference.formula('x - eta * y');
        factors = {a: step({x: factors.a, y: a, eta}), b: step({x: factors.b, y: b, eta})};
        sum = reference.formula('x + y')({x: sum, y: g});
      }
      return reference.frobenius(
        reference.formula("A * B + eta * P * P' * S")({A: factors.a, B: factors.b, P, S: sum, eta}),
      );
    };
    expectOracle(
      'lora',
      'O36, float64',
      'the same in float64',
      Math.abs(rest(0.002) / rest(0.001) / 8 - 1),
      1e-4,
    );
  });

  test('renews by itself, transports, and refuses to keep', () => {
    const {renewal} = flora();
    expect([0, 999, 1000, 1500, 2000].filter(renewal!.refresh)).toEqual([1000, 2000]);
    expect(renewal!.moments).toBe('transport');
    expect(() => projected(tf.train.adam(0.1), flora(), {moments: 'keep'})).toThrow(
      /'keep' makes no sense for flora with Adam: a new random matrix.*'transport'/,
    );
    expect(() => projected(tf.train.sgd(0.1), flora(), {moments: 'keep'})).not.toThrow();
  });

  test.each([
    [{rank: 0}, /flora: rank must be/],
    [{side: 'top'}, /flora: side must be 'smaller' or 'larger'/],
    [{scale: 0}, /flora: scale must be a number other than 0/],
    [{alpha: 2}, /unknown option 'alpha'/],
  ])('refuses %o', (options, message) => {
    expect(() => flora(options as never)).toThrow(message);
  });

  test('trains: a renewal every few steps, each inner optimizer that has a transport', () => {
    expect(trained(flora({rank: 6}))).toBeLessThan(0.5);
    expect(trained(flora({rank: 6, side: 'right'}))).toBeLessThan(0.5);
    const {steps, shape} = {steps: 60, shape: [12, 10] as Shape};
    const x = matrix([24, 12], 3);
    const y = tf.matMul(x, matrix(shape, 4));
    for (const inner of [
      tf.train.sgd(0.02),
      tf.train.momentum(0.005, 0.9),
      tf.train.adam(0.05, 0.9, 0.999, 1e-7),
      tf.train.adamax(0.05, 0.9, 0.999, 1e-7),
      tf.train.rmsprop(0.02, 0.9, 0, 1e-7),
      tf.train.adagrad(0.3),
    ]) {
      const weight = tf.variable(matrix(shape, 5));
      const loss = () => tf.mean(tf.squaredDifference(tf.matMul(x, weight), y)) as tf.Scalar;
      const first = values(loss())[0]!;
      const optimizer = projected(inner, anyway({rank: 4}), {...all, refresh: every(10)});
      for (let step = 0; step < steps; step++) optimizer.minimize(loss);
      expect(values(loss())[0]!, inner.getClassName()).toBeLessThan(0.7 * first);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('a run that is saved and loaded goes on as it would have', async () => {
    for (const side of ['left', 'right'] as const) {
      expect(await interrupted(() => flora({rank: 3, side}), {refresh: every(2)})).toBe(0);
    }
  });
});
