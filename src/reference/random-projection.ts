/**
 * A step of SGD through random matrices that are drawn for this step alone (Su Jianlin, kexue.fm/archives/9590).
 *
 *     W  [m, n]    A [m, r], B [r, n] random    eta  learning rate    s  a number
 *
 * With independent entries N(0, 1), E[A A'] = E[B' B] = r I, so the mean step is -2 r eta s^2 G: the source has s = 1 and
 * r = 1, hence -2 eta G. With s = 1 / sqrt(2 r) it is -eta G.
 */
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';

const step = formula("s * (A - eta * s * G * B') * (B - eta * s * A' * G) - s * A * B");
const asWritten = formula("(A - eta * G * B') * (B - eta * A' * G) - A * B");

/** The change of W, [m, n]. */
export function randomStep(eta: number, scale: number, a: Matrix, b: Matrix, gradient: Matrix): Matrix {
  return step({eta, s: scale, A: a, B: b, G: gradient});
}

/** The same as its source writes it. */
export function randomStepAsWritten(eta: number, a: Matrix, b: Matrix, gradient: Matrix): Matrix {
  return asWritten({eta, A: a, B: b, G: gradient});
}

/** s for which the mean step of Gaussian matrices is -eta G, where `sides` (1 or 2) of them are random. */
export function unbiasedGaussianScale(rank: number, sides: 1 | 2): number {
  return 1 / Math.sqrt(sides * rank);
}
