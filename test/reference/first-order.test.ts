import {describe, expect, test} from 'vitest';
import {
  additiveProjection,
  columnLengths,
  columnSums,
  dora,
  filled,
  formula,
  frobenius,
  generator,
  hadamard,
  inner,
  kron,
  kronecker,
  orthogonalAdditive,
  randomMatrix,
  maxDifference,
  finiteDifferences,
  vera,
  type Factors,
  type Matrix,
  type Parametrization,
} from '../../src/reference/index.js';

/** What a step of SGD does to W, to first order in eta, against the formula on each method's page. */

const numbers = generator(11);
const draw = (m: number, n: number) => randomMatrix([m, n], numbers);
const moved = formula('X - eta * g');

/** (Phi(theta - eta g) - Phi(theta + eta g)) / -2 eta for g = DPhi* G: exact to eta^2. */
function firstOrder<F extends Factors>(p: Parametrization<F>, theta: F, G: Matrix): Matrix {
  const grads = p.pullback(theta, G);
  const at = (eta: number) =>
    p.delta(
      Object.fromEntries(Object.entries(theta).map(([k, X]) => [k, moved({X, eta, g: grads[k]!})])) as F,
    );
  return formula('(Y - X) / (2 * eta)')({X: at(1e-5), Y: at(-1e-5), eta: 1e-5});
}

const expectSame = (got: Matrix, want: Matrix) =>
  expect(maxDifference(got, want) / Math.max(1, frobenius(want))).toBeLessThan(1e-8);

describe('H(G)', () => {
  test('hadamard: LoRA of the weighted gradient, weighted again', () => {
    const [a1, b1, a2, b2, G] = [draw(6, 2), draw(2, 5), draw(6, 2), draw(2, 5), draw(6, 5)];
    const H = formula(
      "s^2 * (((G .* (A2 * B2)) * B1' * B1 + A1 * A1' * (G .* (A2 * B2))) .* (A2 * B2) + ((G .* (A1 * B1)) * B2' * B2 + A2 * A2' * (G .* (A1 * B1))) .* (A1 * B1))",
    );
    const want = H({s: 1.5, A1: a1, B1: b1, A2: a2, B2: b2, G});
    expectSame(firstOrder(hadamard(1.5), {a1, b1, a2, b2}, G), want);
  });

  test('kronecker: kron(g_C, D) + kron(C, g_D), which is LoRA of rank 1 on the blocks', () => {
    const [c, d, G] = [draw(2, 3), draw(4, 2), draw(8, 6)];
    const g = kronecker(1.5).pullback({c, d}, G);
    const want = formula('s * (X + Y)')({s: 1.5, X: kron(g.c, d), Y: kron(c, g.d)});
    expectSame(firstOrder(kronecker(1.5), {c, d}, G), want);
  });

  test('vera: the sum of the gradient along r + n directions', () => {
    const [A, B, d, b, G] = [draw(6, 3), draw(3, 4), draw(1, 3), draw(1, 4), draw(6, 4)];
    const outer = formula('X * Y');
    const add = formula('X + k * Y');
    const column = (x: Matrix, k: number) => formula("x * e'")({x, e: unit(k, x.shape[1]!)});
    const row = (x: Matrix, k: number) => formula('e * x')({x, e: unit(k, x.shape[0]!)});
    let want = filled([6, 4], 0);
    for (let k = 0; k < 3; k++) {
      const E = outer({X: column(A, k), Y: formula('X .* Y')({X: row(B, k), Y: b})});
      want = add({X: want, k: inner(G, E), Y: E});
    }
    const scaled = formula("A * ((d' * ones) .* B)")({A, B, d, ones: filled([1, 4], 1)});
    for (let j = 0; j < 4; j++) {
      const F = outer({X: column(scaled, j), Y: unit(j, 4)});
      want = add({X: want, k: inner(G, F), Y: F});
    }
    expectSame(firstOrder(vera(A, B), {d, b}, G), want);
  });

  test('dora: a projector along each column, LoRA of the rest across', () => {
    const [W0, a, b, G] = [draw(6, 4), draw(6, 2), draw(2, 4), draw(6, 4)];
    const magnitude = formula('abs(X) + 1')({X: draw(1, 4)});
    const [s, one] = [1.5, filled([6, 1], 1)];
    const V = formula('W0 + s * A * B')({W0, s, A: a, B: b});
    const U = formula('V ./ (one * l)')({V, one, l: columnLengths(V)});
    const q = formula('one * (mu ./ l)')({one, mu: magnitude, l: columnLengths(V)});
    const along = (X: Matrix) =>
      formula('U .* (one * c)')({U, one, c: columnSums(formula('U .* X')({U, X}))});
    const across = (X: Matrix) => formula('q .* (X - Y)')({q, X, Y: along(X)});
    const X = across(G);
    const rest = across(formula("s^2 * (A * A' * X + X * B' * B)")({s, A: a, B: b, X}));
    const want = formula('X + Y')({X: along(G), Y: rest});
    expectSame(firstOrder(dora(s, W0), {a, b, magnitude}, G), want);
  });

  test('additive, orthogonal: the projector, and its adjoint by finite differences', () => {
    const [a, b, G] = [draw(7, 3), draw(3, 5), draw(7, 5)];
    const p = orthogonalAdditive(1, 3, [7, 5]);
    expectSame(firstOrder(p, {a, b}, G), additiveProjection(3, G));
    const want = finiteDifferences(f => inner(G, p.delta(f)), {a, b});
    const got = p.pullback({a, b}, G);
    expect(Math.max(maxDifference(got.a, want.a), maxDifference(got.b, want.b))).toBeLessThan(1e-8);
  });
});

/** The k-th row of the identity, [1, size]. */
function unit(k: number, size: number): Matrix {
  const result = filled([1, size], 0);
  result.set(0, k, 1);
  return result;
}
