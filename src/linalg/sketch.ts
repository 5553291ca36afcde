import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, eye, tensor1d, zeros} from '@tensorflow/tfjs-core';
import type {Matrix} from 'ml-matrix';
import {normal, splitSeed} from '../random.js';
import {toHost} from './host.js';
import {orthonormalized} from './orthonormal.js';
import {expectRank, type Operator} from './range-finder.js';
import {read} from './read.js';
import {hostSvd, leading, type Singular, toTensors, withoutNoise} from './svd.js';

/**
 * What is kept of a sum of gradients `[m, n]` that are gone: its products with two random matrices,
 *
 *     y = sum_i G_i Omega   [m, k]        z = sum_i Psi^T G_i   [l, n]        k = 2 rank + 1,  l = 2 k + 1
 *
 * Both are linear, so gradients may come one after the other. Omega and Psi are Gaussian and follow from the seed, which
 * travels along as two halves that any file can hold. Where a side is no larger than k or l the random matrix is the
 * identity, and the sum is known exactly.
 *
 * Source: Tropp, Yurtsever, Udell, Cevher, arXiv:1609.00048, with their k and l for spectra that fall slowly.
 */
export type Sketch = Readonly<Record<'y' | 'z' | 'seed', Tensor>>;

export interface SketchStart {
  readonly shape: readonly [m: number, n: number];
  /** How many singular vectors will be asked for. */
  readonly rank: number;
  /** A whole number of 32 bits. */
  readonly seed: number;
}

/** A sketch of zero. */
export function beginSketch({shape: [m, n], rank, seed}: SketchStart): Sketch {
  const k = Math.min(2 * rank + 1, m, n);
  const l = Math.min(2 * k + 1, m);
  const bits = seed >>> 0;
  return {y: zeros([m, k]), z: zeros([l, n]), seed: tensor1d([bits >>> 16, bits & 0xffff])};
}

/** The sketch with one gradient more: two thin products. */
export function addToSketch({y, z, seed}: Sketch, gradient: Operator): Sketch {
  const [m, n] = gradient.shape;
  const [k, l] = [y.shape[1]!, z.shape[0]!];
  if (y.shape[0] !== m || z.shape[1] !== n) {
    throw new Error(
      `addToSketch: a sketch of [${y.shape[0]}, ${z.shape[1]}] meets a gradient of [${m}, ${n}]`,
    );
  }
  return {
    y: add(y, gradient.rightMul(test(n, k, seed, 'omega'))),
    z: add(z, gradient.leftMul(test(m, l, seed, 'psi'))),
    seed,
  };
}

/**
 * The first `rank` singular vectors and values of the sum, and an estimate of its `||.||_F^2`: exact where min(m, n) is
 * small, without bias else.
 *
 *     Q = orth(y);   G ~ Q X,   X = (Psi^T Q)^+ z
 *
 * The small least-squares problem is solved by its singular value decomposition in float64.
 */
export function topOfSketch(
  {y, z, seed}: Sketch,
  {rank}: {readonly rank: number},
): Singular & {readonly norm2: number} {
  const [[m, k], [l, n]] = [y.shape as [number, number], z.shape as [number, number]];
  expectRank('topOfSketch', rank, k, n);
  const number = seedOf(seed);
  const left = toHost(y as Tensor2D, WHAT);
  const q = orthonormalized(left, splitSeed(number, 'range'));
  const right = toHost(z as Tensor2D, WHAT);
  const psi = toHost(test(m, l, seed, 'psi'));
  const {u, s, v} = hostSvd(psi.transpose().mmul(q));
  // Psi^T Q is Gaussian, [l, k] with l > 2 k: far from singular. [m, k] with orthonormal columns where l = m.
  const x = v.mmul(divided(u.transpose().mmul(right), s));
  const found = hostSvd(x);
  const sum = {u: q.mmul(found.u), s: found.s, v: found.v};
  const top = withoutNoise(leading(sum, rank), 1e-6, splitSeed(number, 'noise'));
  return {
    ...toTensors(top),
    norm2: k === n ? left.norm('frobenius') ** 2 : right.norm('frobenius') ** 2 / (l === m ? 1 : l),
  };
}

const WHAT = 'topOfSketch: the sketch';

function divided(matrix: Matrix, by: readonly number[]): Matrix {
  by.forEach((value, i) => matrix.mulRow(i, 1 / value));
  return matrix;
}

/** The random matrix `[size, count]` of one side. */
function test(size: number, count: number, seed: Tensor, side: string): Tensor2D {
  return size === count ? eye(size) : (normal([size, count], splitSeed(seedOf(seed), side)) as Tensor2D);
}

function seedOf(seed: Tensor): number {
  const [high, low] = read(seed);
  return (high! * 0x10000 + low!) | 0;
}
