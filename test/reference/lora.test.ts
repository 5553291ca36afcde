import {describe, expect, it} from 'vitest';
import {
  adam,
  classicScale,
  filled,
  finiteDifferences,
  firstOrderUpdate,
  formula,
  frobenius,
  fromRows,
  full,
  generator,
  inner,
  liftAsDifference,
  lora,
  loraBackprop,
  maxDifference,
  quadratic,
  randomMatrix,
  rankStabilisedScale,
  sgdUpdate,
  symmetricWeight,
  toArray,
  transpose,
  zeros,
  type Factors,
  type LoraFactors,
  type Parametrization,
} from '../../src/reference/index.js';

const combine = formula('x * P + y * Q');
const minus = formula('P - Q');

/** [m, n, r], with r = 1, r = m, r above both, a row and a column among them. */
const shapes = [
  [6, 5, 2],
  [7, 4, 1],
  [3, 8, 3],
  [2, 3, 4],
  [1, 6, 1],
  [6, 1, 2],
] as const;

function draw([m, n, r]: readonly [number, number, number], seed = 1) {
  const numbers = generator(seed);
  const random = (rows: number, columns: number) => randomMatrix([rows, columns], numbers);
  const factors = (): LoraFactors => ({a: random(m, r), b: random(r, n)});
  return {w0: random(m, n), g: random(m, n), h: random(m, n), theta: factors(), next: factors()};
}

const innerOf = <F extends Factors>(p: F, q: F) =>
  Object.keys(p).reduce((sum, name) => sum + inner(p[name]!, q[name]!), 0);

/** DPhi v by central differences of Delta, which is exact to rounding for a bilinear Delta. */
function tangent<F extends Factors>(p: Parametrization<F>, theta: F, v: F) {
  const at = (h: number) =>
    p.delta(
      Object.fromEntries(
        Object.keys(theta).map(name => [name, combine({x: 1, P: theta[name]!, y: h, Q: v[name]!})]),
      ) as F,
    );
  return combine({x: 0.5, P: at(1), y: -0.5, Q: at(-1)});
}

describe('scales', () => {
  it('are alpha / r and alpha / sqrt(r)', () => {
    expect(classicScale(16, 4)).toBe(4);
    expect(rankStabilisedScale(16, 4)).toBe(8);
  });
});

describe('LoRA by hand', () => {
  // W0 = 0, s = 2, A = [1; 2], B = [3 4], G = [1 0; 0 1]
  const theta = {a: fromRows([[1], [2]]), b: fromRows([[3, 4]])};
  const g = fromRows([
    [1, 0],
    [0, 1],
  ]);

  it('delta = 2 [1; 2] [3 4]', () => {
    expect(toArray(lora(2).delta(theta))).toEqual([
      [6, 8],
      [12, 16],
    ]);
  });

  it("pullback = 2 G B' and 2 A' G", () => {
    const {a, b} = lora(2).pullback(theta, g);
    expect(toArray(a)).toEqual([[6], [8]]);
    expect(toArray(b)).toEqual([[2, 4]]);
  });

  it('one SGD step with eta = 0.5', () => {
    // A' = [1; 2] - [3; 4] = [-2; -2], B' = [3 4] - [1 2] = [2 2], 2 A' B' = [-8 -8; -8 -8], less [6 8; 12 16]
    expect(toArray(sgdUpdate(0.5, 2, theta, g))).toEqual([
      [-14, -16],
      [-20, -24],
    ]);
    // -0.5 * 4 * ([1 2; 2 4] + [9 12; 12 16])
    expect(toArray(firstOrderUpdate(0.5, 2, theta, g))).toEqual([
      [-20, -28],
      [-28, -40],
    ]);
  });
});

