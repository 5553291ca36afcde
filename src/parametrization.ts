import type {Scalar, Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import type {Gradient} from './capture/gradient.js';
import type {Moments} from './moments.js';
import type {Schedule} from './schedule.js';

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
 * - **continuity**  right after a `refresh`, Phi is the weight it was given.
 * - **transport**   `transport` carries moments as W does: through DPhi of the old state, and DPhi* of the new.
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
  /** What `observe` gathered from the gradients up to and with this one, where the parametrization asked for it. */
  readonly sketch?: Readonly<Record<string, Tensor>>;
}

/** Gradients that a weight sees before it starts: nothing moves until then. */
export interface Observation {
  /** How many gradients, the one it starts with among them; at least 1. */
  readonly steps: number;
  /** Empty sums for a weight of this shape. */
  begin(start: {
    readonly shape: readonly [m: number, n: number];
    readonly seed: number;
  }): Record<string, Tensor>;
  /** The sums with one gradient more; linear in the gradient. */
  add(sums: Readonly<Record<string, Tensor>>, gradient: Gradient): Record<string, Tensor>;
}

/** How a subspace is renewed where the options of the optimizer do not say. */
export interface Renewal {
  /** When, by steps taken. */
  readonly refresh: Schedule;
  /** What becomes of the inner optimizer's moments then. */
  readonly moments: Moments;
  /** What must not become of them, and why: an error for every inner optimizer that has moments. */
  readonly refuses?: Partial<Record<Moments, string>>;
}

/** A linear map between the old and the new coordinates of a factor: `left x right`, either of which may be missing. */
export interface Transport {
  /** `[p, p]` for a factor `[p, q]`. */
  readonly left?: Tensor2D;
  /** `[q, q]` */
  readonly right?: Tensor2D;
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

  /** When the subspace is renewed, unless the options say otherwise. Default: never. */
  readonly renewal?: Renewal;

  /** Gradients to see before `init`, which is given what was gathered. Default: it sees the first one alone. */
  readonly observe?: Observation | undefined;

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
   * How moments of the factors follow a refresh (`moments: 'transport'`): for each factor the map from its old
   * coordinates to its new ones, `DPhi_new* DPhi_old` up to a number. For W = W0 + P R it is `left = P_new^T P_old`.
   */
  transport?(state: S, next: S): Record<K, Transport>;

  /**
   * Bends the factor gradients before the inner optimizer sees them (scaled gradients, masks); linear in the
   * gradient. Kept apart from `pullback`, so that the adjoint stays an adjoint.
   */
  precondition?(state: S, grads: Readonly<Record<K, Tensor>>, gradient: Gradient): Record<K, Tensor>;
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
