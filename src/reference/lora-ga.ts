/**
 * LoRA-GA (arXiv:2407.05000): where A and B start, seen from the gradient G = U S V'.
 *
 *     A = c U_I     B = c V_J'     I and J disjoint, together the first 2r
 */
import {formula} from './formula.js';
import type {LoraFactors} from './lora.js';
import {frobenius, transpose, type Matrix} from './matrix.js';
import {chosen, svd} from './singular.js';

const restOf = formula("A * A' * G + G * B' * B - G");
const truncated = formula('U * S');

/** Which of the first 2r directions A takes, and which B. */
export interface Halves {
  left: readonly number[];
  right: readonly number[];
}

/** The three fixed choices for rank r; `random` is any other split. */
export function halves(direction: 'arb2r' | 'a2rbr' | 'arbr', rank: number): Halves {
  const all = Array.from({length: 2 * rank}, (_, i) => i);
  if (direction === 'arb2r') return {left: all.slice(0, rank), right: all.slice(rank)};
  if (direction === 'a2rbr') return {left: all.slice(rank), right: all.slice(0, rank)};
  return {left: all.filter(i => i % 2 === 1), right: all.filter(i => i % 2 === 0)};
}

/** c = n^(1/4) / sqrt(gamma): with s = alpha / sqrt(r), the deviation of s x A B is alpha / gamma. */
export function stableLength(n: number, gamma: number): number {
  return n ** 0.25 / Math.sqrt(gamma);
}

/** A = c U_I [m, r], B = c V_J' [r, n]. */
export function loraGA(gradient: Matrix, {left, right}: Halves, length: number): LoraFactors {
  const {u, v} = svd(gradient);
  return {a: chosen(u, left, () => length), b: transpose(chosen(v, right, () => length))};
}

/** ||A A' G + G B' B - G||^2 for A and B of length 1: what one step of rank r misses of the gradient. */
export function missed(gradient: Matrix, {a, b}: LoraFactors): number {
  return frobenius(restOf({A: a, B: b, G: gradient})) ** 2;
}

/** The first step of SGD is -eta zeta G_2r: zeta = s^2 c^2. */
export function firstStepScale(scale: number, length: number): number {
  return scale ** 2 * length ** 2;
}

/** G_k, the best approximation of rank k. */
export function best(gradient: Matrix, rank: number): Matrix {
  const {u, s, v} = svd(gradient);
  const all = Array.from({length: Math.min(rank, s.length)}, (_, i) => i);
  return truncated({U: chosen(u, all, i => s[i]!), S: transpose(chosen(v, all))});
}

/** What PEFT's port computes: A not scaled, B times the singular values of the gradient. */
export function loraGAOfPeft(gradient: Matrix, {left, right}: Halves, length: number): LoraFactors {
  const {u, s, v} = svd(gradient);
  return {a: chosen(u, left), b: transpose(chosen(v, right, i => length * s[i]!))};
}
