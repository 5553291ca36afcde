/**
 * VeRA (arXiv:2310.11454): two random frames that are never trained, and a number for each direction and each output.
 *
 *     W = W0 + A diag(d) B diag(b)      A [m, r], B [r, n] frozen      d [1, r]   b [1, n]
 *
 * As matrices do not broadcast here, diag(d) B is (d' 1) .* B, and so on: `ones` is [1, n], `down` is [r, 1].
 */
import {formula} from './formula.js';
import {filled, shapeOf, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `d` [1, r], `b` [1, n]. */
export type VeraFactors = {d: Matrix; b: Matrix};

const deltaFormula = formula("A * ((d' * ones) .* B .* (down * b))");
const gradientOfD = formula("((A' * G) .* B * b')'");
const gradientOfB = formula("d * ((A' * G) .* B)");
const minus = formula('X - Y');

export function vera(A: Matrix, B: Matrix): Parametrization<VeraFactors> {
  const [r, n] = shapeOf(B);
  const [ones, down] = [filled([1, n], 1), filled([r, 1], 1)];
  const delta = ({d, b}: VeraFactors) => deltaFormula({A, B, d, b, ones, down});
  return {
    delta,
    pullback: ({d, b}, G) => ({d: gradientOfD({A, G, B, b}), b: gradientOfB({A, G, B, d})}),
    lift: (factors, next) => minus({X: delta(next), Y: delta(factors)}),
  };
}
