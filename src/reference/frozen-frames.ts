/**
 * Methods that train between or beside singular vectors of W0 = U S V'.
 *
 *     LoRA-XS (arXiv:2405.17604)   W = W0 + s A R B     A = U_r S_r [m, r]   B = V_r' [r, n]   R [r, r] trained
 *     MiCA    (arXiv:2604.01694)   W = W0 + s A B       B = the last r rows of V' [r, n]       A [m, r] trained
 */
import {formula} from './formula.js';
import {transpose, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';
import {chosen, svd} from './singular.js';

const deltaBetween = formula('s * A * R * B');
const gradientBetween = formula("s * A' * G * B'");
const liftBetween = formula('s * A * (R1 - R) * B');
const deltaBeside = formula('s * A * B');
const gradientBeside = formula("s * G * B'");
const liftBeside = formula('s * (A1 - A) * B');

/** A = U_r S_r and B = V_r'. */
export function leadingFrames(weight: Matrix, rank: number): {A: Matrix; B: Matrix} {
  const {u, s, v} = svd(weight);
  const first = s.slice(0, rank).map((_, i) => i);
  return {A: chosen(u, first, i => s[i]!), B: transpose(chosen(v, first))};
}

/** The last r of the min(m, n) right singular vectors, as rows. */
export function trailingFrame(weight: Matrix, rank: number): Matrix {
  const {s, v} = svd(weight);
  return transpose(chosen(v, s.map((_, i) => i).slice(s.length - rank)));
}

/** LoRA-XS between any two frames. */
export function loraXS(scale: number, A: Matrix, B: Matrix): Parametrization<{r: Matrix}> {
  return {
    delta: ({r}) => deltaBetween({s: scale, A, R: r, B}),
    pullback: (_, G) => ({r: gradientBetween({s: scale, A, G, B})}),
    lift: ({r}, next) => liftBetween({s: scale, A, R: r, R1: next.r, B}),
  };
}

/** MiCA beside any frame. */
export function mica(scale: number, B: Matrix): Parametrization<{a: Matrix}> {
  return {
    delta: ({a}) => deltaBeside({s: scale, A: a, B}),
    pullback: (_, G) => ({a: gradientBeside({s: scale, G, B})}),
    lift: ({a}, next) => liftBeside({s: scale, A: a, A1: next.a, B}),
  };
}
