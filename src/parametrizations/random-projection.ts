import type {Tensor2D} from '@tensorflow/tfjs-core';
import {concat, matMul, mul, scalar, sub, tensor1d, transpose, zeros} from '@tensorflow/tfjs-core';
import {transposedTimes} from '../capture/layout.js';
import {randomOrthonormal} from '../linalg/orthonormal.js';
import {read} from '../linalg/read.js';
import {expectBoolean, expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Additive, Start, State, Transport} from '../parametrization.js';
import {normal, splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import {every} from '../schedule.js';

export interface RandomProjectionOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** `'both'` (default): two factors, as LoRA has; `'left'` or `'right'`: one, with G projected on that side. */
  sides?: 'both' | 'left' | 'right';
  /** Entries N(0, 1) (default), or columns of length 1 that are orthogonal, uniformly distributed (Haar): less noise. */
  distribution?: 'gaussian' | 'orthonormal';
  /** Whether s makes a step of SGD -eta G in the mean. False: s = 1. Default true. */
  unbiased?: boolean;
}

/**
 * W = W0 + s (A B - A0 B0), A `[m, r]` and B `[r, n]` starting at random A0, B0 that are drawn anew at every step.
 * Adjoint: g_A = s G B^T, g_B = s A^T G. One-sided: W0 + s A0 B with B from 0, g_B = s A0^T G; or W0 + s A B0.
 *
 * A step of SGD is (A0 - eta s G B0^T)(B0 - eta s A0^T G) s - s A0 B0, in the mean -eta s^2 k G with k = 2r for
 * Gaussian matrices (r one-sided), and r/m + r/n for orthonormal ones (r/m or r/n). So s = 1/sqrt(k), unless
 * `unbiased` is false. A0 and B0 are kept as their seed.
 * Source: Su Jianlin, kexue.fm/archives/9590, which has s = 1 and r = 1.
 */
export const randomProjection = /* @__PURE__ */ recipe(
  'randomProjection',
  (options: RandomProjectionOptions = {}): Additive<string> => {
    expectOptions('randomProjection', options, ['rank', 'sides', 'distribution', 'unbiased']);
    const {rank = 8, sides = 'both', distribution = 'gaussian', unbiased = true} = options;
    const isCount = (r: number) => Number.isInteger(r) && r >= 1;
    expectNumber('randomProjection: rank', rank, 'a whole number of at least 1', isCount);
    expectOneOf('randomProjection: sides', sides, ['both', 'left', 'right']);
    expectOneOf('randomProjection: distribution', distribution, ['gaussian', 'orthonormal']);
    expectBoolean('randomProjection: unbiased', unbiased);
    const isRandom = {a: sides !== 'right', b: sides !== 'left'};

    /** E[A0 A0^T] on a side of this size, in units of the identity. */
    const share = (size: number) => (distribution === 'gaussian' ? rank : Math.min(rank, size) / size);
    const scaleOf = ([m, n]: Shape) =>
      unbiased ? 1 / Math.sqrt((isRandom.a ? share(m) : 0) + (isRandom.b ? share(n) : 0)) : 1;
    const draw = (rows: number, columns: number, seed: number) =>
      distribution === 'gaussian'
        ? (normal([rows, columns], seed) as Tensor2D)
        : randomOrthonormal(rows, columns, seed);

    /** The random matrices of a state. What they follow from is never computed with: no device is waited for. */
    const drawn = ({seed, shape}: State['frozen']) => {
      const [m, n] = read(shape!) as unknown as Shape;
      const [number] = read(seed!) as unknown as [number];
      return {
        s: scaleOf([m, n]),
        a: () => draw(m, rank, splitSeed(number, 'a')),
        b: () => draw(rank, n, splitSeed(number, 'b')),
      };
    };
    /** Both factors of the product: a side that is not trained is its random matrix. */
    const product = ({factors, frozen}: State) => {
      const {s, a, b} = drawn(frozen);
      return {s, a: (factors['a'] ?? a()) as Tensor2D, b: (factors['b'] ?? b()) as Tensor2D};
    };

    const start = ({weight: {shape}, seed}: Start) => {
      const frozen = {seed: scalar(seed | 0, 'int32'), shape: tensor1d(shape, 'int32')};
      const {a, b} = drawn(frozen);
      if (sides === 'left') return {factors: {b: zeros([rank, shape[1]])}, frozen};
      if (sides === 'right') return {factors: {a: zeros([shape[0], rank])}, frozen};
      return {factors: {a: a(), b: b()}, frozen};
    };

    /** The old coordinates as far as the new directions know them: least squares, in the mean for Gaussian matrices. */
    const transport = (state: State, next: State): Record<string, Transport> => {
      const [old, fresh] = [drawn(state.frozen), drawn(next.frozen)];
      const worth = (size: number) => (distribution === 'gaussian' ? 1 / Math.max(size, rank) : 1);
      if (sides === 'left') {
        const [before, after] = [old.a(), fresh.a()];
        return {b: {left: mul(transposedTimes(after, before), worth(before.shape[0]))}};
      }
      const [before, after] = [old.b(), fresh.b()];
      return {a: {right: mul(matMul(before, transpose(after)), worth(before.shape[1]))}};
    };

    return {
      name: 'randomProjection',
      rank,
      trained: ([m, n]) => rank * ((sides === 'left' ? 0 : m) + (sides === 'right' ? 0 : n)),
      renewal: {
        refresh: every(1),
        moments: 'reset',
        refuses: {
          keep: 'the next step has other random directions, to which these moments say nothing',
          ...(sides === 'both' && {
            transport: "with sides: 'both' a moment of one factor would have to go to the other",
          }),
        },
      },
      init: start,
      delta: ({factors, frozen}) => {
        const {s, a, b} = product({factors, frozen});
        const whole = matMul(a, b);
        if (sides !== 'both') return mul(whole, s);
        const begin = drawn(frozen);
        return mul(sub(whole, matMul(begin.a(), begin.b())), s);
      },
      pullback: (state, gradient) => {
        const {s, a, b} = product(state);
        return {
          ...(sides !== 'left' && {a: mul(gradient.rightMul(transpose(b)), s)}),
          ...(sides !== 'right' && {b: mul(gradient.leftMul(a), s)}),
        };
      },
      // As LoRA's: A'B' - AB = (A' - A) B' + A (B' - B), one product where both factors move.
      lift: (state, next) => {
        const {s, a, b} = product(state);
        const moved = (key: 'a' | 'b') => mul(sub(next.factors[key]!, state.factors[key]!), s) as Tensor2D;
        if (sides === 'left') return matMul(a, moved('b'));
        if (sides === 'right') return matMul(moved('a'), b);
        return matMul(concat([moved('a'), a], 1), concat([next.factors['b'] as Tensor2D, moved('b')], 0));
      },
      refresh: (_, given) => start(given),
      ...(sides !== 'both' && {transport}),
      tangent: state => {
        const {a, b} = product(state);
        return {form: 'sum', ...(sides !== 'right' && {left: a}), ...(sides !== 'left' && {right: b})};
      },
    };
  },
);

type Shape = readonly [m: number, n: number];
