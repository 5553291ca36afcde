import type {Tensor} from '@tensorflow/tfjs-core';
import type {Observation, Start} from '../parametrization.js';

/**
 * Where the factors of a product `a b` start: `a` is `[m, rank]`, `b` is `[rank, n]`.
 * A factor left out starts at zero, so that the product does too. Returning both is a start away from zero: the
 * weight still begins at W0, because the parametrization subtracts the product it starts from.
 */
export interface Initializer {
  (start: InitializerStart): {readonly a?: Tensor; readonly b?: Tensor};
  /** Gradients to see before the start, which is given their sum as `sketch`. Default: the first one alone. */
  readonly observe?: InitializerObservation;
}

export interface InitializerStart extends Start {
  readonly rank: number;
  /** s of `W = W0 + s a b`. Default 1. */
  readonly scale?: number;
}

/** An `Observation` whose sums may depend on the rank. */
export interface InitializerObservation extends Pick<Observation, 'steps' | 'add'> {
  begin(start: Parameters<Observation['begin']>[0] & {readonly rank: number}): Record<string, Tensor>;
}
