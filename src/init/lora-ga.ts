import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, tensor2d, transpose} from '@tensorflow/tfjs-core';
import {denseGradient} from '../capture/gradient.js';
import {topSingular} from '../linalg/range-finder.js';
import {read} from '../linalg/read.js';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import {normal, splitSeed, threefry} from '../random.js';
import {recipe} from '../recipe.js';
import {expectGradientOptions, fromGradient, type GradientOptions, topOfGradient} from './directions.js';
import type {Initializer, InitializerStart} from './initializer.js';

export interface LoraGAOptions extends GradientOptions {
  /**
   * Which singular vectors of the gradient go where. `'arb2r'` (default): a has the first r left ones, b the next r
   * right ones; `'a2rbr'`: the other way round; `'arbr'`: b has the odd ones, a the even ones; `'random'`: a random
   * half each. `'gaussian'`: none of them, but Gaussian columns and rows of length 1 in the mean.
   */
  direction?: 'arb2r' | 'a2rbr' | 'arbr' | 'random' | 'gaussian';
  /**
   * The length c of each column of a and row of b. `'stable'` (default): `n^(1/4)/sqrt(gamma)`; `'gd'`: 1/s, so that
   * the first SGD step is the projected gradient itself; `'unit'`: 1; `'weight'`: the mean of sqrt(sigma/s) over the
   * first r singular values of the weight.
   */
  scale?: 'stable' | 'gd' | 'unit' | 'weight';
  /** For `scale: 'stable'`. Default 16. */
  gamma?: number;
  /** Is told how much of the gradient the 2r directions hold. */
  onEnergy?: (energy: LoraGAEnergy) => void;
}

/** `captured / norm2` is the share of the gradient that the first step can follow. */
export interface LoraGAEnergy {
  readonly shape: readonly [m: number, n: number];
  readonly rank: number;
  /** Sum of the first 2r squared singular values. */
  readonly captured: number;
  /** `||G||_F^2`; with several gradients, of their sum, estimated from its sketch. */
  readonly norm2: number;
}

/**
 * LoRA-GA: `a = c U_I`, `b = c V_J^T` from the gradient `G = U S V^T`, I and J disjoint, together the first 2r.
 *
 * Then the first step is the best that factors of rank r can do: with `s = alpha/sqrt(r)` and SGD it moves W by
 * `-eta zeta G_2r`, `zeta = s^2 c^2`, and with `scale: 'stable'` the product `s x a b` has the deviation alpha/gamma for
 * x of unit variance, whatever r, m, n and the size of G are. W stays at W0. Two plus 2 iterations thin products; G is
 * not formed. Where 2r exceeds min(m, n) all directions there are get used once, and what is left of a and b is zero.
 * Source: arXiv:2407.05000.
 */
export const loraGA = /* @__PURE__ */ recipe('loraGA', (options: LoraGAOptions = {}): Initializer => {
  const known = ['direction', 'scale', 'gamma', 'steps', 'iterations', 'onEnergy'];
  expectOptions('loraGA', options, known);
  const {direction = 'arb2r', scale = 'stable', gamma = 16, onEnergy} = options;
  expectOneOf('loraGA: direction', direction, ['arb2r', 'a2rbr', 'arbr', 'random', 'gaussian']);
  expectOneOf('loraGA: scale', scale, ['stable', 'gd', 'unit', 'weight']);
  expectNumber('loraGA: gamma', gamma, 'a number above 0', g => g > 0);
  expectGradientOptions('loraGA', options);

  if (direction === 'gaussian') {
    return start => {
      const [m, n] = start.weight.shape;
      const [size, {rank, seed}] = [lengthOf(scale, gamma, start), start];
      return {
        a: normal([m, rank], splitSeed(seed, 'a'), {std: size / Math.sqrt(m)}),
        b: normal([rank, n], splitSeed(seed, 'b'), {std: size / Math.sqrt(n)}),
      };
    };
  }
  const fromVectors: Initializer = start => {
    const [m, n] = start.weight.shape;
    const {rank, gradient} = start;
    const count = Math.min(2 * rank, m, n);
    const {u, s, v, norm2} = topOfGradient(start, count, options);
    onEnergy?.({
      shape: [m, n],
      rank,
      captured: s.reduce((sum, value) => sum + value ** 2, 0),
      norm2: norm2 ?? read(gradient.norm2(), 'loraGA: a norm')[0]!,
    });
    const size = lengthOf(scale, gamma, start);
    const {left, right} = shares(direction, rank, count, splitSeed(start.seed, 'halves'));
    // Zeros of a at the end, of b at the beginning: where one is zero the other is not, so that no pair is dead.
    return {
      a: matMul(u, placing(count, rank, left, 0, size)),
      b: transpose(matMul(v, placing(count, rank, right, rank - right.length, size))),
    };
  };
  return fromGradient(fromVectors, options, rank => 2 * rank);
});

/** Which of the first `count` directions a takes from the left and b from the right: each one once, at most r each. */
function shares(
  direction: 'arb2r' | 'a2rbr' | 'arbr' | 'random',
  rank: number,
  count: number,
  seed: number,
): {left: number[]; right: number[]} {
  const all = Array.from({length: count}, (_, i) => i);
  const first = Math.min(rank, count);
  if (direction === 'arb2r') return {left: all.slice(0, first), right: all.slice(first)};
  if (direction === 'a2rbr') return {left: all.slice(first), right: all.slice(0, first)};
  if (direction === 'arbr') return {left: all.filter(i => i % 2 === 1), right: all.filter(i => i % 2 === 0)};
  const lot = (i: number) => threefry([seed, 0], [i, 0])[0];
  const shuffled = all.sort((i, j) => lot(i) - lot(j));
  return {left: shuffled.slice(0, Math.ceil(count / 2)), right: shuffled.slice(Math.ceil(count / 2))};
}

function lengthOf(
  scale: 'stable' | 'gd' | 'unit' | 'weight',
  gamma: number,
  {weight, rank, scale: s = 1, seed}: InitializerStart,
): number {
  if (scale === 'unit') return 1;
  if (scale === 'gd') return 1 / Math.abs(s);
  const [m, n] = weight.shape;
  if (scale === 'stable') return n ** 0.25 / Math.sqrt(gamma);
  const count = Math.min(rank, m, n);
  const found = topSingular(denseGradient(weight, [m, n]), {rank: count, seed: splitSeed(seed, 'weight')});
  return found.s.reduce((sum, value) => sum + Math.sqrt(value / Math.abs(s)), 0) / count;
}

/** `[count, rank]`, which takes column `indices[j]` to column `first + j`, times `size`. */
function placing(
  count: number,
  rank: number,
  indices: readonly number[],
  first: number,
  size: number,
): Tensor2D {
  const values = new Float32Array(count * rank);
  indices.forEach((index, j) => (values[index * rank + first + j] = size));
  return tensor2d(values, [count, rank]);
}
