import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, mul, tensor2d, transpose} from '@tensorflow/tfjs-core';
import type {GramBasis} from './gram-basis.js';

/**
 * The X `[r, r]` of least norm with `P X + X Q = C` as nearly as can be, for symmetric, positive semi-definite P and Q:
 * in their eigenbases `X_ij = C_ij / (p_i + q_j)`, and 0 where both are 0.
 */
export function sylvester(p: GramBasis, q: GramBasis, c: Tensor2D): Tensor2D {
  const inverse = p.values.flatMap(x => q.values.map(y => (x + y > 0 ? 1 / (x + y) : 0)));
  const turned = matMul(matMul(transpose(p.vectors), c), q.vectors);
  const divided = mul(turned, tensor2d(inverse, [p.values.length, q.values.length])) as Tensor2D;
  return matMul(matMul(p.vectors, divided), transpose(q.vectors));
}

/** The pseudo-inverse of the matrix, `[r, r]`. */
export function inverseOf({vectors, values}: GramBasis): Tensor2D {
  const inverse = values.map(value => (value > 0 ? 1 / value : 0));
  return matMul(mul(vectors, tensor2d(inverse, [1, values.length])) as Tensor2D, transpose(vectors));
}
