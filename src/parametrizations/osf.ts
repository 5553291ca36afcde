import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, square, sub, sum, transpose, zerosLike} from '@tensorflow/tfjs-core';
import {denseGradient} from '../capture/gradient.js';
import {expectInit, startOf} from '../init/begin.js';
import type {Initializer} from '../init/initializer.js';
import {kaiming} from '../init/kaiming.js';
import {beginProduct, observing} from '../init/product.js';
import {topSingular} from '../linalg/range-finder.js';
import {read} from '../linalg/read.js';
import {changeOfProduct} from '../low-rank.js';
import {expectNumber, expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import {splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface OsfOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /** k, how many of the largest singular directions of W0 are left alone; at most min(m, n) - 1. Default 16. */
  protect?: number;
  /** Where the factors start: ours, or a function of your own. Default `kaiming()`. */
  init?: Initializer;
}

type Named = Readonly<Record<string, Tensor>>;

/**
 * W = W0 + s (I - U U^T) A B (I - V V^T), U `[m, k]`, V `[n, k]` the first singular vectors of W0, frozen. s = alpha/r.
 * Adjoint: g_A = s P G (B Q)^T, g_B = s (P A)^T G Q, with P = I - U U^T, Q = I - V V^T.
 *
 * Whatever the inner optimizer does, U^T W = U^T W0 and W V = W0 V: what the k largest directions do stays as it was.
 * Trains r(m + n) numbers. Source: orthogonal subspace fine-tuning, arXiv:2504.07097, with W moved by a low-rank product.
 */
export const osf = /* @__PURE__ */ recipe('osf', (options: OsfOptions = {}): Additive<'a' | 'b'> => {
  expectOptions('osf', options, ['rank', 'alpha', 'rankStabilised', 'protect', 'init']);
  const {rank = 8, alpha = rank, rankStabilised = false, protect = 16, init = kaiming()} = options;
  const s = scaling('osf', {rank, alpha, rankStabilised});
  expectNumber('osf: protect', protect, 'a whole number of at least 1', k => Number.isInteger(k) && k >= 1);
  expectInit('osf', init, 'kaiming() or (start) => ({a, b})');

  const ofA = (a: Tensor, {u}: Named): Tensor => (u ? sub(a, matMul(u, matMul(transpose(u), a))) : a);
  const ofB = (b: Tensor, {v}: Named): Tensor => (v ? sub(b, matMul(matMul(b, v), transpose(v))) : b);
  const product = ({a, b}: Named, frames: Named) => matMul(ofA(a!, frames), ofB(b!, frames));
  const start = (given: Start) => {
    const {weight, seed} = given;
    const [m, n] = weight.shape;
    const {factors, frozen} = beginProduct('osf', init, given, {rank, scale: s});
    // At least one direction is left to move in; of a row or a column that is the only one there is.
    const k = Math.min(protect, Math.min(m, n) - 1);
    if (k === 0) return {factors, frozen: {...frozen}};
    const {u, v} = topSingular(denseGradient(weight, [m, n]), {rank: k, seed: splitSeed(seed, 'osf')});
    const frames = {u, v};
    return {
      factors: {
        a: reachable(factors.a, ofA(factors.a, frames)),
        b: reachable(factors.b, ofB(factors.b, frames)),
      },
      frozen: {...frozen, ...frames},
    };
  };

  return {
    name: 'osf',
    rank,
    ...observing(init, rank),
    trained: ([m, n]) => rank * (m + n),
    init: start,
    delta: ({factors, frozen}) => {
      const from = startOf(frozen, factors);
      return mul(from ? sub(product(factors, frozen), product(from, frozen)) : product(factors, frozen), s);
    },
    pullback: ({factors: {a, b}, frozen}, gradient) => ({
      a: mul(ofA(gradient.rightMul(transpose(ofB(b, frozen)) as Tensor2D), frozen), s),
      b: mul(ofB(gradient.leftMul(ofA(a, frozen) as Tensor2D), frozen), s),
    }),
    lift: ({factors, frozen}, {factors: next}) => {
      const {left, right} = changeOfProduct(factors, next);
      return matMul(mul(ofA(left, frozen), s), ofB(right, frozen));
    },
    refresh: (_, given) => start(given),
  };
});

/** A factor where it starts; zero when all of it lies in what is protected, for then only rounding is left outside. */
function reachable(factor: Tensor, outside: Tensor): Tensor {
  const [all, rest] = [factor, outside].map(tensor => read(sum(square(tensor)), 'osf: a norm')[0]!);
  return rest! > 1e-10 * all! ? factor : zerosLike(factor);
}
