import type {Tensor2D} from '@tensorflow/tfjs-core';
import {getBackend, matMul, ones, transpose} from '@tensorflow/tfjs-core';

/**
 * `a b^T`, `[t, k]` from `[t, n]` and `[k, n]`, in the layout that is fast where tfjs runs: its wasm matMul is 10 to 50
 * times slower with a transpose flag, so there the smaller operand is transposed by hand.
 */
export function timesTransposed(a: Tensor2D, b: Tensor2D): Tensor2D {
  if (getBackend() !== 'wasm') return matMul(a, b, false, true);
  const [t, n] = a.shape;
  const k = b.shape[0];
  if (t * (n + k) < n * k) return transpose(matMul<Tensor2D>(b, transpose(a)));
  return matMul(a, transpose(b));
}

/** `1^T a`, `[1, n]`: a product, because wasm sums over the first axis by transposing. */
export function columnSums(a: Tensor2D): Tensor2D {
  return matMul(ones([1, a.shape[0]]) as Tensor2D, a);
}
