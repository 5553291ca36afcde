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
 * Else as `topSingular`.
 */
export function topEigen(
  product: (q: Tensor2D) => Tensor2D,
  size: number,
  options: RangeOptions,
): {vectors: Tensor2D; values: readonly number[]} {
  const {rank, oversample = 8, iterations = 4, seed = 0} = options;
  expectRank('topEigen', rank, size, size);
  const width = Math.min(rank + oversample, size);
  const times = (q: Matrix) => toHost(product(fromHost(q)), 'topEigen: a product with the matrix');
  let q = HostMatrix.eye(size, width);
  let image: Matrix;
  if (width === size) {
    image = times(q);
  } else {
    q = orthonormalized(toHost(normal([size, width], splitSeed(seed, 'range')) as Tensor2D), seed);
    image = times(q);
    for (let i = 0; i < iterations; i++) {
      q = orthonormalized(image, splitSeed(seed, 'left', i));
      image = times(q);
    }
  }
  const small = q.transpose().mmul(image);
  const {u, s} = hostSvd(HostMatrix.add(small, small.transpose()).mul(0.5));
  const vectors = q.mmul(u);
  const found = withoutNoise(leading({u: vectors, s, v: vectors}, rank), NOISE, splitSeed(seed, 'noise'));
  return {vectors: fromHost(found.u), values: found.s};
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
  const {u, s, v} = hostSvd(left(q));
  return {u: q.mmul(u), s, v};
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
