import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, matMul, mul, sign, sub, transpose, zeros} from '@tensorflow/tfjs-core';
import {denseGradient} from '../capture/gradient.js';
import {topSingular} from '../linalg/range-finder.js';
import {addToSketch, beginSketch, type Sketch, topOfSketch} from '../linalg/sketch.js';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Additive, Observation, Start} from '../parametrization.js';
import {splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface LoraSBOptions {
  /** r, a positive integer; at most min(m, n) is taken. Default 16. */
  rank?: number;
  /** Default: the rank, so that s is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /** How many gradients are summed before the start. Default 1. */
  steps?: number;
  /** The frames of the summed gradient itself, or of the signs of its entries, which need it dense. Default 'gradient'. */
  target?: 'gradient' | 'sign';
}

/**
 * W = W0 + s U R V^T, R `[r, r]` from zero; U `[m, r]`, V `[n, r]` the first singular vectors of a sum of gradients, frozen.
 * s = alpha/r.   Adjoint: g_R = s U^T G V.
 *
 * With s = 1 a step of SGD moves W by -eta Pi_U G Pi_V, a projector; right after the start that is the best of rank r.
 * Trains r^2 numbers. Source: arXiv:2411.19557.
 */
export const loraSB = /* @__PURE__ */ recipe('loraSB', (options: LoraSBOptions = {}): Additive<'r'> => {
  expectOptions('loraSB', options, ['rank', 'alpha', 'rankStabilised', 'steps', 'target']);
  const {rank = 16, alpha = rank, rankStabilised = false, steps = 1, target = 'gradient'} = options;
  const s = scaling('loraSB', {rank, alpha, rankStabilised});
  expectNumber('loraSB: steps', steps, 'a whole number of at least 1', k => Number.isInteger(k) && k >= 1);
  expectOneOf('loraSB: target', target, ['gradient', 'sign']);

  const start = ({gradient, seed, sketch}: Start) => {
    const [m, n] = gradient.shape;
    const r = Math.min(rank, m, n);
    const whole = () => denseGradient(sign(sketch?.['sum'] ?? gradient.dense()), [m, n]);
    const {u, v} =
      target === 'gradient' && sketch
        ? topOfSketch(sketch as Sketch, {rank: r})
        : topSingular(target === 'sign' ? whole() : gradient, {rank: r, seed: splitSeed(seed, 'frames')});
    return {factors: {r: zeros([r, r])}, frozen: {u, v}};
  };
  const lifted = (r: Tensor, {u, v}: Readonly<Record<string, Tensor>>) =>
    matMul(matMul(u!, mul(r, s)), transpose(v!));

  return {
    name: 'loraSB',
    rank,
    trained: shape => Math.min(rank, ...shape) ** 2,
    ...(steps > 1 && {observe: target === 'sign' ? denseSum(steps) : sketched(steps, rank)}),
    init: start,
    delta: ({factors: {r}, frozen}) => lifted(r, frozen),
    pullback: ({frozen: {u, v}}, gradient) => ({
      r: mul(matMul(gradient.leftMul(u as Tensor2D), v!), s),
    }),
    lift: ({factors: {r}, frozen}, {factors: next}) => lifted(sub(next.r, r), frozen),
    refresh: (_, given) => start(given),
    transport: ({frozen: old}, {frozen: now}) => ({
      r: {
        left: matMul(transpose(now['u'] as Tensor2D), old['u'] as Tensor2D),
        right: matMul(transpose(old['v'] as Tensor2D), now['v'] as Tensor2D),
      },
    }),
    tangent: ({frozen: {u, v}}) => ({
      form: 'product',
      left: u as Tensor2D,
      right: transpose(v as Tensor2D),
    }),
  };
});

const sketched = (steps: number, rank: number): Observation => ({
  steps,
  begin: ({shape, seed}) => beginSketch({shape, rank: Math.min(rank, ...shape), seed}),
  add: (sums, gradient) => addToSketch(sums as Sketch, gradient),
});

const denseSum = (steps: number): Observation => ({
  steps,
  begin: ({shape}) => ({sum: zeros([...shape])}),
  add: ({sum}, gradient) => ({sum: add(sum!, gradient.dense())}),
});
