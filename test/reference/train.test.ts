import {describe, expect, it} from 'vitest';
import {
  adadelta,
  adagrad,
  adam,
  adamax,
  clipByGlobalNorm,
  formula,
  frobenius,
  fromRows,
  full,
  generator,
  globalNorm,
  lora,
  loraBackprop,
  maxDifference,
  momentum,
  product,
  quadratic,
  randomMatrix,
  rank,
  rmsprop,
  sgd,
  symmetricWeight,
  toArray,
  trainLayer,
  trainProjected,
  withDecay,
  zeros,
  type LoraFactors,
  type Matrix,
  type Optimizer,
} from '../../src/reference/index.js';

const [m, n, t, r, scale, steps] = [8, 6, 12, 2, 0.5, 50];
const problem = quadratic({m, n, t, seed: 11});
const numbers = generator(12);
const factors: LoraFactors = {a: randomMatrix([m, r], numbers), b: zeros([r, n])};
const symmetric: LoraFactors = {a: factors.a, b: randomMatrix([r, n], numbers)};
const minus = formula('P - Q');

const optimizers: [string, () => Optimizer][] = [
  ['sgd', () => sgd({learningRate: 0.05})],
  ['momentum', () => momentum({learningRate: 0.02})],
  ['nesterov', () => momentum({learningRate: 0.02, useNesterov: true})],
  ['adam', () => adam({learningRate: 0.02})],
  ['adamax', () => adamax({learningRate: 0.02, decay: 0.01})],
  ['rmsprop', () => rmsprop({learningRate: 0.005, momentum: 0.5})],
  ['adagrad', () => adagrad({learningRate: 0.1})],
  ['adadelta', () => adadelta({learningRate: 0.1})],
];

const run = (optimizer: () => Optimizer, start: LoraFactors) =>
  trainProjected({
    weight: problem.weight,
    gradient: problem.gradient,
    parametrization: lora(scale),
    factors: start,
    optimizer,
    steps,
  });

describe.each(optimizers)('%s', (_, optimizer) => {
  const outer = run(optimizer, factors);

  it('O7: training W through the projection = training A and B in the layer', () => {
    const inner = trainLayer({
      base: problem.weight,
      parametrization: lora(scale),
      factors,
      factorGradient: loraBackprop(problem, problem.weight, scale),
      optimizer,
      steps,
    });
    expect(maxDifference(outer.weight, inner.weight)).toBeLessThan(1e-13);
    expect(maxDifference(outer.factors.a, inner.factors.a)).toBeLessThan(1e-13);
    expect(maxDifference(outer.factors.b, inner.factors.b)).toBeLessThan(1e-13);
    expect(maxDifference(outer.weight, problem.weight)).toBeGreaterThan(1e-3); // something was trained
  });

  it('O7, clipped and from a symmetric start: the layer holds W0 - s A0 B0', () => {
    const shared = {parametrization: lora(scale), factors: symmetric, optimizer, steps, clipNorm: 0.5};
    const base = symmetricWeight(scale, problem.weight, symmetric, {a: factors.a, b: factors.b});
    const outer = trainProjected({...shared, weight: problem.weight, gradient: problem.gradient});
    const inner = trainLayer({...shared, base, factorGradient: loraBackprop(problem, base, scale)});
    expect(maxDifference(outer.weight, inner.weight)).toBeLessThan(1e-13);
  });

  it('O9: W - s A B + s A0 B0 is W0 after any number of steps', () => {
    for (const start of [factors, symmetric]) {
      const {weight, factors: end} = run(optimizer, start);
      const base = symmetricWeight(scale, weight, end, start);
      expect(maxDifference(base, problem.weight)).toBeLessThan(1e-13);
    }
  });

  it('O13: rank(W - W0) is r from B = 0 and 2r from a symmetric start', () => {
    expect(rank(minus({P: outer.weight, Q: problem.weight}))).toBe(r);
    expect(rank(minus({P: run(optimizer, symmetric).weight, Q: problem.weight}))).toBe(2 * r);
  });

  it('through `full` is the optimizer itself, applied to W', () => {
    const projected = trainProjected({
      weight: problem.weight,
      gradient: problem.gradient,
      parametrization: full,
      factors: {delta: zeros([m, n])},
      optimizer,
      steps,
    });
    const plain = optimizer();
    let weight = problem.weight;
    for (let k = 0; k < steps; k++) weight = plain.step(weight, problem.gradient(weight));
    expect(maxDifference(projected.weight, weight)).toBeLessThan(1e-13);
  });

  it('lowers the loss', () => {
    expect(problem.loss(outer.weight)).toBeLessThan(problem.loss(problem.weight));
  });
});

