import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, mul, reshape, sub, tensor} from '@tensorflow/tfjs-core';
import * as calculus from '../calculus.js';
import {matrixShape} from '../targets.js';
import {mapValues, reshaped} from '../tensors.js';
import type {AdapterWeight, HostTensor} from './adapter.js';
import {errorOf} from './untrusted.js';

/** What an adapter does to one weight. Formulas only: call them in `tf.tidy`. */

/** One adapter's entry for a weight, and how much of its change counts. */
export interface Share {
  readonly entry: AdapterWeight;
  readonly scale: number;
}

/**
 * `W0 + sum_i scale_i (Phi_i(W0) - W0)`, in the order given; for one share of scale 1 that is `Phi(W0)`, with no
 * rounding besides its own. For no shares it is W0.
 */
export function withShares(base: Tensor, shares: readonly Share[]): Tensor {
  const counting = shares.filter(({scale}) => scale !== 0);
  if (counting.length === 0) return base.clone();
  if (counting.length === 1 && counting[0]!.scale === 1) return weightFrom(base, counting[0]!.entry);
  const changes = counting.map(({entry, scale}) => mul(changeFrom(base, entry), scale));
  return add(
    base,
    changes.reduce((sum, change) => add(sum, change)),
  );
}

/** `Phi(W0)`, in the shape of the weight. */
export function weightFrom(base: Tensor, entry: AdapterWeight): Tensor {
  const {parametrization: p, shape} = entry;
  if (!p) return wholeWeight(entry);
  return computed(entry, () => {
    const matrix = reshape(base, matrixShape(shape)) as Tensor2D;
    // Of another shape, a change might be broadcast.
    if (!calculus.isComposed(p)) return add(matrix, matrixOf(entry, calculus.phi(p, stateOf(entry))));
    return calculus.weightAt(p, {...stateOf(entry), base: matrix});
  });
}

/** `Phi(W0) - W0`, in the shape of the weight. */
export function changeFrom(base: Tensor, entry: AdapterWeight): Tensor {
  const {parametrization: p} = entry;
  if (!isRemovable(entry)) return sub(weightFrom(base, entry), base);
  return computed(entry, () => calculus.phi(p!, stateOf(entry)));
}

/** `W - delta`: the base, to rounding. Only where `isRemovable`. */
export function baseFrom(weight: Tensor, entry: AdapterWeight, scale: number): Tensor {
  const change = changeFrom(weight, entry);
  return sub(weight, scale === 1 ? change : mul(change, scale));
}

/** Whether the change does not depend on the base, so that it can be taken off again without knowing it. */
export function isRemovable({parametrization: p}: AdapterWeight): boolean {
  return p !== null && !calculus.isComposed(p);
}

const stateOf = ({factors, frozen}: AdapterWeight): calculus.HeldState => ({
  factors: mapValues(factors, onDevice),
  frozen: mapValues(frozen, onDevice),
});

function wholeWeight(entry: AdapterWeight): Tensor {
  const weight = entry.factors['weight'];
  if (weight && String(weight.shape) === String(entry.shape)) return onDevice(weight);
  throw errorOf(
    `the adapter's ${entry.path} [${entry.shape}] was trained as it is, and comes with ` +
      (weight ? `a weight [${weight.shape}]` : "no 'weight'"),
  );
}

function computed(entry: AdapterWeight, compute: () => Tensor): Tensor {
  let result: Tensor;
  try {
    result = matrixOf(entry, compute());
  } catch (error) {
    const factors = Object.entries({...entry.factors, ...entry.frozen}).map(
      ([key, {shape}]) => `${key} [${shape}]`,
    );
    throw errorOf(
      `the adapter's ${factors.join(', ')} are no factors of ${entry.parametrization!.name} for ` +
        `${entry.path} [${entry.shape}]: ${(error as Error).message}`,
      {cause: error},
    );
  }
  return reshaped(result, [...entry.shape]);
}

function matrixOf({shape}: AdapterWeight, matrix: Tensor): Tensor {
  const wanted = matrixShape(shape);
  if (String(matrix.shape) === String(wanted)) return matrix;
  throw errorOf(`they make a change of [${matrix.shape}] where [${wanted}] is needed`);
}

/** A copy: on the cpu backend a tensor and the array it was made from are one. */
function onDevice({shape, values}: HostTensor): Tensor {
  return tensor(values.slice(), [...shape], values instanceof Int32Array ? 'int32' : 'float32');
}
