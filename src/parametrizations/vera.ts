import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, expandDims, matMul, mul, squeeze, sub, sum, transpose} from '@tensorflow/tfjs-core';
import {begin, expectInit, startOf} from '../init/begin.js';
import {veraConstant, type VeraInitializer} from '../init/vera.js';
import {expectNumber, expectOptions} from '../options.js';
import type {Additive} from '../parametrization.js';
import {splitSeed, uniform} from '../random.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface VeraOptions {
  /** r, a positive integer. Default 256: the frames are not trained, so it costs r numbers. */
  rank?: number;
  /** Draws the frames: equal for all weights with the same sides. Default 0. */
  projectionSeed?: number;
  /** Where the scalings start: ours, or a function of your own. Default `veraConstant({d: 0.1})`. */
  init?: VeraInitializer;
}

/**
 * W = W0 + A diag(d) B diag(b), A `[m, r]` and B `[r, n]` random and frozen, d `[r]`, b `[n]`.
 * Adjoint, with X = A^T G: g_d,k = sum_j X_kj B_kj b_j, g_b,j = sum_k d_k B_kj X_kj.
 *
 * Trains r + n numbers. A depends on m, r and the projection seed alone, B on n, r and it. Source: arXiv:2310.11454.
 */
export const vera = /* @__PURE__ */ recipe('vera', (options: VeraOptions = {}): Additive<'d' | 'b'> => {
  expectOptions('vera', options, ['rank', 'projectionSeed', 'init']);
  const {rank = 256, projectionSeed = 0, init = veraConstant()} = options;
  scaling('vera', {rank, alpha: rank});
  expectNumber('vera: projectionSeed', projectionSeed, 'a whole number', Number.isSafeInteger);
  expectInit('vera', init, 'veraConstant({d: 0.1})');

  /** U(-c, c) with the variance 2/size, row by row: of two sizes, the smaller is the beginning of the larger. */
  const draw = (label: string, rows: number, size: number) => {
    const bound = Math.sqrt(6 / size);
    return uniform([rows, rank], splitSeed(projectionSeed, label), {low: -bound, high: bound});
  };
  /** diag(d) B diag(b), `[r, n]`. */
  const right = (frame: Tensor, {d, b}: Readonly<Record<'d' | 'b', Tensor>>) =>
    mul(mul(expandDims(d, 1), frame), b);

  return {
    name: 'vera',
    rank,
    trained: ([, n]) => rank + n,
    init: given => {
      const [m, n] = given.weight.shape;
      const {factors, frozen} = begin('vera', init({...given, rank}), {d: [rank], b: [n]});
      const frames = {frameA: draw('a', m, m), frameB: transpose(draw('b', n, rank))};
      return {factors, frozen: {...frames, ...frozen}};
    },
    delta: ({factors, frozen}) => {
      const {frameA, frameB} = frozen as Record<'frameA' | 'frameB', Tensor>;
      const from = startOf(frozen, factors);
      const change = right(frameB, factors);
      return matMul(frameA, from ? sub(change, right(frameB, from)) : change);
    },
    pullback: ({factors: {d, b}, frozen}, gradient) => {
      const {frameA, frameB} = frozen as Record<'frameA' | 'frameB', Tensor2D>;
      const weighed = mul(frameB, gradient.leftMul(frameA));
      return {d: sum(mul(weighed, b), 1), b: squeeze(matMul(expandDims(d, 0), weighed), [0])};
    },
    lift: ({factors: {d, b}, frozen}, {factors: next}) => {
      const {frameA, frameB} = frozen as Record<'frameA' | 'frameB', Tensor>;
      const first = right(frameB, {d: sub(next.d, d), b: next.b});
      return matMul(frameA, add(first, right(frameB, {d, b: sub(next.b, b)})));
    },
  };
});
