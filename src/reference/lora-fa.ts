/**
 * LoRA with A frozen (arXiv:2308.03303).
 *
 *     W = W0 + s A B      A [m, r] frozen   B [r, n] trained
 */
import {formula} from './formula.js';
import {inverse} from './inverse.js';
import type {Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `b` [r, n], up to the outputs. */
export type LoraFAFactors = {b: Matrix};

const deltaFormula = formula('s * A * B');
const gradientOfB = formula("s * A' * G");
const liftFormula = formula('s * A * (B1 - B)');
const gramFormula = formula("A' * A");
const scaled = formula('C * g / s^2');
const projectorFormula = formula("A * C * A'");

/** LoRA-FA for one frozen A [m, r]. */
export function loraFA(scale: number, a: Matrix): Parametrization<LoraFAFactors> {
  return {
    delta: ({b}) => deltaFormula({s: scale, A: a, B: b}),
    pullback: (_, gradient) => ({b: gradientOfB({s: scale, A: a, G: gradient})}),
    lift: ({b}, next) => liftFormula({s: scale, A: a, B: b, B1: next.b}),
  };
}

/** s^-2 (A' A)^-1 g: with it a step of SGD is s A dB = -eta Pi_A G. For A of full column rank. */
export function loraFAPreconditioned(scale: number, a: Matrix, gradient: Matrix): Matrix {
  return scaled({s: scale, C: inverse(gramFormula({A: a})), g: gradient});
}

/** Pi_A = A (A' A)^-1 A', [m, m]. For A of full column rank. */
export function columnProjector(a: Matrix): Matrix {
  return projectorFormula({A: a, C: inverse(gramFormula({A: a}))});
}
