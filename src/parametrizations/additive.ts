import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, eye, matMul, mul, slice, sub, tensor2d, tile, transpose, zeros} from '@tensorflow/tfjs-core';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Additive} from '../parametrization.js';
import {recipe} from '../recipe.js';

export interface AdditiveOptions {
  /** r, the side of a tile; a positive integer. Default 1: row and column sums. */
  rank?: number;
  /** s. Default 1. */
  scale?: number;
  /**
   * `'sum'` (default): tiles of ones. `'equal'`: tiles of length 1, so that both sides take equal steps.
   * `'orthogonal'`: besides, what both sides can reach is shared, so that DPhi DPhi* is the orthogonal projector.
   */
  form?: 'sum' | 'equal' | 'orthogonal';
}

/**
 * W = W0 + s (A C + R B), A `[m, p]`, B `[q, n]`, p = min(r, n), q = min(r, m); C = [I I …] `[p, n]` and R = [I; I; …]
 * `[m, q]` are fixed, the last tile cut off where r does not divide.   Adjoint: g_A = s G C^T, g_B = s R^T G.
 *
 * Rank 1 adds a number to every row and one to every column. Trains m p + q n numbers and keeps nothing else.
 * Sources: Su Jianlin, kexue.fm/archives/9590 (the form 'sum', r dividing m and n); the other forms are ours.
 */
export const additive = /* @__PURE__ */ recipe(
  'additive',
  (options: AdditiveOptions = {}): Additive<'a' | 'b'> => {
    expectOptions('additive', options, ['rank', 'scale', 'form']);
    const {rank = 1, scale = 1, form = 'sum'} = options;
    expectNumber('additive: rank', rank, 'a whole number of at least 1', r => Number.isInteger(r) && r >= 1);
    expectNumber('additive: scale', scale, 'a number other than 0', s => s !== 0);
    expectOneOf('additive: form', form, ['sum', 'equal', 'orthogonal']);
    const width = (size: number) => Math.min(rank, size);

    /** R `[size, p]` or C^T, with columns of length 1 unless the form is 'sum'. */
    const frame = (size: number) => {
      const p = width(size);
      const tiles = below(eye(p), size);
      return (form === 'sum' ? tiles : mul(tiles, lengths(p, size))) as Tensor2D;
    };
    /** What a side is worth once the other side carries its half of what both can reach; its own adjoint. */
    const share = (a: Tensor, b: Tensor) => {
      if (form !== 'orthogonal') return {a, b};
      const [left, right] = [frame(a.shape[0]!), frame(b.shape[1]!)];
      return {
        a: sub(a, mul(matMul(left, matMul(transpose(left), a)), HALF)),
        b: sub(b, mul(matMul(matMul(b, right), transpose(right)), HALF)),
      };
    };
    const change = (factors: Record<'a' | 'b', Tensor>) => {
      const {a, b} = share(factors.a, factors.b);
      const [m, p] = a.shape as [number, number];
      const [q, n] = b.shape as [number, number];
      const rows = form === 'sum' ? a : mul(a, lengths(p, n));
      const columns = form === 'sum' ? b : mul(b, transpose(lengths(q, m)));
      return mul(add(p === 1 ? rows : beside(rows, n), q === 1 ? columns : below(columns, m)), scale);
    };

    return {
      name: 'additive',
      rank,
      trained: ([m, n]) => m * width(n) + width(m) * n,
      init: ({weight: {shape}}) => ({
        factors: {a: zeros([shape[0], width(shape[1])]), b: zeros([width(shape[0]), shape[1]])},
      }),
      delta: ({factors}) => change(factors),
      pullback: (_, gradient) => {
        const [m, n] = gradient.shape;
        const unit = (size: number) => (form === 'sum' ? 1 : size ** -0.5);
        const a = width(n) === 1 ? mul(gradient.rowSums(), unit(n)) : gradient.rightMul(frame(n));
        const b = width(m) === 1 ? mul(gradient.columnSums(), unit(m)) : gradient.leftMul(frame(m));
        const shared = share(a, b);
        return {a: mul(shared.a, scale), b: mul(shared.b, scale)};
      },
      lift: ({factors: {a, b}}, {factors: next}) => change({a: sub(next.a, a), b: sub(next.b, b)}),
      tangent: ({factors: {a, b}}) => ({
        form: 'sum',
        left: frame(a.shape[0]!),
        right: transpose(frame(b.shape[1]!)),
      }),
    };
  },
);

/** c with 2 (1 - c)^2 = 1: each side carries 1/sqrt(2) of what both can reach, and together that is all of it, once. */
const HALF = 1 - Math.SQRT1_2;

/** 1 / the length of each of the p columns of a `[size, p]` pile of tiles, `[1, p]`. */
function lengths(p: number, size: number): Tensor2D {
  const counts = Array.from({length: p}, (_, k) => Math.floor(size / p) + (k < size % p ? 1 : 0));
  return tensor2d(
    counts.map(count => count ** -0.5),
    [1, p],
  );
}

/** Copies of `[p, k]` one below the other, `[size, k]`. */
function below(block: Tensor, size: number): Tensor {
  const [p, k] = block.shape as [number, number];
  return slice(tile(block, [Math.ceil(size / p), 1]), [0, 0], [size, k]);
}

/** Copies of `[k, p]` side by side, `[k, size]`. */
function beside(block: Tensor, size: number): Tensor {
  const [k, p] = block.shape as [number, number];
  return slice(tile(block, [1, Math.ceil(size / p)]), [0, 0], [k, size]);
}
