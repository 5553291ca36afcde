import type {Scalar, Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import type {Gradient} from './capture/gradient.js';

/**
 * The contract of this library: how one weight depends on a few factors.
 *
 *     W = Phi(W0, theta; c)      theta: factors, moved by the inner optimizer
 *                                c: frozen part, chosen anew only at a refresh
 *
 * Every weight is seen as a matrix `[m, n]`: the last axis is n, all others together are m (a dense kernel
 * `[in, out]` as it is, a conv kernel `[kh, kw, in, out]` as `[kh*kw*in, out]`, a vector as `[1, n]`).
 *
 * A parametrization is a plain value, usually made by a factory such as `lora({rank: 8})`. Its members are pure
 * functions of tensors: no variables, no optimizer, no `dispose`, no `keep`. The library calls them inside
 * `tf.tidy` and keeps what has to live.
 *
 * The laws, checked by `tfjs-lora/testing`:
 *
 * - **start**       Phi at `init` is the weight it was given: `delta = 0`, or `compose = weight`.
 * - **adjoint**     `<G, DPhi v> = <pullback(G), v>` for every G and v; DPhi by central differences.
 * - **agreement**   a hand-written `pullback` equals automatic differentiation.
 * - **lift**        `lift(state, next) = Phi(next) - Phi(state)`.
 * - **tangent**     what `tangent` declares is the image of DPhi: it holds every DPhi v, and no more.
 * - **continuity**  right after a `refresh`, Phi is the weight it was given.
 * - **keys**        `pullback` and `refresh` return every factor by its name, in its shape.
 * - **purity**      equal inputs give equal outputs, inputs stay as they were, no tensor is left behind.
 */
export type Parametrization<K extends string = string> = Additive<K> | Composed<K>;

/** What is known when a weight is attached, or its subspace chosen again. */
export interface Start {
  /** The weight as a matrix, `[m, n]`. */
  readonly weight: Tensor2D;
  /** Its gradient at this moment, as an operator of shape `[m, n]`. */
  readonly gradient: Gradient;
  /** A 32-bit seed that belongs to this weight and step alone: see `normal` and `uniform`. */
  readonly seed: number;
}

/** What `init` and `refresh` return. */
export interface Fresh<K extends string = string> {
  readonly factors: Readonly<Record<K, Tensor>>;
  /** Constants of this start: bases, signs, start values. Default: none. */
  readonly frozen?: Readonly<Record<string, Tensor>>;
}

/** Factors and frozen part at one moment. */
export interface State<K extends string = string> {
  readonly factors: Readonly<Record<K, Tensor>>;
  readonly frozen: Readonly<Record<string, Tensor>>;
}

/** A state together with the base `[m, n]`, for parametrizations that need it. */
export interface BasedState<K extends string = string> extends State<K> {
  readonly base: Tensor2D;
}

/**
 * The matrices `[m, n]` that the tangent map DPhi reaches, by what bounds them:
 *
 *     'sum'      {left K + L right}, for all K and L
 *     'product'  {left K right}, for all K
 *     'all'      every matrix
 *
 * A side that is left out adds nothing to the sum, and does not bound the product.
 */
export type Tangent =
  | {readonly form: 'all'}
  | {
      readonly form: 'sum' | 'product';
      /** `[m, p]`, of any rank. */
      readonly left?: Tensor2D;
      /** `[q, n]`, of any rank. */
      readonly right?: Tensor2D;
    };

/** What every parametrization may have; S is the state its members are given. */
export interface Members<K extends string, S extends State<K>> {
  /** What tables and files call it. */
  readonly name: string;

  /** Shown in tables. */
  readonly rank?: number;

  /**
   * Numbers that would be trained for an `[m, n]` weight. A weight for which that is no fewer than m n is not
   * attached: it is left to `rest`, or trained as it is when a rule names it. Left out: every weight is taken.
   */
  trained?(shape: readonly [m: number, n: number]): number;

  /** Factors and frozen part for a weight seen for the first time. */
  init(start: Start): Fresh<K>;

  /**
   * The adjoint of the tangent map: dL/dtheta from dL/dW, always the true adjoint.
   * Default: automatic differentiation of `delta` or `compose` on the dense gradient.
   */
  pullback?(state: S, gradient: Gradient): Record<K, Tensor>;

  /** The change of W, `[m, n]`, when the factors move. Default: the difference of `delta` or `compose`. */
  lift?(state: S, next: S): Tensor;

  /**
   * New factors and frozen part; the current weight becomes the base.
   * Factors keep their shapes: the inner optimizer's moments depend on them.
   */
  refresh?(state: S, start: Start & {readonly step: number}): Fresh<K>;

  /**
   * Bends the factor gradients before the inner optimizer sees them (scaled gradients, masks); linear in the
   * gradient. Kept apart from `pullback`, so that the adjoint stays an adjoint.
   */
  precondition?(state: S, grads: Readonly<Record<K, Tensor>>, gradient: Gradient): Record<K, Tensor>;

  /** The image of DPhi at this state: what `telemetry()` measures gradients against. Default: not known. */
  tangent?(state: S): Tangent;
}

/** `W = W0 + delta(theta; c)`. The base need not be stored: the library moves W by differences. */
export interface Additive<K extends string = string> extends Members<K, State<K>> {
  /** The change from the base, `[m, n]`; zero right after `init` and `refresh`. */
  delta(state: State<K>): Tensor;
}

/** `W = Phi(W0, theta; c)` in general. The base is stored. */
export interface Composed<K extends string = string> extends Members<K, BasedState<K>> {
  /** The weight, `[m, n]`; equal to the base right after `init` and `refresh`. */
  compose(state: BasedState<K>): Tensor;
}

export type {Gradient, Scalar};
