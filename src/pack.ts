import type {Optimizer, Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  AdadeltaOptimizer,
  AdagradOptimizer,
  AdamaxOptimizer,
  AdamOptimizer,
  concat,
  getBackend,
  MomentumOptimizer,
  reshape,
  RMSPropOptimizer,
  SGDOptimizer,
  slice,
} from '@tensorflow/tfjs-core';

// A small tensor costs a backend little more than the launch of a kernel. Where each number is computed on its own it
// makes no difference which tensor it lies in, so many small ones are computed as one: the same numbers, fewer
// launches.

/** Numbers up to which a tensor is small. */
const SMALL = 2 ** 16;

/** Numbers in one pack. wasm's Slice first copies all that it takes a part of, so a large pack costs more than it saves. */
const room = () => (getBackend() === 'wasm' ? 2 ** 14 : 2 ** 22);

/**
 * Launches that tfjs's optimizers make for each parameter, at least. All of them treat each number on its own. Any
 * other class may not, or do more than it seems.
 */
const LAUNCHES = new Map<unknown, number>([
  [SGDOptimizer, 2],
  [MomentumOptimizer, 4],
  [AdagradOptimizer, 7],
  [RMSPropOptimizer, 10],
  [AdamaxOptimizer, 11],
  [AdadeltaOptimizer, 13],
  [AdamOptimizer, 14],
]);

/** Whether this is one of tfjs's seven optimizers, as it is there. */
export const isOfTfjs = (optimizer: Optimizer): boolean =>
  !Object.hasOwn(optimizer, 'applyGradients') && LAUNCHES.has(optimizer.constructor);

/** Which of these parameters an optimizer steps together: only where that saves launches. */
export function packsOf(optimizer: Optimizer, parameters: readonly Variable[]): Variable[][] {
  if (!isOfTfjs(optimizer)) return [];
  const launches = LAUNCHES.get(optimizer.constructor)!;
  const packs: Variable[][] = [];
  let free = 0;
  for (const parameter of parameters) {
    if (!isSmall(parameter)) continue;
    free -= parameter.size;
    if (free >= 0) packs.at(-1)!.push(parameter);
    else {
      free = room() - parameter.size;
      packs.push([parameter]);
    }
  }
  // A pack takes a Concat of its gradients, one of its parameters and a Slice for each.
  return packs.filter(({length}) => (length - 1) * launches > 2 + length);
}

/** Small tensors as one, the large ones as they are; for what does not ask which number is whose. */
export function joined(tensors: readonly Tensor[]): Tensor[] {
  const small = tensors.filter(isSmall);
  return small.length > 1 ? [flat(small), ...tensors.filter(tensor => !isSmall(tensor))] : [...tensors];
}

/** All numbers of these tensors, one after another, `[sum of sizes]`. */
export function flat(tensors: readonly Tensor[]): Tensor {
  return concat(tensors.map(tensor => reshape(tensor, [tensor.size])));
}

/** The inverse of `flat`: parts in the shapes of these tensors. */
export function parts(packed: Tensor, like: readonly Tensor[]): Tensor[] {
  let start = 0;
  return like.map(({shape, size}) => {
    const part = reshape(slice(packed, [start], [size]), shape);
    start += size;
    return part;
  });
}

const isSmall = ({dtype, size}: Tensor) => dtype === 'float32' && size <= SMALL;
