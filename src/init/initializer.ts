import type {Tensor} from '@tensorflow/tfjs-core';
import type {Start} from '../parametrization.js';

/**
 * Where the factors of a product `a b` start: `a` is `[m, rank]`, `b` is `[rank, n]`.
 * A factor left out starts at zero, so that the product does too. Returning both is a start away from zero: the
 * weight still begins at W0, because the parametrization subtracts the product it starts from.
 */
export type Initializer = (start: Start & {readonly rank: number}) => {
  readonly a?: Tensor;
  readonly b?: Tensor;
};
