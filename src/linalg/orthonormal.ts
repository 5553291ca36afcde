import type {Tensor2D} from '@tensorflow/tfjs-core';
import {tensor2d} from '@tensorflow/tfjs-core';
import {threefry} from '../random.js';

/**
 * A random `[rows, columns]` matrix with orthonormal columns (rows, when there are more columns than rows),
 * uniformly distributed (Haar): Gram-Schmidt of a Gaussian matrix, twice, in float64 on the host.
 * Source: Stewart, "The efficient generation of random orthogonal matrices" (SIAM J. Numer. Anal. 17, 1980).
 */
export function randomOrthonormal(rows: number, columns: number, seed: number): Tensor2D {
  const count = Math.min(rows, columns);
  const length = Math.max(rows, columns);
  const vectors = Array.from({length: count}, (_, i) => gaussianVector(length, seed, i));
  for (let i = 0; i < count; i++) {
    const v = vectors[i]!;
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) subtract(v, vectors[j]!, dot(v, vectors[j]!));
    }
    const norm = Math.sqrt(dot(v, v));
    for (let k = 0; k < length; k++) v[k]! /= norm;
  }
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < length; k++) {
      values[rows >= columns ? k * columns + i : i * columns + k] = vectors[i]![k]!;
    }
  }
  return tensor2d(values, [rows, columns]);
}

function gaussianVector(length: number, seed: number, index: number): Float64Array {
  return Float64Array.from({length}, (_, k) => {
    const [x, y] = threefry([seed, index + 1], [k, 0]);
    return Math.sqrt(-2 * Math.log(1 - x / 2 ** 32)) * Math.cos((2 * Math.PI * y) / 2 ** 32);
  });
}

function dot(v: Float64Array, w: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < v.length; k++) sum += v[k]! * w[k]!;
  return sum;
}

function subtract(v: Float64Array, w: Float64Array, scale: number): void {
  for (let k = 0; k < v.length; k++) v[k]! -= scale * w[k]!;
}
