/**
 * The Kronecker product as an adapter: LoKr (arXiv:2309.14859).
 *
 *     W = W0 + s kron(C, D)      C [m1, n1]   D [m2, n2], or D1 D2 of rank r      m = m1 m2, n = n1 n2
 *
 * Block (a, b) of kron(C, D) is C_ab D. As nothing in the notation of `formula` says "block", this one is in loops.
 */
import {formula} from './formula.js';
import {shapeOf, zeros, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `c` [m1, n1], `d` [m2, n2]. */
export type KroneckerFactors = {c: Matrix; d: Matrix};

/** `c` [m1, n1], `d1` [m2, r], `d2` [r, n2]. */
export type LowKroneckerFactors = {c: Matrix; d1: Matrix; d2: Matrix};

const scaled = formula('s * X');
const minus = formula('X - Y');
const product = formula('D1 * D2');
const gradientOfD1 = formula("D * D2'");
const gradientOfD2 = formula("D1' * D");

/** kron(C, D)_(a m2 + i, b n2 + j) = C_ab D_ij;  [m1, n1], [m2, n2] -> [m1 m2, n1 n2]. */
export function kron(c: Matrix, d: Matrix): Matrix {
  const [[m1, n1], [m2, n2]] = [shapeOf(c), shapeOf(d)];
  const result = zeros([m1 * m2, n1 * n2]);
  each(c, d, (a, b, i, j) => result.set(a * m2 + i, b * n2 + j, c.get(a, b) * d.get(i, j)));
  return result;
}

/** The adjoint of kron's derivative: g_ab = sum_ij G_(ai, bj) D_ij and h_ij = sum_ab G_(ai, bj) C_ab. */
function adjoint(c: Matrix, d: Matrix, gradient: Matrix): KroneckerFactors {
  const [m2, n2] = shapeOf(d);
  const [g, h] = [zeros(shapeOf(c)), zeros([m2, n2])];
  each(c, d, (a, b, i, j) => {
    const G = gradient.get(a * m2 + i, b * n2 + j);
    g.set(a, b, g.get(a, b) + G * d.get(i, j));
    h.set(i, j, h.get(i, j) + G * c.get(a, b));
  });
  return {c: g, d: h};
}

export function kronecker(scale: number): Parametrization<KroneckerFactors> {
  const delta = ({c, d}: KroneckerFactors) => scaled({s: scale, X: kron(c, d)});
  return {
    delta,
    pullback: ({c, d}, gradient) => {
      const {c: g, d: h} = adjoint(c, d, gradient);
      return {c: scaled({s: scale, X: g}), d: scaled({s: scale, X: h})};
    },
    lift: (factors, next) => minus({X: delta(next), Y: delta(factors)}),
  };
}

/** The same with D = D1 D2. */
export function lowKronecker(scale: number): Parametrization<LowKroneckerFactors> {
  const whole = kronecker(scale);
  const merged = ({c, d1, d2}: LowKroneckerFactors) => ({c, d: product({D1: d1, D2: d2})});
  return {
    delta: factors => whole.delta(merged(factors)),
    pullback: (factors, gradient) => {
      const {c, d} = whole.pullback(merged(factors), gradient);
      const {d1, d2} = factors;
      return {c, d1: gradientOfD1({D: d, D2: d2}), d2: gradientOfD2({D1: d1, D: d})};
    },
    lift: (factors, next) => whole.lift(merged(factors), merged(next)),
  };
}

function each(c: Matrix, d: Matrix, visit: (a: number, b: number, i: number, j: number) => void): void {
  const [[m1, n1], [m2, n2]] = [shapeOf(c), shapeOf(d)];
  for (let a = 0; a < m1; a++) {
    for (let b = 0; b < n1; b++) {
      for (let i = 0; i < m2; i++) for (let j = 0; j < n2; j++) visit(a, b, i, j);
    }
  }
}
