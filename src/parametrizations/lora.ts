import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, sub, transpose} from '@tensorflow/tfjs-core';
import {expectInit, startOf} from '../init/begin.js';
import type {Initializer} from '../init/initializer.js';
import {kaiming} from '../init/kaiming.js';
import {beginProduct, observing} from '../init/product.js';
import {changeOfProduct} from '../low-rank.js';
import {expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import type {Preconditioner} from '../precondition/preconditioner.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface LoraOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /** Where the factors start: ours, or a function of your own. Default `kaiming()`. */
  init?: Initializer;
  /** Bends the gradients of the factors: `riemannian()`, `loraPro()`, or a function of your own. Default: none. */
  precondition?: Preconditioner;
}

/**
 * W = W0 + s A B, A `[m, r]`, B `[r, n]`, s = alpha/r.   Adjoint: g_A = s G B^T, g_B = s A^T G.
 *
 * Trains r(m + n) numbers. When both factors start away from zero W = W0 - s A0 B0 + s A B.
 * Sources: arXiv:2106.09685; as a projection of the gradient, and the start away from zero:
 * Su Jianlin, kexue.fm/archives/9590.
 */
export const lora = /* @__PURE__ */ recipe('lora', (options: LoraOptions = {}): Additive<'a' | 'b'> => {
  expectOptions('lora', options, ['rank', 'alpha', 'rankStabilised', 'init', 'precondition']);
  const {rank = 8, alpha = rank, rankStabilised = false, init = kaiming(), precondition} = options;
  const s = scaling('lora', {rank, alpha, rankStabilised});
  expectInit('lora', init, 'kaiming() or (start) => ({a, b})');
  if (precondition !== undefined && typeof precondition !== 'function') {
    throw new TypeError('lora: precondition must be a function such as loraPro()');
  }
  const scaled = (tensor: Tensor): Tensor => (s === 1 ? tensor : mul(tensor, s));

  const start = (given: Start) => beginProduct('lora', init, given, {rank, scale: s});

  return {
    name: 'lora',
    rank,
    ...observing(init, rank),
    trained: ([m, n]) => rank * (m + n),
    init: start,
    delta: ({factors, frozen}) => {
      const [product, from] = [matMul(factors.a, factors.b), startOf(frozen, factors)];
      return scaled(from ? sub(product, matMul(from.a, from.b)) : product);
    },
    pullback: ({factors: {a, b}}, gradient) => ({
      a: scaled(gradient.rightMul(transpose(b) as Tensor2D)),
      b: scaled(gradient.leftMul(a as Tensor2D)),
    }),
    lift: ({factors}, {factors: next}) => {
      const {left, right} = changeOfProduct(factors, next);
      return matMul(scaled(left), right);
    },
    refresh: (_, given) => start(given),
    tangent: ({factors: {a, b}}) => ({form: 'sum', left: a as Tensor2D, right: b as Tensor2D}),
    ...(precondition && {
      precondition: (state, grads, gradient) => precondition(state, grads, gradient, s),
    }),
  };
});
