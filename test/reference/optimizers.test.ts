import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, it} from 'vitest';
import {
  adadelta,
  adagrad,
  adam,
  adamax,
  formula,
  fromRows,
  generator,
  matrix,
  maxDifference,
  momentum,
  quadratic,
  randomMatrix,
  rmsprop,
  sgd,
  toArray,
  withDecay,
  type Optimizer,
} from '../../src/reference/index.js';

const epsilon = 1e-7;
const pairs: [string, () => Optimizer, () => tf.Optimizer][] = [
  ['sgd', () => sgd({learningRate: 0.1}), () => tf.train.sgd(0.1)],
  ['momentum', () => momentum({learningRate: 0.05, momentum: 0.8}), () => tf.train.momentum(0.05, 0.8)],
  [
    'momentum, Nesterov',
    () => momentum({learningRate: 0.05, momentum: 0.8, useNesterov: true}),
    () => tf.train.momentum(0.05, 0.8, true),
  ],
  ['adam', () => adam({learningRate: 0.05, epsilon}), () => tf.train.adam(0.05, 0.9, 0.999, epsilon)],
  [
    'adam, large epsilon', // tells epsilon outside the root and after the bias correction from the other places
    () => adam({learningRate: 0.05, beta1: 0.8, beta2: 0.99, epsilon: 0.1}),
    () => tf.train.adam(0.05, 0.8, 0.99, 0.1),
  ],
  ['adamax', () => adamax({learningRate: 0.05, epsilon}), () => tf.train.adamax(0.05, 0.9, 0.999, epsilon)],
  [
    'adamax, decay and large epsilon',
    () => adamax({learningRate: 0.05, epsilon: 0.1, decay: 0.1}),
    () => tf.train.adamax(0.05, 0.9, 0.999, 0.1, 0.1),
  ],
  ['rmsprop', () => rmsprop({learningRate: 0.02, epsilon}), () => tf.train.rmsprop(0.02, 0.9, 0, epsilon)],
  [
    'rmsprop, momentum and large epsilon',
    () => rmsprop({learningRate: 0.02, decay: 0.8, momentum: 0.5, epsilon: 0.1}),
    () => tf.train.rmsprop(0.02, 0.8, 0.5, 0.1),
  ],
  ['adagrad', () => adagrad({learningRate: 0.1}), () => tf.train.adagrad(0.1)],
  [
    'adagrad, another start',
    () => adagrad({learningRate: 0.1, initialAccumulatorValue: 1e-3}),
    () => tf.train.adagrad(0.1, 1e-3),
  ],
  ['adadelta', () => adadelta({learningRate: 0.5, epsilon}), () => tf.train.adadelta(0.5, 0.95, epsilon)],
  [
    'adadelta, large epsilon',
    () => adadelta({learningRate: 0.5, rho: 0.8, epsilon: 0.1}),
    () => tf.train.adadelta(0.5, 0.8, 0.1),
  ],
];

beforeAll(async () => {
  await tf.setBackend('cpu');
});

/** The same gradients for both: only the rules can differ. */
function compare(ours: Optimizer, theirs: tf.Optimizer, gradients: ReturnType<typeof matrix>[]): number {
  let theta = randomMatrix([4, 3], generator(21));
  const variable = tf.variable(tf.tensor2d(toArray(theta)));
  for (const g of gradients) {
    theta = ours.step(theta, g);
    theirs.applyGradients({[variable.name]: tf.tensor2d(toArray(g))});
  }
  const difference = maxDifference(theta, matrix([4, 3], variable.dataSync()));
  variable.dispose();
  theirs.dispose();
  return difference;
}

describe('against TensorFlow.js, 50 steps, float32', () => {
  const numbers = generator(22);
  const gradients = Array.from({length: 50}, () => randomMatrix([4, 3], numbers));

  it.each(pairs)('%s', (_, ours, theirs) => {
    expect(compare(ours(), theirs(), gradients)).toBeLessThan(1e-5);
  });

  it("adagrad, gradients as small as the root of tfjs's own epsilon", () => {
    const small = gradients.map(g => formula('k * g')({k: 1e-4, g}));
    const ours = adagrad({learningRate: 0.1, initialAccumulatorValue: 0});
    expect(compare(ours, tf.train.adagrad(0.1, 1e-30), small)).toBeLessThan(1e-5);
  });

  it('rmsprop, centered', () => {
    const ours = rmsprop({learningRate: 0.02, momentum: 0.3, epsilon: 1e-3, centered: true});
    const theirs = tf.train.rmsprop(0.02, 0.9, 0.3, 1e-3, true);
    expect(compare(ours, theirs, gradients)).toBeLessThan(1e-5);
  });

  it('rmsprop, centered, is NaN at a zero gradient in both', () => {
    const zero = [fromRows(Array.from({length: 4}, () => [0, 0, 0]))];
    const ours = rmsprop({learningRate: 0.02, epsilon, centered: true});
    expect(compare(ours, tf.train.rmsprop(0.02, 0.9, 0, epsilon, true), zero)).toBeNaN();
  });
});

