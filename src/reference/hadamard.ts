/**
 * The Hadamard product of two low-rank matrices: FedPara (arXiv:2108.06098), as an adapter LoHa.
 *
 *     W = W0 + s (A1 B1) o (A2 B2)      A1, A2 [m, r]   B1, B2 [r, n]   s a number
 */
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `a1`, `a2` [m, r] and `b1`, `b2` [r, n]. */
export type HadamardFactors = {a1: Matrix; b1: Matrix; a2: Matrix; b2: Matrix};

const deltaFormula = formula('s * (A1 * B1) .* (A2 * B2)');
const gradientOfA = formula("s * (G .* (C * D)) * B'");
const gradientOfB = formula("s * A' * (G .* (C * D))");
const minus = formula('X - Y');

export function hadamard(scale: number): Parametrization<HadamardFactors> {
  const delta = ({a1, b1, a2, b2}: HadamardFactors) =>
    deltaFormula({s: scale, A1: a1, B1: b1, A2: a2, B2: b2});
  return {
    delta,
    pullback: ({a1, b1, a2, b2}, G) => ({
      a1: gradientOfA({s: scale, G, C: a2, D: b2, B: b1}),
      b1: gradientOfB({s: scale, G, C: a2, D: b2, A: a1}),
      a2: gradientOfA({s: scale, G, C: a1, D: b1, B: b2}),
      b2: gradientOfB({s: scale, G, C: a1, D: b1, A: a2}),
    }),
    lift: (factors, next) => minus({X: delta(next), Y: delta(factors)}),
  };
}
