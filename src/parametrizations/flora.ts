import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, scalar, sub, tensor1d, transpose, zeros} from '@tensorflow/tfjs-core';
import {transposedTimes} from '../capture/layout.js';
import {read} from '../linalg/read.js';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Additive, Start, State} from '../parametrization.js';
import {normal} from '../random.js';
import {recipe} from '../recipe.js';
import {every} from '../schedule.js';

export interface FloraOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** The side of G that is projected: 'left' m, 'right' n. Default 'smaller', which for a square is 'left'. */
  side?: 'smaller' | 'larger' | 'left' | 'right';
  /** s. Default 1, so that SGD moves W by -eta G in the mean. */
  scale?: number;
}

/**
 * W = W0 + s P R, P `[m, r]`, R `[r, n]` ('left'), or W0 + s R P^T, R `[m, r]`, P `[n, r]` ('right').
 * Adjoint: g_R = s P^T G, or s G P.
 *
 * P ~ N(0, 1/r), so that P P^T is I in the mean. It is made anew from its seed at every use and never stored: kept are
 * R, the seed and the shape of W. Renewed every 1000 steps; moments are transported by P_new^T P_old.
 * Source: arXiv:2402.03293.
 */
export const flora = /* @__PURE__ */ recipe('flora', (options: FloraOptions = {}): Additive<'r'> => {
  expectOptions('flora', options, ['rank', 'side', 'scale']);
  const {rank = 8, side = 'smaller', scale = 1} = options;
  expectNumber('flora: rank', rank, 'a whole number of at least 1', r => Number.isInteger(r) && r >= 1);
  expectNumber('flora: scale', scale, 'a number other than 0', s => s !== 0);
  expectOneOf('flora: side', side, ['smaller', 'larger', 'left', 'right']);

  const isLeft = (m: number, n: number) =>
    side === 'smaller' ? m <= n : side === 'larger' ? m > n : side === 'left';

  /** P of a state. What it is made of is never computed with, so reading it waits for no device. */
  const projection = ({frozen: {seed, shape}}: State<'r'>) => {
    const [m, n] = read(shape!) as unknown as [number, number];
    const left = isLeft(m, n);
    const p = normal([left ? m : n, rank], read(seed!)[0]!, {std: 1 / Math.sqrt(rank)}) as Tensor2D;
    return {p, left};
  };

  const start = ({weight: {shape}, seed}: Start) => ({
    factors: {r: zeros(isLeft(...shape) ? [rank, shape[1]] : [shape[0], rank])},
    frozen: {seed: scalar(seed | 0, 'int32'), shape: tensor1d(shape, 'int32')},
  });

  const up = (state: State<'r'>, r: Tensor) => {
    const {p, left} = projection(state);
    const scaled = mul(r, scale) as Tensor2D;
    return left ? matMul(p, scaled) : matMul(scaled, transpose(p));
  };

  return {
    name: 'flora',
    rank,
    trained: ([m, n]) => rank * (isLeft(m, n) ? n : m),
    renewal: {
      refresh: every(1000),
      moments: 'transport',
      refuses: {keep: 'a new random matrix has no coordinate in common with the old one'},
    },
    init: start,
    delta: state => up(state, state.factors.r),
    pullback: (state, gradient) => {
      const {p, left} = projection(state);
      return {r: mul(left ? gradient.leftMul(p) : gradient.rightMul(p), scale)};
    },
    lift: (state, {factors: {r}}) => up(state, sub(r, state.factors.r)),
    refresh: (_, given) => start(given),
    transport: (state, next) => {
      const [old, fresh] = [projection(state), projection(next)];
      return {
        r: old.left ? {left: transposedTimes(fresh.p, old.p)} : {right: transposedTimes(old.p, fresh.p)},
      };
    },
    tangent: state => {
      const {p, left} = projection(state);
      return {form: 'sum', ...(left ? {left: p} : {right: transpose(p)})};
    },
  };
});
