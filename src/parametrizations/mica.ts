import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, sub, transpose, zeros} from '@tensorflow/tfjs-core';
import {bottomSingular} from '../linalg/bottom.js';
import {expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface MicaOptions {
  /** r, a positive integer, at most min(m, n). Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
}

/**
 * W = W0 + s A B, B = the last r right singular vectors of W0, `[r, n]`, frozen; A `[m, r]` from zero.
 * Adjoint: g_A = s G B^T. What a step changes goes out where W0 sends least.
 *
 * Trains r m numbers and keeps r n. Throws where r > min(m, n). Source: arXiv:2604.01694.
 */
export const mica = /* @__PURE__ */ recipe('mica', (options: MicaOptions = {}): Additive<'a'> => {
  expectOptions('mica', options, ['rank', 'alpha', 'rankStabilised']);
  const {rank = 8, alpha = rank, rankStabilised = false} = options;
  const s = scaling('mica', {rank, alpha, rankStabilised});

  const start = ({weight, seed}: Start) => {
    const [m, n] = weight.shape;
    if (rank > Math.min(m, n)) {
      throw new RangeError(
        `mica: rank ${rank} is above the ${Math.min(m, n)} singular vectors of a weight [${m}, ${n}]; lower it, ` +
          'or give such weights a rule of their own',
      );
    }
    const {v} = bottomSingular(weight, {rank, seed});
    return {factors: {a: zeros([m, rank])}, frozen: {frameB: transpose(v)}};
  };

  return {
    name: 'mica',
    rank,
    // Where there are fewer directions than the rank nothing is saved either.
    trained: ([m, n]) => (rank > Math.min(m, n) ? m * n : rank * m),
    init: start,
    delta: ({factors: {a}, frozen}) => mul(matMul(a, frozen['frameB']!), s),
    pullback: ({frozen}, gradient) => ({
      a: mul(gradient.rightMul(transpose(frozen['frameB'] as Tensor2D)), s),
    }),
    lift: ({factors: {a}, frozen}, {factors: next}) => mul(matMul(sub(next.a, a), frozen['frameB']!), s),
    refresh: (_, given) => start(given),
    transport: ({frozen}, next) => ({
      a: {right: matMul(frozen['frameB'] as Tensor2D, transpose(next.frozen['frameB'] as Tensor2D))},
    }),
    tangent: ({frozen}) => ({form: 'sum', right: frozen['frameB'] as Tensor2D}),
  };
});
