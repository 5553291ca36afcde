import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {
  broadcast_util,
  getBackend,
  matMul,
  ones,
  reshape,
  sum,
  tidy,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';

// tfjs's wasm matMul is fast only without transpose flags, and packs its right operand anew when that is new. So there
// flags become transposes, and the thin matrix goes to the right. Other backends take the flags in their stride.

/** `a^T`, `[n, t]` from `[t, n]`. On wasm a large one in blocks of 64 rows, which tfjs's transpose walks faster. */
export function turned(a: Tensor2D): Tensor2D {
  const [t, n] = a.shape;
  if (getBackend() !== 'wasm' || t % BLOCK !== 0 || a.size < LARGE) return transpose(a);
  return tidy(() => {
    const blocks = transpose(reshape(a, [t / BLOCK, BLOCK, n]), [0, 2, 1]);
    return reshape(transpose(blocks, [1, 0, 2]), [n, t]);
  });
}

const BLOCK = 64;
const LARGE = 300_000;

/** `a b^T`, `[t, k]` from `[t, n]` and `[k, n]`. */
export function timesTransposed(a: Tensor2D, b: Tensor2D): Tensor2D {
  if (getBackend() !== 'wasm') return matMul(a, b, false, true);
  const [t, n] = a.shape;
  const k = b.shape[0];
  return tidy(() => (t * (n + k) < n * k ? turned(matMul(b, turned(a))) : matMul(a, turned(b))));
}

/** `a^T b`, `[m, k]` from `[t, m]` and a thin `[t, k]`. */
export function transposedTimes(a: Tensor2D, b: Tensor2D): Tensor2D {
  // wasm's product leaves what it finds in memory where nothing is to be added up.
  if (a.shape[0] === 0) return zeros([a.shape[1], b.shape[1]]);
  return getBackend() === 'wasm' ? tidy(() => matMul(turned(a), b)) : matMul(a, b, true);
}

/** `1^T a`, `[1, n]`: a product, because wasm sums over the first axis by transposing. */
export function columnSums(a: Tensor2D): Tensor2D {
  if (a.shape[0] === 0) return zeros([1, a.shape[1]]);
  return matMul(ones([1, a.shape[0]]) as Tensor2D, a);
}

/** The gradient of a bias that was added to what dy is the gradient of: dy summed over the axes it was spread along. */
export function biasGradient(dy: Tensor, bias: Tensor): Tensor {
  const n = dy.shape.at(-1)!;
  const isRow = bias.size === n && (bias.shape.at(-1) ?? 1) === n;
  if (isRow) return reshape(columnSums(reshape(dy, [dy.size / Math.max(n, 1), n])), bias.shape);
  return reshape(sum(dy, broadcast_util.getReductionAxes(bias.shape, dy.shape)), bias.shape);
}
