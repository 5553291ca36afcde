import type {Tensor2D} from '@tensorflow/tfjs-core';
import {add, matMul, mul, neg, sub, transpose, zerosLike} from '@tensorflow/tfjs-core';
import {gramBasis} from '../linalg/gram-basis.js';
import {inverseOf, sylvester} from '../linalg/sylvester.js';
import {expectOneOf, expectOptions} from '../options.js';
import {recipe} from '../recipe.js';
import type {Preconditioner} from './preconditioner.js';

export interface LoraProOptions {
  /** Which of all pairs with the same change of W: the shortest, 'minimal', or the one with X = 0, 'zero'. Default 'minimal'. */
  gauge?: 'minimal' | 'zero';
}

/**
 * The directions along which the product `s A B` follows the full gradient best, `min ||s dA B + s A dB - G||_F`:
 *
 *     dA = s^-2 g_A (B B^T)^-1 + A X        dB = s^-2 (A^T A)^-1 g_B (I - Pi_B) - X B
 *
 * W changes by the orthogonal projection of G on the tangent space, `Pi_A G + G Pi_B - Pi_A G Pi_B`, for every X. The X of
 * the shortest dA, dB solves `A^T A X + X B B^T = -s^-2 A^T g_A (B B^T)^-1`. Inverses are pseudo-inverses, so factors at
 * zero need no rule of their own. Source: arXiv:2407.18242.
 */
export const loraPro = /* @__PURE__ */ recipe('loraPro', (options: LoraProOptions = {}): Preconditioner => {
  expectOptions('loraPro', options, ['gauge']);
  const {gauge = 'minimal'} = options;
  expectOneOf('loraPro: gauge', gauge, ['minimal', 'zero']);
  return ({factors}, grads, _, scale) => {
    const [a, b] = [factors.a as Tensor2D, factors.b as Tensor2D];
    const bT = transpose(b) as Tensor2D;
    const [left, right] = [gramBasis(a), gramBasis(bT)];
    const [inverseA, inverseB] = [inverseOf(left), inverseOf(right)];
    const ofA = mul(matMul(grads.a, inverseB), scale ** -2) as Tensor2D;
    // Where the rows of B span everything nothing is outside; a difference would leave rounding there.
    const spans = right.values.filter(value => value > 0).length === b.shape[1];
    const outside = spans
      ? zerosLike(grads.b)
      : sub(grads.b, matMul(matMul(matMul(grads.b, bT), inverseB), b));
    const ofB = mul(matMul(inverseA, outside), scale ** -2);
    if (gauge === 'zero') return {a: ofA, b: ofB};
    const x = sylvester(left, right, neg(matMul(transpose(a), ofA)) as Tensor2D);
    return {a: add(ofA, matMul(a, x)), b: sub(ofB, matMul(x, b))};
  };
});