describe.each(shapes)('LoRA on [%i, %i] at rank %i', (...shape) => {
  const {w0, g, h, theta, next} = draw(shape);
  const p = lora(0.7);

  it('O1: the pullback is the adjoint of the tangent map', () => {
    for (const [parametrization, at, v] of [
      [p, theta, next],
      [full, {delta: g}, {delta: h}],
    ] as [Parametrization<Factors>, Factors, Factors][]) {
      const [left, right] = [
        inner(w0, tangent(parametrization, at, v)),
        innerOf(parametrization.pullback(at, w0), v),
      ];
      expect(Math.abs(left - right)).toBeLessThan(1e-13 * (1 + Math.abs(left)));
    }
  });

  it('O1 and O2: the pullback is linear in G, so it may be averaged before or after', () => {
    const mean = p.pullback(theta, combine({x: 0.5, P: g, y: 0.5, Q: h}));
    const [first, second] = [p.pullback(theta, g), p.pullback(theta, h)];
    expect(maxDifference(mean.a, combine({x: 0.5, P: first.a, y: 0.5, Q: second.a}))).toBeLessThan(1e-14);
    expect(maxDifference(mean.b, combine({x: 0.5, P: first.b, y: 0.5, Q: second.b}))).toBeLessThan(1e-14);
  });

  it('O4: transposing W, G and the factors transposes everything', () => {
    const turned = {a: transpose(theta.b), b: transpose(theta.a)};
    const straight = p.pullback(theta, g);
    const across = p.pullback(turned, transpose(g));
    expect(maxDifference(transpose(across.a), straight.b)).toBeLessThan(1e-15);
    expect(maxDifference(transpose(across.b), straight.a)).toBeLessThan(1e-15);
  });

  it('lift = difference of the deltas', () => {
    const expected = minus({P: p.delta(next), Q: p.delta(theta)});
    expect(maxDifference(p.lift(theta, next), expected)).toBeLessThan(1e-14);
    expect(maxDifference(liftAsDifference(0.7, theta, next), expected)).toBeLessThan(1e-14);
  });

  it("O8: one SGD step moves W by the formula's amount", () => {
    const eta = 0.1;
    const {a, b} = p.pullback(theta, g);
    const stepped = {
      a: combine({x: 1, P: theta.a, y: -eta, Q: a}),
      b: combine({x: 1, P: theta.b, y: -eta, Q: b}),
    };
    const formulaSays = sgdUpdate(eta, 0.7, theta, g);
    expect(maxDifference(p.lift(theta, stepped), formulaSays)).toBeLessThan(3e-15);
    expect(maxDifference(liftAsDifference(0.7, theta, stepped), formulaSays)).toBeLessThan(3e-15);
  });

  it('the first-order update is what remains for a small eta', () => {
    const gap = (eta: number) =>
      maxDifference(sgdUpdate(eta, 0.7, theta, g), firstOrderUpdate(eta, 0.7, theta, g));
    expect(gap(1e-3) / gap(5e-4)).toBeCloseTo(4, 6); // the rest is eta^2 exactly
  });

  it('O11: with B = 0, g_A = 0 and the first change is -eta s^2 A A^T G', () => {
    const start = {a: theta.a, b: zeros([shape[2], shape[1]])};
    expect(frobenius(p.pullback(start, g).a)).toBe(0);
    const expected = formula("-eta * s^2 * A * A' * G")({eta: 0.1, s: 0.7, A: theta.a, G: g});
    expect(maxDifference(sgdUpdate(0.1, 0.7, start, g), expected)).toBeLessThan(1e-14);
  });

  it('O12: with A = B = 0 both gradients vanish and no optimizer moves: a dead point', () => {
    const dead = {a: zeros([shape[0], shape[2]]), b: zeros([shape[2], shape[1]])};
    const gradients = p.pullback(dead, g);
    expect(frobenius(gradients.a)).toBe(0);
    expect(frobenius(gradients.b)).toBe(0);
    expect(frobenius(adam({learningRate: 1}).step(dead.a, gradients.a))).toBe(0);
  });

  it('a symmetric start leaves W where it was', () => {
    expect(maxDifference(symmetricWeight(0.7, w0, theta, theta), w0)).toBeLessThan(1e-14);
  });
});

describe('gradients of a loss', () => {
  const [m, n, t, r, scale] = [5, 4, 7, 2, 1.5];
  const problem = quadratic({m, n, t, seed: 4});
  const numbers = generator(5);
  const theta = {a: randomMatrix([m, r], numbers), b: randomMatrix([r, n], numbers)};
  const plus = formula('W + D');

  it('of the least-squares problem, by hand', () => {
    // X = Y = [1], W = [3], t = 1: loss = (3 - 1)^2 / 2 and slope = 3 - 1, for the problem's own X and Y
    const one = quadratic({m: 1, n: 1, t: 1, seed: 6});
    const [x, y] = [one.x.get(0, 0), one.y.get(0, 0)];
    expect(one.loss(fromRows([[3]]))).toBeCloseTo((3 * x - y) ** 2 / 2, 14);
    expect(one.gradient(fromRows([[3]])).get(0, 0)).toBeCloseTo(x * (3 * x - y), 14);
  });

  it('of the least-squares problem, by finite differences', () => {
    const {w} = finiteDifferences(({w}) => problem.loss(w), {w: problem.weight});
    expect(maxDifference(w, problem.gradient(problem.weight))).toBeLessThan(1e-9);
  });

  it('O10: with respect to A and B, by pullback, backpropagation and finite differences', () => {
    const merged = (factors: LoraFactors) => plus({W: problem.weight, D: lora(scale).delta(factors)});
    const pulled = lora(scale).pullback(theta, problem.gradient(merged(theta)));
    const backprop = loraBackprop(problem, problem.weight, scale)(theta);
    const measured = finiteDifferences(factors => problem.loss(merged(factors)), theta);
    for (const name of ['a', 'b'] as const) {
      expect(maxDifference(pulled[name], backprop[name])).toBeLessThan(1e-13);
      expect(maxDifference(pulled[name], measured[name])).toBeLessThan(1e-8);
    }
  });

  it('a gradient of zero pulls back to zero', () => {
    const {a, b} = lora(scale).pullback(theta, filled([m, n], 0));
    expect(frobenius(a) + frobenius(b)).toBe(0);
  });
});

describe('full', () => {
  const delta = randomMatrix([3, 2], generator(7));
  const g = randomMatrix([3, 2], generator(8));

  it('is the identity: idempotent, and no gradient is lost', () => {
    expect(maxDifference(full.pullback({delta}, g).delta, g)).toBe(0);
    expect(maxDifference(full.delta({delta}), delta)).toBe(0);
    expect(maxDifference(full.lift({delta}, {delta: g}), minus({P: g, Q: delta}))).toBe(0);
  });
});