describe('a step by hand', () => {
  const theta = fromRows([[1]]);
  const g = fromRows([[2]]);
  const twice = (optimizer: Optimizer) => optimizer.step(optimizer.step(theta, g), g).get(0, 0);

  it('sgd: 1 - 2 * 0.1 * 2', () => expect(twice(sgd({learningRate: 0.1}))).toBeCloseTo(0.6, 14));

  it('momentum: v = 2, then 0.5 * 2 + 2 = 3', () => {
    expect(twice(momentum({learningRate: 0.1, momentum: 0.5}))).toBeCloseTo(1 - 0.2 - 0.3, 14);
  });

  it('Nesterov: g + v / 2 = 3, then 3.5', () => {
    const optimizer = momentum({learningRate: 0.1, momentum: 0.5, useNesterov: true});
    expect(twice(optimizer)).toBeCloseTo(1 - 0.3 - 0.35, 14);
  });

  it('adam on a constant gradient: m = 2, sqrt(v) = 2, each step is eta', () => {
    expect(twice(adam({learningRate: 0.1, epsilon: 0}))).toBeCloseTo(0.8, 14);
  });

  it('adamax: m / (1 - beta1^t) = 2, u = 2, each step is eta', () => {
    expect(twice(adamax({learningRate: 0.1, epsilon: 0}))).toBeCloseTo(0.8, 14);
  });

  it('rmsprop with decay 0.5: s = 2, then 3', () => {
    const expected = 1 - 0.2 / Math.sqrt(2) - 0.2 / Math.sqrt(3);
    expect(twice(rmsprop({learningRate: 0.1, decay: 0.5, epsilon: 0}))).toBeCloseTo(expected, 14);
  });

  it('centered, decay 0.5: s - m^2 = 2 - 1, then 3 - 2.25', () => {
    const expected = 1 - 0.2 - 0.2 / Math.sqrt(0.75);
    const optimizer = rmsprop({learningRate: 0.1, decay: 0.5, epsilon: 0, centered: true});
    expect(twice(optimizer)).toBeCloseTo(expected, 14);
  });

  it('adagrad from 0: a = 4, then 8', () => {
    const optimizer = adagrad({learningRate: 0.1, initialAccumulatorValue: 0, epsilon: 0});
    expect(twice(optimizer)).toBeCloseTo(1 - 0.1 - 0.2 / Math.sqrt(8), 14);
  });

  it('adagrad from 0, epsilon 5: sqrt(4 + 5), then sqrt(8 + 5)', () => {
    const optimizer = adagrad({learningRate: 0.3, initialAccumulatorValue: 0, epsilon: 5});
    expect(twice(optimizer)).toBeCloseTo(1 - 0.2 - 0.6 / Math.sqrt(13), 14);
  });

  it('adadelta, rho 0.5, epsilon 1: d = 2 from a = u = 0, then d = 2 from a = u = 2', () => {
    expect(twice(adadelta({learningRate: 0.1, rho: 0.5, epsilon: 1}))).toBeCloseTo(0.6, 14);
  });

  it("tfjs's adadelta is SGD: a = u at every step, so that rho and epsilon cancel", () => {
    const [one, other] = [adadelta({learningRate: 0.1, rho: 0.3, epsilon: 0.01}), sgd({learningRate: 0.1})];
    const numbers = generator(24);
    let [p, q] = [theta, theta];
    for (let k = 0; k < 50; k++) {
      const slope = randomMatrix([1, 1], numbers);
      [p, q] = [one.step(p, slope), other.step(q, slope)];
    }
    expect(maxDifference(p, q)).toBeLessThan(1e-14);
  });

  it('decoupled decay towards 3: 1 - 0.1 * 2 - 0.1 * 0.5 * (1 - 3)', () => {
    const options = {learningRate: 0.1, weightDecay: 0.5, start: fromRows([[3]])};
    expect(
      withDecay(sgd({learningRate: 0.1}), options)
        .step(theta, g)
        .get(0, 0),
    ).toBeCloseTo(0.9, 14);
  });
});

describe('state', () => {
  it('is in the open, belongs to one matrix, and theta and gradient are left alone', () => {
    const theta = fromRows([[1, -1]]);
    const g = fromRows([[2, 4]]);
    const optimizer = adam({learningRate: 0.1, beta1: 0.5, beta2: 0.75});
    optimizer.step(theta, g);
    expect(optimizer.state['t']).toBe(1);
    expect(toArray(optimizer.state['m'] as typeof g)).toEqual([[1, 2]]);
    expect(toArray(optimizer.state['v'] as typeof g)).toEqual([[1, 4]]);
    expect([toArray(theta), toArray(g)]).toEqual([[[1, -1]], [[2, 4]]]);
    expect(adam({learningRate: 0.1}).state).toEqual({t: 0, m: 0, v: 0});
  });

  it('trains: adam brings a least-squares loss down', () => {
    const problem = quadratic({m: 3, n: 2, t: 9, seed: 23});
    const optimizer = adam({learningRate: 0.1});
    let weight = problem.weight;
    for (let k = 0; k < 200; k++) weight = optimizer.step(weight, problem.gradient(weight));
    expect(problem.loss(weight)).toBeLessThan(problem.loss(problem.weight) / 2);
  });
});
