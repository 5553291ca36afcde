import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {abs, add, div, matMul, mul, square, sub} from '@tensorflow/tfjs-core';
import type {Transport} from './parametrization.js';
import {mapValues, type Named} from './tensors.js';

/**
 * What becomes of the inner optimizer's moments when a subspace is chosen anew:
 *
 * - 'keep'       they stay as they are, now in the new coordinates (GaLore's code; ReLoRA's without pruning);
 * - 'reset'      they start again from nothing, as the factors do;
 * - 'transport'  they follow the subspace, as far as the old and the new have something in common.
 */
export type Moments = 'keep' | 'reset' | 'transport';

export const MOMENTS = ['keep', 'reset', 'transport'] as const satisfies readonly Moments[];

/** What a slot of a tfjs optimizer holds: a mean of gradients, a mean of their squares, or the largest of their sizes. */
type Kind = 'mean' | 'square' | 'size';

/** The slots of tfjs's optimizers, by class and field. */
const kinds: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  SGD: {},
  Momentum: {accumulations: 'mean'},
  Adagrad: {accumulatedGrads: 'square'},
  Adadelta: {accumulatedGrads: 'square', accumulatedUpdates: 'square'},
  RMSProp: {accumulatedMeanSquares: 'square', accumulatedMeanGrads: 'mean', accumulatedMoments: 'mean'},
  Adam: {accumulatedFirstMoment: 'mean', accumulatedSecondMoment: 'square'},
  Adamax: {accumulatedFirstMoment: 'mean', accumulatedWeightedInfNorm: 'size'},
};

/** Whether an inner optimizer's moments can be transported: those of tfjs's own classes. */
export const canTransport = (className: string): boolean => className in kinds;

/** Whether an inner optimizer remembers anything of the gradients. */
export const hasMoments = (className: string): boolean => className !== 'SGD';

/** What Adam divides its means by: `1 - beta1^t`, `1 - beta2^t`; scalars where they cannot be read. */
export type Unbiased = Readonly<Record<'first' | 'second', number | Tensor>>;

/**
 * The moments of one parameter in new coordinates. With T the transport, `T x = left x right`, and |T|, T o T the same
 * with the sizes and the squares of the entries of both:
 *
 *     mean of gradients      m' = T m
 *     mean of squares        v' = |(T o T)(v - m^2) + m'^2|   where the same optimizer keeps a mean m, else (T o T) v
 *     largest size           u' = |T| u                       a bound: |T g| <= |T| |g|
 *
 * The second line moves the variance of each coordinate as if coordinates were independent (LDAdam, arXiv:2410.16103),
 * with both means freed of the bias towards their start at zero.
 *
 * @param slots By field, e.g. `accumulatedFirstMoment`.
 */
export function transported(
  className: string,
  slots: Named,
  transport: Transport,
  unbiased: Unbiased = {first: 1, second: 1},
): Record<string, Tensor> {
  const of = kinds[className]!;
  const means = mapValues(slots, (slot, field) => (of[field] === 'mean' ? through(transport, slot) : null));
  const squares = mapped(transport, square);
  return mapValues(slots, (slot, field) => {
    if (of[field] === 'mean') return means[field]!;
    if (of[field] === 'size') return through(mapped(transport, abs), slot);
    const mean = centre[field];
    if (!mean || !slots[mean]) return through(squares, slot);
    const {first, second} = unbiased;
    const variance = sub(over(slot, second), square(over(slots[mean], first)));
    return mul(abs(add(through(squares, variance), square(over(means[mean]!, first)))), second);
  });
}

const over = (x: Tensor, by: number | Tensor) => (typeof by === 'number' ? mul(x, 1 / by) : div(x, by));

/** The mean that belongs to a mean of squares. */
const centre: Readonly<Record<string, string>> = {
  accumulatedSecondMoment: 'accumulatedFirstMoment',
  accumulatedMeanSquares: 'accumulatedMeanGrads',
};

/** `left x right`. */
export function through({left, right}: Transport, x: Tensor): Tensor {
  const turned = left ? matMul(left, x as Tensor2D) : x;
  return right ? matMul(turned as Tensor2D, right) : turned;
}

function mapped({left, right}: Transport, f: (x: Tensor2D) => Tensor2D): Transport {
  return {...(left && {left: f(left)}), ...(right && {right: f(right)})};
}
