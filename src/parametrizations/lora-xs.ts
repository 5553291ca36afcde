import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, sub, tensor1d, transpose, zeros} from '@tensorflow/tfjs-core';
import {denseGradient} from '../capture/gradient.js';
import {topSingular} from '../linalg/range-finder.js';
import {expectNumber, expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface LoraXSOptions {
  /** r, a positive integer; at most min(m, n) of it is used. Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /** R starts as N(0, std^2), and what that makes is subtracted. Default 0; the paper has 1e-5. */
  std?: number;
  /** Rounds of subspace iteration for the singular vectors. Default 8. */
  iterations?: number;
}

/**
 * W = W0 + s A R B, A = U_r S_r `[m, p]` and B = V_r^T `[p, n]` of W0 = U S V^T, frozen; R `[p, p]`, p = min(r, m, n).
 * Adjoint: g_R = s A^T G B^T.
 *
 * Trains p^2 numbers and keeps p (m + n). Source: arXiv:2405.17604.
 */
export const loraXS = /* @__PURE__ */ recipe('loraXS', (options: LoraXSOptions = {}): Additive<'r'> => {
  expectOptions('loraXS', options, ['rank', 'alpha', 'rankStabilised', 'std', 'iterations']);
  const {rank = 8, alpha = rank, rankStabilised = false, std = 0, iterations = 8} = options;
  const s = scaling('loraXS', {rank, alpha, rankStabilised});
  expectNumber('loraXS: std', std, 'a number of at least 0', x => x >= 0);
  expectNumber('loraXS: iterations', iterations, 'a whole number', k => Number.isInteger(k) && k >= 0);

  const start = ({weight, seed}: Start) => {
    const count = Math.min(rank, ...weight.shape);
    const found = topSingular(denseGradient(weight, weight.shape), {rank: count, iterations, seed});
    const frames = {frameA: mul(found.u, tensor1d([...found.s])), frameB: transpose(found.v)};
    if (std === 0) return {factors: {r: zeros([count, count])}, frozen: frames};
    const r = normal([count, count], splitSeed(seed, 'r'), {std});
    return {factors: {r}, frozen: {...frames, rStart: r}};
  };
  const between = (frozen: Readonly<Record<string, Tensor>>, r: Tensor) =>
    mul(matMul(matMul(frozen['frameA']!, r), frozen['frameB']!), s);

  return {
    name: 'loraXS',
    rank,
    trained: shape => Math.min(rank, ...shape) ** 2,
    init: start,
    delta: ({factors: {r}, frozen}) => between(frozen, frozen['rStart'] ? sub(r, frozen['rStart']) : r),
    pullback: ({frozen}, gradient) => {
      const {frameA, frameB} = frozen as Record<'frameA' | 'frameB', Tensor2D>;
      return {r: mul(matMul(gradient.leftMul(frameA), transpose(frameB)), s)};
    },
    lift: ({factors: {r}, frozen}, {factors: next}) => between(frozen, sub(next.r, r)),
    refresh: (_, given) => start(given),
    tangent: ({frozen}) => ({
      form: 'product',
      left: frozen['frameA'] as Tensor2D,
      right: frozen['frameB'] as Tensor2D,
    }),
  };
});