describe('O15: where weight decay leads when the gradient is zero', () => {
  const decay = {learningRate: 0.5, weightDecay: 1}; // halves the distance at every step
  const trained = (start: (name: 'a' | 'b') => Matrix | 0) =>
    trainProjected({
      weight: problem.weight,
      gradient: () => zeros([m, n]),
      parametrization: lora(scale),
      factors: symmetric,
      optimizer: name => withDecay(sgd({learningRate: 0.5}), {...decay, start: start(name)}),
      steps: 60,
    }).weight;

  it('towards zero: to W0 - s A0 B0', () => {
    const bare = minus({P: problem.weight, Q: lora(scale).delta(symmetric)});
    expect(
      maxDifference(
        trained(() => 0),
        bare,
      ),
    ).toBeLessThan(1e-13);
    expect(frobenius(minus({P: bare, Q: problem.weight}))).toBeGreaterThan(1);
  });

  it('towards the start: it stays at W0', () => {
    expect(
      maxDifference(
        trained(name => symmetric[name]),
        problem.weight,
      ),
    ).toBe(0);
  });

  it('towards A0, B0 from elsewhere: back to W0', () => {
    const moved = run(() => adam({learningRate: 0.02}), symmetric);
    const {weight} = trainProjected({
      weight: moved.weight,
      gradient: () => zeros([m, n]),
      parametrization: lora(scale),
      factors: moved.factors,
      optimizer: name => withDecay(sgd({learningRate: 0.5}), {...decay, start: symmetric[name]}),
      steps: 60,
    });
    expect(maxDifference(moved.weight, problem.weight)).toBeGreaterThan(0.1);
    expect(maxDifference(weight, problem.weight)).toBeLessThan(1e-13);
  });
});

describe('O16: (A, B / k, s k) walks the path of (A, B, s) if B has the right learning rate', () => {
  const k = 4; // a power of two, so that not even rounding differs
  const path = (s: number, start: LoraFactors, optimizer: (name: 'a' | 'b') => Optimizer) =>
    trainProjected({
      weight: problem.weight,
      gradient: problem.gradient,
      parametrization: lora(s),
      factors: start,
      optimizer,
      steps,
    }).path;
  const shrunk = {a: symmetric.a, b: formula('B / k')({B: symmetric.b, k})};
  const apart = (p: Matrix[], q: Matrix[]) => Math.max(...p.map((w, i) => maxDifference(w, q[i]!)));

  it('SGD: eta_B / k^2', () => {
    const eta = 0.01;
    const path1 = path(scale, symmetric, () => sgd({learningRate: eta}));
    const scaled = (etaB: number) =>
      path(scale * k, shrunk, name => sgd({learningRate: name === 'b' ? etaB : eta}));
    expect(apart(path1, scaled(eta / k ** 2))).toBe(0);
    expect(apart(path1, scaled(eta))).toBeGreaterThan(0.1);
  });

  it('Adam: eta_B / k, and epsilon_B k', () => {
    const options = {learningRate: 0.01, epsilon: 1e-7};
    const path1 = path(scale, symmetric, () => adam(options));
    const scaled = (b: typeof options) => path(scale * k, shrunk, name => adam(name === 'b' ? b : options));
    expect(apart(path1, scaled({learningRate: 0.01 / k, epsilon: 1e-7 * k}))).toBe(0);
    expect(apart(path1, scaled(options))).toBeGreaterThan(0.1);
  });
});

describe('clipping by the global norm', () => {
  const g = {a: fromRows([[3], [0]]), b: fromRows([[0, 4]])}; // together sqrt(9 + 16) = 5 long

  it('shortens all gradients alike', () => {
    expect(globalNorm(g)).toBe(5);
    const {a, b} = clipByGlobalNorm(g, 2.5);
    expect(toArray(a)).toEqual([[1.5], [0]]);
    expect(toArray(b)).toEqual([[0, 2]]);
  });

  it('leaves short ones alone', () => {
    expect(toArray(clipByGlobalNorm(g, 10).b)).toEqual([[0, 4]]);
    expect(globalNorm(clipByGlobalNorm({a: zeros([2, 2])}, 1))).toBe(0);
  });

  it('of (g_A, g_B) is not clipping of G', () => {
    const grad = problem.gradient(problem.weight);
    const limit = 0.1;
    const after = clipByGlobalNorm(lora(scale).pullback(symmetric, grad), limit);
    const before = lora(scale).pullback(symmetric, clipByGlobalNorm({g: grad}, limit).g);
    expect(globalNorm(after)).toBeCloseTo(limit, 12);
    expect(maxDifference(after.a, before.a)).toBeGreaterThan(1e-3);
  });
});

it('`product` of end factors gives the layer its W', () => {
  const end = run(() => sgd({learningRate: 0.05}), factors);
  const delta = product(end.factors.a, end.factors.b);
  const merged = formula('W + s * D')({W: problem.weight, s: scale, D: delta});
  expect(maxDifference(merged, end.weight)).toBeLessThan(1e-13);
});
