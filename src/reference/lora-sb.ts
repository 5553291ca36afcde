/**
 * A small square between frozen frames (LoRA-SB, arXiv:2411.19557).
 *
 *     W = W0 + s U R V'      U [m, r], V [n, r] frozen   R [r, r] trained
 */
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

export type LoraSBFactors = {r: Matrix};

const deltaFormula = formula("s * U * R * V'");
const gradientOfR = formula("s * U' * G * V");
const liftFormula = formula("s * U * (R1 - R) * V'");

/** For the frames U and V. */
export function loraSB(scale: number, u: Matrix, v: Matrix): Parametrization<LoraSBFactors> {
  return {
    delta: ({r}) => deltaFormula({s: scale, U: u, R: r, V: v}),
    pullback: (_, gradient) => ({r: gradientOfR({s: scale, U: u, G: gradient, V: v})}),
    lift: ({r}, next) => liftFormula({s: scale, U: u, R1: next.r, R: r, V: v}),
  };
}
