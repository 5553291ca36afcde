import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, sub, transpose, zeros} from '@tensorflow/tfjs-core';
import {transposedTimes} from '../capture/layout.js';
import {aligned} from '../linalg/align.js';
import {orthonormalize, randomOrthonormal} from '../linalg/orthonormal.js';
import {topSingular} from '../linalg/range-finder.js';
import {read} from '../linalg/read.js';
import {expectBoolean, expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Additive, Gradient} from '../parametrization.js';
import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import {every} from '../schedule.js';

export interface GaloreOptions {
  /** r, a positive integer; min(m, n) where that is smaller. Default 8. */
  rank?: number;
  /**
   * The side of G that is projected: 'left' m, 'right' n, 'both' (R is `[r, r]`), or the 'smaller' (default, of a square
   * the left) or 'larger' one.
   */
  side?: 'smaller' | 'larger' | 'left' | 'right' | 'both';
  /** c. Default 1. */
  scale?: number;
  /** Whether a new basis gets the order and signs nearest to the old one. Default true; false as published. */
  align?: boolean;
  /** A new basis: 'svd' (default), the first singular vectors of G; 'power', one step from the old basis towards them. */
  basis?: 'svd' | 'power';
}

/**
 * W = W0 + c P R, P `[m, r]`, R `[r, n]` ('left'); W0 + c R Q^T, Q `[n, r]` ('right'); W0 + c P R Q^T ('both').
 * Adjoint: g_R = c P^T G, c G Q, or c P^T G Q.
 *
 * P and Q have orthonormal columns: the first singular vectors of the gradient that comes at the start and at each
 * renewal, every 200 steps. A gradient that is zero or not finite leaves the basis as it is.
 * Source: arXiv:2403.03507; 'power' with a renewal at every step and transport: arXiv:2410.16103 without error feedback.
 */
export const galore = /* @__PURE__ */ recipe('galore', (options: GaloreOptions = {}): Additive<'r'> => {
  expectOptions('galore', options, ['rank', 'side', 'scale', 'align', 'basis']);
  const {rank = 8, side = 'smaller', scale = 1, align = true, basis = 'svd'} = options;
  expectNumber('galore: rank', rank, 'a whole number of at least 1', r => Number.isInteger(r) && r >= 1);
  expectNumber('galore: scale', scale, 'a number other than 0', c => c !== 0);
  expectOneOf('galore: side', side, ['smaller', 'larger', 'left', 'right', 'both']);
  expectOneOf('galore: basis', basis, ['svd', 'power']);
  expectBoolean('galore: align', align);

  const widthOf = (shape: Shape) => Math.min(rank, ...shape);
  const coreOf = (shape: Shape) => {
    const {left, right} = sidesOf(side, shape);
    return [left ? widthOf(shape) : shape[0], right ? widthOf(shape) : shape[1]] as const;
  };
  const fresh = (shape: Shape, frozen: Basis) => ({
    factors: {r: zeros([...coreOf(shape)]) as Tensor},
    frozen,
  });

  const up = ({p, q}: Basis, core: Tensor) => {
    const r = mul(core, scale) as Tensor2D;
    const long = p ? matMul(p, r) : r;
    return q ? matMul(long, transpose(q)) : long;
  };

  return {
    name: 'galore',
    rank,
    trained: shape => coreOf(shape)[0] * coreOf(shape)[1],
    renewal: {refresh: every(200), moments: 'transport'},
    init: ({weight: {shape}, gradient, seed}) => {
      const of = {...sidesOf(side, shape), rank: widthOf(shape), seed};
      return fresh(shape, isUsable(gradient, seed) ? singular(gradient, of) : random(shape, of));
    },
    delta: ({factors: {r}, frozen}) => up(frozen, r),
    pullback: ({frozen}, gradient) => {
      const {p, q}: Basis = frozen;
      const half = p ? gradient.leftMul(p) : gradient.rightMul(q!);
      return {r: mul(p && q ? matMul(half, q) : half, scale)};
    },
    lift: ({factors: {r}, frozen}, {factors: next}) => up(frozen, sub(next.r, r)),
    refresh: ({frozen: old}, {weight: {shape}, gradient, seed}) => {
      if (!isUsable(gradient, seed)) return fresh(shape, old);
      const of = {...sidesOf(side, shape), rank: widthOf(shape), seed};
      const found = basis === 'svd' ? singular(gradient, of) : powered(gradient, old, seed);
      return fresh(shape, align ? near(found, old) : found);
    },
    transport: ({frozen: old}, {frozen: now}) => ({
      r: {
        ...(old['p'] && {left: transposedTimes(now['p'] as Tensor2D, old['p'] as Tensor2D)}),
        ...(old['q'] && {right: transposedTimes(old['q'] as Tensor2D, now['q'] as Tensor2D)}),
      },
    }),
    tangent: ({frozen}) => {
      const {p, q}: Basis = frozen;
      return {form: 'product', ...(p && {left: p}), ...(q && {right: transpose(q)})};
    },
  };
});

type Shape = readonly [m: number, n: number];
/** P, where G is projected on the left, and Q, where it is on the right. */
type Basis = Readonly<Partial<Record<'p' | 'q', Tensor2D>>>;
/** Which bases are wanted, and how many columns. */
interface Wanted {
  readonly left: boolean;
  readonly right: boolean;
  readonly rank: number;
  readonly seed: number;
}

function sidesOf(side: GaloreOptions['side'], [m, n]: Shape) {
  const left = side === 'smaller' ? m <= n : side === 'larger' ? m > n : side !== 'right';
  return {left, right: side === 'both' || !left};
}

/** Whether a basis can follow from this gradient: it is finite and not zero. One thin product, and a read. */
function isUsable(gradient: Gradient, seed: number): boolean {
  const probe = normal([gradient.shape[1], 1], splitSeed(seed, 'probe')) as Tensor2D;
  const seen = read(gradient.rightMul(probe), 'galore: a product with the gradient');
  return seen.every(Number.isFinite) && seen.some(value => value !== 0);
}

function singular(gradient: Gradient, {left, right, rank, seed}: Wanted): Basis {
  const {u, v} = topSingular(gradient, {rank, seed});
  return {...(left && {p: u}), ...(right && {q: v})};
}

function random([m, n]: Shape, {left, right, rank, seed}: Wanted): Basis {
  return {
    ...(left && {p: randomOrthonormal(m, rank, splitSeed(seed, 'p'))}),
    ...(right && {q: randomOrthonormal(n, rank, splitSeed(seed, 'q'))}),
  };
}

/** One step of block power iteration: an orthonormal basis of G G^T P, and of G^T G Q. */
function powered(gradient: Gradient, {p, q}: Basis, seed: number): Basis {
  return {
    ...(p && {p: orthonormalize(gradient.rightMul(transpose(gradient.leftMul(p))), {seed})}),
    ...(q && {q: orthonormalize(transpose(gradient.leftMul(gradient.rightMul(q))), {seed})}),
  };
}

function near(found: Basis, old: Basis): Basis {
  return {
    ...(found.p && {p: aligned(found.p, old.p!)}),
    ...(found.q && {q: aligned(found.q, old.q!)}),
  };
}
