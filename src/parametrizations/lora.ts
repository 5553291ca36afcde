import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {concat, matMul, mul, sub, transpose, zeros} from '@tensorflow/tfjs-core';
import type {Initializer} from '../init/initializer.js';
import {kaiming} from '../init/kaiming.js';
import {expectNumber, expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import type {Preconditioner} from '../precondition/preconditioner.js';
import {recipe} from '../recipe.js';

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
  expectNumber('lora: rank', rank, 'a whole number of at least 1', r => Number.isInteger(r) && r >= 1);
  expectNumber('lora: alpha', alpha, 'a number other than 0', a => a !== 0);
  if (typeof init !== 'function') {
    throw new TypeError('lora: init must be a function such as kaiming() or (start) => ({a, b})');
  }
  if (precondition !== undefined && typeof precondition !== 'function') {
    throw new TypeError('lora: precondition must be a function such as loraPro()');
  }
  const s = rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;

  const scaled = (tensor: Tensor): Tensor => (s === 1 ? tensor : mul(tensor, s));

  const start = (given: Start) => {
    const {a, b} = init({...given, rank, scale: s});
    const [m, n] = given.weight.shape;
    if (!a && !b) throw new Error('lora: init returned neither a nor b; with both at zero nothing can move');
    expectShape('a', a, [m, rank]);
    expectShape('b', b, [rank, n]);
    return {
      factors: {a: a ?? zeros([m, rank]), b: b ?? zeros([rank, n])},
      ...(a && b && {frozen: {a0: a, b0: b}}),
    };
  };

  const {observe} = init;
  return {
    name: 'lora',
    rank,
    ...(observe && {observe: {...observe, begin: given => observe.begin({...given, rank})}}),
    trained: ([m, n]) => rank * (m + n),
    init: start,
    delta: ({factors: {a, b}, frozen: {a0, b0}}) => {
      const product = matMul(a, b);
      return scaled(a0 && b0 ? sub(product, matMul(a0, b0)) : product);
    },
    pullback: ({factors: {a, b}}, gradient) => ({
      a: scaled(gradient.rightMul(transpose(b) as Tensor2D)),
      b: scaled(gradient.leftMul(a as Tensor2D)),
    }),
    // A'B' - AB = (A' - A) B' + A (B' - B): one product of inner size 2r, and no digits lost to a difference.
    lift: ({factors: {a, b}}, {factors: next}) =>
      matMul(scaled(concat([sub(next.a, a), a], 1)), concat([next.b, sub(next.b, b)], 0)),
    refresh: (_, given) => start(given),
    tangent: ({factors: {a, b}}) => ({form: 'sum', left: a as Tensor2D, right: b as Tensor2D}),
    ...(precondition && {
      precondition: (state, grads, gradient) => precondition(state, grads, gradient, s),
    }),
  };
});

function expectShape(name: string, factor: Tensor | undefined, shape: readonly [number, number]): void {
  if (factor && (factor.shape.length !== 2 || factor.shape[0] !== shape[0] || factor.shape[1] !== shape[1])) {
    throw new Error(`lora: init returned ${name} of shape [${factor.shape}] where [${shape}] is needed`);
  }
}
