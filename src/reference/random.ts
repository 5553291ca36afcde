import {matrix, type Matrix, type Shape} from './matrix.js';

export interface Generator {
  /** Uniform in (0, 1), 32 bits. */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
}

/** A stream of numbers for a seed: xorshift (Marsaglia 2003) with the shifts 13, 17, 5, and Box and Muller's normals. */
export function generator(seed: number): Generator {
  let state = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  for (let i = 0; i < 8; i++) uniform();
  return {uniform, normal};
}

/** Independent standard normal entries, times `size`. */
export function randomMatrix([rows, columns]: Shape, {normal}: Generator, size = 1): Matrix {
  return matrix(
    [rows, columns],
    Array.from({length: rows * columns}, () => size * normal()),
  );
}
