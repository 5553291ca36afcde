import type {Tensor2D} from '@tensorflow/tfjs-core';
import {eye} from '@tensorflow/tfjs-core';
import {type Matrix, Matrix as HostMatrix} from 'ml-matrix';
import type {Gradient} from '../capture/gradient.js';
import {normal, splitSeed} from '../random.js';
import {fromHost, toHost} from './host.js';
import {orthonormalized} from './orthonormal.js';
import {hostSvd, leading, type Singular, toTensors, withoutNoise} from './svd.js';

/** All that is asked of a matrix `[m, n]`: a `Gradient` is one, and `denseGradient(weight, weight.shape)`. */
export type Operator = Pick<Gradient, 'shape' | 'leftMul' | 'rightMul'>;

export interface RangeOptions {
  /** How many singular vectors; at most min(m, n). */
  rank: number;
  /** Columns looked at beyond the rank. Default 8. */
  oversample?: number;
  /** Rounds of `G G^T`. Default 4: enough where singular values fall slowly. */
  iterations?: number;
  /** Default 0. */
  seed?: number;
}

/** Below this share of the largest, a singular value of products in float32 is rounding. */
const NOISE = 1e-6;

/**
 * The first `rank` singular vectors and values of G from products with thin matrices: u `[m, r]`, s, v `[n, r]`.
 *
 *     Q = orth(G Omega);  repeat: Q = orth(G orth(G^T Q));  Q^T G = U' S V^T;  U = Q U'
 *
 * Omega is Gaussian, `[n, r + oversample]`. Randomised subspace iteration: Halko, Martinsson, Tropp, arXiv:0909.4061,
 * algorithms 4.4 and 5.1. It asks for `2 + 2 iterations` products and never forms G, unless r + oversample is
 * min(m, n) or more: then G is no larger than they are, and one product gives it, for an exact decomposition.
 *
 * Singular values below a millionth of the first come back as 0, their vectors as random directions that follow from
 * the seed. Where singular values are equal any basis of their space may come. Throws when a product is not finite.
 */
export function topSingular(operator: Operator, options: RangeOptions): Singular {
  const {rank, oversample = 8, iterations = 4, seed = 0} = options;
  const [m, n] = operator.shape;
  expectRank('topSingular', rank, m, n);
  const found =
    rank + oversample >= Math.min(m, n)
      ? hostSvd(whole(operator))
      : iterated(operator, rank + oversample, iterations, seed);
  return toTensors(withoutNoise(leading(found, rank), NOISE, splitSeed(seed, 'noise')));
}

/**
 * The first eigenvectors `[size, r]` and eigenvalues of a symmetric, positive semi-definite C that is given as
 * `q => C q`, such as `q => gradient.inputGram(q)`: subspace iteration, `1 + iterations` products with thin matrices.
 * Where fewer than `rank` eigenvalues are above the rounding of the first, the rest are looked for again among the
 * directions at right angles to those found, with as many products, as long as that finds some. What is below 1e-12 of
 * the first is rounding there too, as 1e-6 is of a singular value. Else as `topSingular`.
 */
export function topEigen(
  product: (q: Tensor2D) => Tensor2D,
  size: number,
  options: RangeOptions,
): {vectors: Tensor2D; values: readonly number[]} {
  const {rank, oversample = 8, iterations = 4, seed = 0} = options;
  expectRank('topEigen', rank, size, size);
  const times = (q: Matrix) => toHost(product(fromHost(q)), 'topEigen: a product with the matrix');
  const values: number[] = [];
  const vectors = new HostMatrix(size, rank);
  for (;;) {
    const known = values.length;
    const q = known === 0 ? null : vectors.subMatrix(0, size - 1, 0, known - 1);
    const found = eigen(times, q, {size, rank: rank - known, oversample, iterations, seed});
    const first = values[0] ?? found.s[0]!;
    const seen = found.s.filter(value => value > NOISE * found.s[0]! && value > NOISE ** 2 * first);
    seen.forEach((value, j) => {
      vectors.setColumn(values.length, found.u.getColumn(j));
      values.push(value);
    });
    if (seen.length === 0 || values.length === rank) break;
  }
  const s = [...values, ...Array<number>(rank - values.length).fill(0)];
  const completed = withoutNoise({u: vectors, s, v: vectors}, 0, splitSeed(seed, 'noise'));
  return {vectors: fromHost(completed.u), values: completed.s};
}

/** The first eigenvectors among the directions at right angles to the columns of `known`. */
function eigen(
  times: (q: Matrix) => Matrix,
  known: Matrix | null,
  {size, rank, oversample, iterations, seed}: Required<RangeOptions> & {size: number},
): {u: Matrix; s: readonly number[]} {
  const count = known?.columns ?? 0;
  const width = Math.min(rank + oversample, size - count);
  const beside = (matrix: Matrix, seed: number) => {
    if (!known) return orthonormalized(matrix, seed);
    const both = HostMatrix.zeros(size, count + width);
    both.setSubMatrix(known, 0, 0).setSubMatrix(matrix, 0, count);
    return orthonormalized(both, seed, count).subMatrix(0, size - 1, count, count + width - 1);
  };
  let q = HostMatrix.eye(size, width);
  if (known || width < size) {
    q = beside(toHost(normal([size, width], splitSeed(seed, 'range')) as Tensor2D), seed);
  }
  let image = times(q);
  for (let i = 0; i < iterations && width < size - count; i++) {
    q = beside(image, splitSeed(seed, 'left', i));
    image = times(q);
  }
  const small = q.transpose().mmul(image);
  const {u, s} = hostSvd(HostMatrix.add(small, small.transpose()).mul(0.5));
  return leading({u: q.mmul(u), s, v: u}, rank);
}

function iterated(operator: Operator, width: number, iterations: number, seed: number): Singular<Matrix> {
  const [, n] = operator.shape;
  const right = (q: Tensor2D) => toHost(operator.rightMul(q), WHAT);
  const left = (p: Matrix) => toHost(operator.leftMul(fromHost(p)), WHAT);
  const omega = normal([n, width], splitSeed(seed, 'range')) as Tensor2D;
  let q = orthonormalized(right(omega), splitSeed(seed, 'left'));
  for (let i = 0; i < iterations; i++) {
    const z = orthonormalized(left(q).transpose(), splitSeed(seed, 'right', i));
    q = orthonormalized(right(fromHost(z)), splitSeed(seed, 'left', i));
  }
  // Q^T G = (P R)^T with an orthonormal P: what is left to decompose is square and small.
  const image = left(q).transpose();
  const p = orthonormalized(image, splitSeed(seed, 'last'));
  const {u, s, v} = hostSvd(image.transpose().mmul(p));
  return {u: q.mmul(u), s, v: p.mmul(v)};
}

const WHAT = 'topSingular: a product with the matrix';

/** G itself, where it is no larger than a sketch of it. */
function whole(operator: Operator): Matrix {
  const [m, n] = operator.shape;
  return toHost(m <= n ? operator.leftMul(eye(m)) : operator.rightMul(eye(n)), WHAT);
}

export function expectRank(where: string, rank: number, m: number, n: number): void {
  if (Number.isInteger(rank) && rank >= 1 && rank <= Math.min(m, n)) return;
  throw new RangeError(
    `${where}: rank must be a whole number from 1 to ${Math.min(m, n)} for [${m}, ${n}], not ${rank}`,
  );
}
