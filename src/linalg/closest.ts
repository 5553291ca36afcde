import {type Matrix, Matrix as HostMatrix} from 'ml-matrix';
import {normal, splitSeed} from '../random.js';
import {toHost} from './host.js';
import {orthonormalized} from './orthonormal.js';
import {expectRank} from './range-finder.js';
import {hostSvd} from './svd.js';
import type {Tensor2D} from '@tensorflow/tfjs-core';

/** The product of two thin matrices that is nearest to a given one, and how near it is. */
export interface Closest {
  /** `U sqrt(S)`, `[m, k]`, row by row. */
  readonly a: Float32Array;
  /** `sqrt(S) V^T`, `[k, n]`, row by row. */
  readonly b: Float32Array;
  readonly rank: number;
  /** `||D||_F`. */
  readonly norm: number;
  /** `||D - A B||_F`, summed in float64 over the float32 numbers of A and B. */
  readonly error: number;
  /** No matrix of this rank is nearer to D than this: see `closest`. */
  readonly tail: number;
  /** How it was found. */
  readonly method: 'svd' | 'range';
}

/** Up to here, in m n min(m, n), the whole decomposition is made: about a second. */
const WHOLE = 2 ** 24;
const OVERSAMPLE = 8;
const ITERATIONS = 4;

/**
 * A B of rank k nearest to D `[m, n]` in the Frobenius norm, in float64 on the host.
 *
 *     D = U diag(s) V^T,   A = U_k sqrt(S_k),   B = sqrt(S_k) V_k^T,   tail^2 = sum_{i > k} s_i^2
 *
 * By Eckart and Young (1936) no other matrix of rank k is nearer than `tail`. 'svd', where m n min(m, n) is up to 2^24:
 * the tail is exact, and `error` is it but for the rounding of A and B to float32. 'range', above: s are the singular
 * values of Q^T D, with Q `[m, w]` from randomised subspace iteration (arXiv:0909.4061, algorithm 4.4) and w = k + 8.
 * With rho^2 = ||D||^2 - ||Q^T D||^2, what Q misses,
 *
 *     sum_{k < i <= w} s_i^2  <=  (least error)^2  <=  error^2  =  sum_{k < i <= w} s_i^2 + rho^2,
 *
 * for the k largest eigenvalues of D^T D = (Q^T D)^T (Q^T D) + R^T R are at most those of the first summand plus the
 * trace of the second (Ky Fan). `tail` is then the left end: a bound from below, and `error` may be up to rho above it.
 *
 * @param rank k, or `{energy}`: the least k that leaves at most `1 - energy` of ||D||^2, e.g. 0.99.
 */
export function closest(d: Matrix, rank: number | {readonly energy: number}): Closest {
  const [m, n] = [d.rows, d.columns];
  const most = Math.min(m, n);
  const norm = d.norm('frobenius');
  const isWhole = m * n * most <= WHOLE;
  if (typeof rank === 'number') {
    expectRank('closest', rank, m, n);
    return assembled(d, rank, norm, isWhole || rank + OVERSAMPLE >= most ? whole(d) : ranged(d, rank));
  }
  const allowed = (1 - rank.energy) * norm ** 2;
  for (let width = isWhole ? most : 16; ; width *= 2) {
    const found = width + OVERSAMPLE >= most ? whole(d) : ranged(d, width);
    let left = norm ** 2;
    const k = 1 + found.s.slice(0, width).findIndex(value => (left -= value ** 2) <= allowed);
    if (k > 0) return assembled(d, k, norm, found);
    if (found.method === 'svd') return assembled(d, most, norm, found);
  }
}

interface Found {
  readonly u: Matrix;
  readonly s: readonly number[];
  readonly v: Matrix;
  readonly method: 'svd' | 'range';
}

const whole = (d: Matrix): Found => ({...hostSvd(d), method: 'svd'});

function ranged(d: Matrix, rank: number): Found {
  // From the smaller side, whose products are the cheaper ones to make orthonormal.
  const width = rank + OVERSAMPLE;
  const transposed = d.transpose();
  let q = orthonormalized(
    d.mmul(toHost(normal([d.columns, width], splitSeed(0, 'closest')) as Tensor2D)),
    splitSeed(0, 'left'),
  );
  for (let i = 0; i < ITERATIONS; i++) {
    const z = orthonormalized(transposed.mmul(q), splitSeed(0, 'right', i));
    q = orthonormalized(d.mmul(z), splitSeed(0, 'left', i));
  }
  // D^T Q = P R with an orthonormal P, so Q^T D = R^T P^T, and R^T is small.
  const image = transposed.mmul(q);
  const p = orthonormalized(image, splitSeed(0, 'last'));
  const {u, s, v} = hostSvd(image.transpose().mmul(p));
  return {u: q.mmul(u), s, v: p.mmul(v), method: 'range'};
}

function assembled(d: Matrix, rank: number, norm: number, {u, s, v, method}: Found): Closest {
  const [m, n] = [d.rows, d.columns];
  const root = s.map(Math.sqrt);
  const a = new Float32Array(m * rank);
  const b = new Float32Array(rank * n);
  for (let k = 0; k < rank; k++) {
    for (let i = 0; i < m; i++) a[i * rank + k] = u.get(i, k) * root[k]!;
    for (let j = 0; j < n; j++) b[k * n + j] = v.get(j, k) * root[k]!;
  }
  const product = HostMatrix.from1DArray(m, rank, a).mmul(HostMatrix.from1DArray(rank, n, b));
  const error = HostMatrix.sub(d, product).norm('frobenius');
  const tail = Math.sqrt(s.slice(rank).reduce((sum, value) => sum + value ** 2, 0));
  return {a, b, rank, norm, error, tail, method};
}

/** `W - W0` `[m, n]` in float64, of float32 numbers row by row. */
export function differenceOf(
  after: ArrayLike<number>,
  before: ArrayLike<number>,
  [m, n]: readonly [m: number, n: number],
): Matrix {
  return HostMatrix.from1DArray(
    m,
    n,
    Float64Array.from(after, (value, i) => value - before[i]!),
  );
}
