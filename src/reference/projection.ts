/**
 * One-sided projections with a matrix that training does not move: Flora (arXiv:2402.03293) and GaLore
 * (arXiv:2403.03507) differ in where P comes from, not in the rule.
 *
 *     left    W = W0 + s P R      P [m, r]   R [r, n]
 *     right   W = W0 + s R P'     P [n, r]   R [m, r]
 */
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `r`, the gradient's coordinates in the subspace. */
export type ProjectedFactors = {r: Matrix};

/** The rule of the left side for a given P [m, r]. */
export function leftProjection(scale: number, p: Matrix): Parametrization<ProjectedFactors> {
  return {
    delta: ({r}) => leftDelta({s: scale, P: p, R: r}),
    pullback: (_, gradient) => ({r: leftGradient({s: scale, P: p, G: gradient})}),
    lift: ({r}, next) => leftLift({s: scale, P: p, R: r, R1: next.r}),
  };
}

/** The rule of the right side for a given P [n, r]. */
export function rightProjection(scale: number, p: Matrix): Parametrization<ProjectedFactors> {
  return {
    delta: ({r}) => rightDelta({s: scale, P: p, R: r}),
    pullback: (_, gradient) => ({r: rightGradient({s: scale, P: p, G: gradient})}),
    lift: ({r}, next) => rightLift({s: scale, P: p, R: r, R1: next.r}),
  };
}

/** The rule with a matrix on both sides, R [r, r]: W = W0 + s P R Q', P [m, r], Q [n, r]. */
export function twoSidedProjection(scale: number, p: Matrix, q: Matrix): Parametrization<ProjectedFactors> {
  return {
    delta: ({r}) => coreDelta({s: scale, P: p, R: r, Q: q}),
    pullback: (_, gradient) => ({r: coreGradient({s: scale, P: p, G: gradient, Q: q})}),
    lift: ({r}, next) => coreLift({s: scale, P: p, R: r, R1: next.r, Q: q}),
  };
}

/** A momentum of the left side in the coordinates of another P: P_new' P_old M. */
export function transported(next: Matrix, old: Matrix, momentum: Matrix): Matrix {
  return transport({P1: next, P: old, M: momentum});
}

const leftDelta = formula('s * P * R');
const leftGradient = formula("s * P' * G");
const leftLift = formula('s * P * (R1 - R)');
const rightDelta = formula("s * R * P'");
const rightGradient = formula('s * G * P');
const rightLift = formula("s * (R1 - R) * P'");
const coreDelta = formula("s * P * R * Q'");
const coreGradient = formula("s * P' * G * Q");
const coreLift = formula("s * P * (R1 - R) * Q'");
const transport = formula("P1' * P * M");
