/**
 * LoRA (arXiv:2106.09685) as a rule for an optimizer (Su Jianlin, kexue.fm/archives/9590).
 *
 *     W = W0 + s A B      W, G [m, n]   A [m, r]   B [r, n]   s a number
 *
 * A kernel is [in, out], so A leads in and B leads out: A is the transpose of PEFT's `lora_A.weight`.
 */
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `a` [m, r], from the inputs down to the rank; `b` [r, n], up to the outputs. */
export type LoraFactors = {a: Matrix; b: Matrix};

const deltaFormula = formula('s * A * B');
const gradientOfA = formula("s * G * B'");
const gradientOfB = formula("s * A' * G");
const difference = formula('s * (A1 * B1 - A * B)');
const products = formula('s * ((A1 - A) * B1 + A * (B1 - B))');
const symmetric = formula('W0 - s * A0 * B0 + s * A * B');
const firstOrder = formula("-eta * s^2 * (A * A' * G + G * B' * B)");
const exact = formula("-eta * s^2 * (A * A' * G + G * B' * B) + eta^2 * s^3 * G * B' * A' * G");

/** s = alpha / r (arXiv:2106.09685, section 4.1). */
export function classicScale(alpha: number, rank: number): number {
  return alpha / rank;
}

/** s = alpha / sqrt(r), which keeps the size of an update independent of the rank (arXiv:2312.03732). */
export function rankStabilisedScale(alpha: number, rank: number): number {
  return alpha / Math.sqrt(rank);
}

/** LoRA with the scale s. `lift` is the difference of two deltas, written without the cancellation. */
export function lora(scale: number): Parametrization<LoraFactors> {
  return {
    delta: ({a, b}) => deltaFormula({s: scale, A: a, B: b}),
    pullback: ({a, b}, gradient) => ({
      a: gradientOfA({s: scale, G: gradient, B: b}),
      b: gradientOfB({s: scale, A: a, G: gradient}),
    }),
    lift: ({a, b}, next) => products({s: scale, A: a, B: b, A1: next.a, B1: next.b}),
  };
}

/** s (A' B' - A B), literally: loses digits when the step is small beside A B, unlike `lora(s).lift`. */
export function liftAsDifference(scale: number, {a, b}: LoraFactors, next: LoraFactors): Matrix {
  return difference({s: scale, A: a, B: b, A1: next.a, B1: next.b});
}

/** W = W0 - s A0 B0 + s A B: neither factor need start at zero, and W still starts at W0 (Su Jianlin, kexue.fm/archives/9590). */
export function symmetricWeight(
  scale: number,
  base: Matrix,
  start: LoraFactors,
  {a, b}: LoraFactors,
): Matrix {
  return symmetric({s: scale, W0: base, A0: start.a, B0: start.b, A: a, B: b});
}

/**
 * What one SGD step on A and B does to W, [m, n], no power of eta left out (Su Jianlin, kexue.fm/archives/9590, with s put in):
 * -eta s^2 (A A' G + G B' B) + eta^2 s^3 G B' A' G.
 */
export function sgdUpdate(eta: number, scale: number, {a, b}: LoraFactors, gradient: Matrix): Matrix {
  return exact({eta, s: scale, A: a, B: b, G: gradient});
}

/** The part of `sgdUpdate` that is linear in eta: what LoRA puts in the place of -eta G. */
export function firstOrderUpdate(eta: number, scale: number, {a, b}: LoraFactors, gradient: Matrix): Matrix {
  return firstOrder({eta, s: scale, A: a, B: b, G: gradient});
}
