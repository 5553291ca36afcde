import type {Scalar, Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, addN, matMul, ones, reshape, square, sum, transpose} from '@tensorflow/tfjs-core';

/**
 * dL/dW of one weight, `G` of shape `[m, n]`, as a linear operator: what it does to other matrices, not what it
 * holds. A parametrization asks only for products, so a gradient need not exist as a matrix.
 */
export interface Gradient {
  readonly shape: readonly [m: number, n: number];
  /** `P^T G`, `[k, n]`, for P `[m, k]`. */
  leftMul(p: Tensor2D): Tensor2D;
  /** `G Q`, `[m, k]`, for Q `[n, k]`. */
  rightMul(q: Tensor2D): Tensor2D;
  /** `G 1`, `[m, 1]`. */
  rowSums(): Tensor2D;
  /** `1^T G`, `[1, n]`. */
  columnSums(): Tensor2D;
  /** `||G||_F^2`. */
  norm2(): Scalar;
  /** G itself, `[m, n]`: the last resort. */
  dense(): Tensor2D;
  /** `(x^T x) Q`, [m, k], where x is known. */
  inputGram?(q: Tensor2D): Tensor2D;
}

/** A gradient that exists as a tensor, seen as `[m, n]`. The tensor stays the caller's. */
export function denseGradient(tensor: Tensor, shape: readonly [m: number, n: number]): Gradient {
  const [m, n] = shape;
  const dense = () => reshape(tensor, [m, n]) as Tensor2D;
  return {
    shape,
    // The thin factor is transposed by hand: tfjs's wasm matMul is slow with its transpose flags.
    leftMul: p => matMul(transpose(p), dense()),
    rightMul: q => matMul(dense(), q),
    rowSums: () => sum(dense(), 1, true) as Tensor2D,
    columnSums: () => matMul(ones([1, m]) as Tensor2D, dense()),
    norm2: () => sum(square(tensor)) as Scalar,
    dense,
  };
}

/** The sum of gradients of one weight: of its uses, or of micro-batches. At least one. */
export function sumOfGradients(terms: readonly Gradient[]): Gradient {
  const [first, ...others] = terms;
  if (!first) throw new Error('sumOfGradients: there is nothing to add');
  if (others.length === 0) return first;
  const total = (of: (term: Gradient) => Tensor2D) =>
    others.reduce((sum, term) => add(sum, of(term)) as Tensor2D, of(first));
  const dense = () => addN(terms.map(term => term.dense()));
  return {
    shape: first.shape,
    leftMul: p => total(term => term.leftMul(p)),
    rightMul: q => total(term => term.rightMul(q)),
    rowSums: () => total(term => term.rowSums()),
    columnSums: () => total(term => term.columnSums()),
    // ||G1 + G2||^2 has cross terms, which the parts do not know.
    norm2: () => sum(square(dense())) as Scalar,
    dense,
  };
}
