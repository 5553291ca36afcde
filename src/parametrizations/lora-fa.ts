import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, sub, zeros} from '@tensorflow/tfjs-core';
import {expectInit} from '../init/begin.js';
import type {Initializer} from '../init/initializer.js';
import {kaiming} from '../init/kaiming.js';
import {inverseGram} from '../linalg/inverse.js';
import {observing} from '../init/product.js';
import {expectBoolean, expectNumber, expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface LoraFAOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /** Whether the gradient of B is divided by `s^2 (A^T A + epsilon I)`. Default true. */
  precondition?: boolean;
  /** At least 0, in the units of A^T A. Default 0: the pseudo-inverse. */
  epsilon?: number;
  /** Where A is: ours, or a function of your own that returns `a` alone. Default `kaiming()`. */
  init?: Initializer;
}

/**
 * W = W0 + s A B, A `[m, r]` frozen, B `[r, n]` from zero, s = alpha/r.   Adjoint: g_B = s A^T G.
 * Precondition: g_B <- s^-2 (A^T A + epsilon I)^-1 g_B, so that a step of SGD is s A dB = -eta Pi_A G.
 *
 * Trains r n numbers. The inverse is made where A is: it is frozen with it.
 * Sources: arXiv:2308.03303; the preconditioner: arXiv:2407.18242 with A held fixed, as PEFT's LoRA-FA optimizer has it.
 */
export const loraFA = /* @__PURE__ */ recipe('loraFA', (options: LoraFAOptions = {}): Additive<'b'> => {
  expectOptions('loraFA', options, ['rank', 'alpha', 'rankStabilised', 'precondition', 'epsilon', 'init']);
  const {rank = 8, alpha = rank, rankStabilised = false, precondition = true, epsilon = 0} = options;
  const {init = kaiming()} = options;
  const s = scaling('loraFA', {rank, alpha, rankStabilised});
  expectNumber('loraFA: epsilon', epsilon, 'a number of at least 0', e => e >= 0);
  expectBoolean('loraFA: precondition', precondition);
  expectInit('loraFA', init, 'kaiming() or (start) => ({a})');

  const start = (given: Start) => {
    const [m, n] = given.weight.shape;
    const {a, b} = init({...given, rank, scale: s});
    if (!a || b) {
      throw new Error(
        `loraFA: init must return a alone, and returned ${Object.keys({...(a && {a}), ...(b && {b})}).join(' and ') || 'nothing'}; ` +
          'a is frozen, and of b only the change matters',
      );
    }
    if (String(a.shape) !== String([m, rank])) {
      throw new Error(`loraFA: init returned a of shape [${a.shape}] where [${m},${rank}] is needed`);
    }
    const inverse = precondition && {inverse: inverseGram(a as Tensor2D, epsilon)};
    return {factors: {b: zeros([rank, n])}, frozen: {a, ...inverse}};
  };

  return {
    name: 'loraFA',
    rank,
    ...observing(init, rank),
    trained: ([, n]) => rank * n,
    init: start,
    delta: ({factors: {b}, frozen: {a}}) => mul(matMul(a!, b), s),
    pullback: ({frozen: {a}}, gradient) => ({b: mul(gradient.leftMul(a as Tensor2D), s)}),
    lift: ({factors: {b}, frozen: {a}}, {factors: next}) => matMul(a!, mul(sub(next.b, b), s)),
    refresh: (_, given) => start(given),
    ...(precondition && {
      precondition: ({frozen: {inverse}}, {b}) => ({b: mul(matMul(inverse!, b), s ** -2)}),
    }),
    tangent: ({frozen: {a}}) => ({form: 'sum', left: a as Tensor2D}),
  };
});
