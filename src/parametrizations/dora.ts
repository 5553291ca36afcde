import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {
  add,
  div,
  expandDims,
  matMul,
  maximum,
  mul,
  sqrt,
  square,
  squeeze,
  sub,
  transpose,
} from '@tensorflow/tfjs-core';
import {columnSums} from '../capture/layout.js';
import {expectInit, startOf} from '../init/begin.js';
import type {Initializer} from '../init/initializer.js';
import {kaiming} from '../init/kaiming.js';
import {beginProduct, observing} from '../init/product.js';
import {expectOneOf, expectOptions} from '../options.js';
import type {BasedState, Composed, Start} from '../parametrization.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface DoraOptions {
  /** r, a positive integer. Default 8. */
  rank?: number;
  /** Default: the rank, so that the classic scaling is 1. */
  alpha?: number;
  /** Scale by alpha/sqrt(r) instead of alpha/r (rsLoRA, arXiv:2312.03732). Default false. */
  rankStabilised?: boolean;
  /**
   * `'differentiated'` (default): the gradient of the formula. `'constant'`: A and B get the gradient they would have if
   * the lengths of the columns did not depend on them, as in PEFT.
   */
  norm?: 'differentiated' | 'constant';
  /** Where A and B start: ours, or a function of your own. Default `kaiming()`. */
  init?: Initializer;
}

type Key = 'a' | 'b' | 'magnitude';

/**
 * W = V diag(mu / ||V||), V = W0 + s A B, A `[m, r]`, B `[r, n]`, mu `[n]`, ||V|| the length of every column, s = alpha/r.
 * Adjoint, with U = V diag(1 / ||V||): g_mu = diag(U^T G), G_V = (G - U diag(g_mu)) diag(mu / ||V||), g_A = s G_V B^T,
 * g_B = s A^T G_V.
 *
 * `magnitude` is mu. Trains r (m + n) + n numbers, keeps the base and forms G. Source: arXiv:2402.09353.
 */
export const dora = /* @__PURE__ */ recipe('dora', (options: DoraOptions = {}): Composed<Key> => {
  expectOptions('dora', options, ['rank', 'alpha', 'rankStabilised', 'norm', 'init']);
  const {rank = 8, alpha = rank, rankStabilised = false, norm = 'differentiated', init = kaiming()} = options;
  const s = scaling('dora', {rank, alpha, rankStabilised});
  expectOneOf('dora: norm', norm, ['differentiated', 'constant']);
  expectInit('dora', init, 'kaiming() or (start) => ({a, b})');

  /** V, the lengths of its columns `[1, n]`, and mu over these. */
  const polar = ({factors, frozen, base}: BasedState<Key>) => {
    const {a, b, magnitude} = factors;
    const from = startOf<'a' | 'b'>(frozen, {a, b});
    const product = from ? sub(matMul(a, b), matMul(from.a, from.b)) : matMul(a, b);
    const v = add(base, mul(product, s)) as Tensor2D;
    const length = lengths(v);
    return {v, length, stretch: div(expandDims(magnitude, 0), length)};
  };
  const start = (given: Start) => {
    const {factors, frozen} = beginProduct('dora', init, given, {rank, scale: s});
    return {factors: {...factors, magnitude: squeeze(lengths(given.weight), [0])}, ...(frozen && {frozen})};
  };
  /** What a gradient of V is for A and B. */
  const ofProduct = ({a, b}: Readonly<Record<'a' | 'b', Tensor>>, gradient: Tensor) => ({
    a: mul(matMul(gradient, transpose(b)), s),
    b: mul(matMul(transpose(a), gradient), s),
  });

  return {
    name: 'dora',
    rank,
    ...observing(init, rank),
    trained: ([m, n]) => rank * (m + n) + n,
    init: start,
    compose: state => {
      const {v, stretch} = polar(state);
      return mul(v, stretch);
    },
    pullback: (state, gradient) => {
      const {v, length, stretch} = polar(state);
      const [G, u] = [gradient.dense(), div(v, length)];
      const along = columnSums(mul(G, u) as Tensor2D);
      const across = mul(sub(G, mul(u, along)), stretch);
      return {...ofProduct(state.factors, across), magnitude: squeeze(along, [0])};
    },
    // What G_V loses along U by the change of the lengths is put back; it is g_mu that says how much.
    ...(norm === 'constant' && {
      precondition: (state, {a, b, magnitude}) => {
        const {v, length, stretch} = polar(state);
        const back = ofProduct(state.factors, mul(v, div(mul(stretch, expandDims(magnitude, 0)), length)));
        return {a: add(a, back.a), b: add(b, back.b), magnitude};
      },
    }),
    refresh: (_, given) => start(given),
  };
});

/** Length of every column, `[1, n]`, never quite zero: a column of zeros has a stretch of 1 at the start, not 0/0. */
function lengths(v: Tensor2D): Tensor {
  return sqrt(maximum(columnSums(square(v)), 1e-30));
}
