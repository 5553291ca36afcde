import type {Tensor2D} from '@tensorflow/tfjs-core';
import {tensor2d} from '@tensorflow/tfjs-core';
import type {Matrix} from 'ml-matrix';
import {threefry} from '../random.js';
import {columnsOf, fromColumns, fromHost, toHost} from './host.js';
import {dot} from './vector.js';

/**
 * A random `[rows, columns]` matrix with orthonormal columns (rows, when there are more columns than rows),
 * uniformly distributed (Haar): Gram-Schmidt of a Gaussian matrix, twice, in float64 on the host.
 * Source: Stewart, "The efficient generation of random orthogonal matrices" (SIAM J. Numer. Anal. 17, 1980).
 */
export function randomOrthonormal(rows: number, columns: number, seed: number): Tensor2D {
  const count = Math.min(rows, columns);
  const length = Math.max(rows, columns);
  const vectors = Array.from({length: count}, (_, i) => gaussianVector(length, seed, i));
  gramSchmidt(vectors, seed);
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < length; k++) {
      values[rows >= columns ? k * columns + i : i * columns + k] = vectors[i]![k]!;
    }
  }
  return tensor2d(values, [rows, columns]);
}

/**
 * An orthonormal basis `[m, k]` whose first j columns span the first j columns of a thin `[m, k]` matrix, for every j:
 * the Q of its QR decomposition with a positive diagonal in R. Gram-Schmidt, twice, in float64 on the host.
 *
 * There are always k columns. One that lies in the span of those before it, up to the rounding of float32, is replaced
 * by a random direction that follows from `seed`. Throws when k > m, or when an entry is not finite.
 */
export function orthonormalize(matrix: Tensor2D, {seed = 0}: {seed?: number} = {}): Tensor2D {
  return fromHost(orthonormalized(toHost(matrix, 'orthonormalize: the matrix'), seed));
}

/** The same on the host. The first `kept` columns are taken to be orthonormal as they are. */
export function orthonormalized(matrix: Matrix, seed = 0, kept = 0): Matrix {
  const {rows, columns} = matrix;
  if (columns > rows) {
    throw new RangeError(`orthonormalize: [${rows}, ${columns}] cannot have ${columns} orthonormal columns`);
  }
  const vectors = columnsOf(matrix);
  gramSchmidt(vectors, seed, kept);
  return fromColumns(vectors);
}

function gramSchmidt(vectors: Float64Array[], seed: number, kept = 0): void {
  for (let i = kept; i < vectors.length; i++) {
    for (let attempt = 0; !separated(vectors, i); attempt++) {
      vectors[i] = gaussianVector(vectors[i]!.length, seed, i + (attempt + 1) * 1_000_003);
    }
  }
}

/** Makes vector i orthogonal to those before it and of length 1, and says whether float32 leaves anything of it. */
function separated(vectors: readonly Float64Array[], i: number): boolean {
  const v = vectors[i]!;
  const length = Math.sqrt(dot(v, v));
  if (length === 0) return false;
  for (let k = 0; k < v.length; k++) v[k]! /= length;
  for (let pass = 0; pass < 2; pass++) {
    for (let j = 0; j < i; j++) subtract(v, vectors[j]!, dot(v, vectors[j]!));
    const rest = Math.sqrt(dot(v, v));
    if (rest < ROUNDING) return false;
    for (let k = 0; k < v.length; k++) v[k]! /= rest;
  }
  return true;
}

/** Two units in the last place of float32. */
const ROUNDING = 2 ** -22;

function gaussianVector(length: number, seed: number, index: number): Float64Array {
  return Float64Array.from({length}, (_, k) => {
    const [x, y] = threefry([seed, index + 1], [k, 0]);
    return Math.sqrt(-2 * Math.log(1 - x / 2 ** 32)) * Math.cos((2 * Math.PI * y) / 2 ** 32);
  });
}

function subtract(v: Float64Array, w: Float64Array, scale: number): void {
  for (let k = 0; k < v.length; k++) v[k]! -= scale * w[k]!;
}
