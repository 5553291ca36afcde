import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {all, getBackend, isFinite as isFiniteEach, stack, tidy} from '@tensorflow/tfjs-core';
import type {Attachment, Projection} from './attachment.js';
import {describe} from './attachment.js';
import {sumOfSquares} from './tensors.js';

/** What the gradients of one step ask of each weight. */
export type Projected = ReadonlyMap<Attachment, Projection>;

/**
 * The weights whose projected gradients hold NaN or infinity, or numbers so large that their squares overflow:
 * those would stay in Adam's second moment for good. With `clipped`, finite ones of any size are fine.
 * Reads one number for all of them, and looks at each only in doubt.
 */
export function findUnusable(
  projected: Projected,
  clipped: boolean,
): {weight: Variable; isFinite: boolean}[] {
  const entries = [...projected].map(([{weight}, {grads}]) => ({weight, grads: Object.values(grads)}));
  if (haveFiniteSquares(entries.flatMap(({grads}) => grads))) return [];
  const norms = read(() => entries.map(({grads}) => sumOfSquares(grads)));
  return entries
    .filter((_, i) => !Number.isFinite(norms[i]))
    .map(({weight, grads}) => ({weight, isFinite: areFinite(grads)}))
    .filter(({isFinite}) => !(clipped && isFinite));
}

/** Whether these tensors are all finite: one small read, more in doubt. */
export function areAllFinite(variables: readonly Tensor[]): boolean {
  return haveFiniteSquares(variables) || areFinite(variables);
}

/** Throws when a weight attached by this step could never move. */
export function expectMovable(projected: Projected): void {
  const entries = [...projected].filter(([, {gradientNorm2}]) => gradientNorm2);
  const values = read(() =>
    entries.flatMap(([, {grads, gradientNorm2}]) => [sumOfSquares(Object.values(grads)), gradientNorm2!]),
  );
  entries.forEach(([attachment, projection], i) => {
    // One gradient may well miss the factors (an embedding whose trained rows are not in the batch): ask another.
    if (values[2 * i] !== 0 || values[2 * i + 1] === 0 || !attachment.isDead(projection)) return;
    throw new Error(
      `${attachment.parametrization!.name} on ${describe(attachment.weight)} starts at a dead point: the gradient of ` +
        'every factor is zero whatever the gradient of the weight is, so nothing would ever move. Start at least ' +
        'one factor away from zero.',
    );
  });
}

/** Whether a step may read a number: not on webgpu, which cannot hand one over at once. */
export const canRead = (): boolean => getBackend() !== 'webgpu';

function areFinite(tensors: readonly Tensor[]): boolean {
  return tensors.every(tensor => {
    const finite = tidy(() => all(isFiniteEach(tensor)));
    const [value] = finite.dataSync();
    finite.dispose();
    return value === 1;
  });
}

const haveFiniteSquares = (tensors: readonly Tensor[]): boolean =>
  Number.isFinite(read(() => [sumOfSquares(tensors)])[0]);

function read(compute: () => readonly Scalar[]): Float32Array {
  const result = tidy(() => {
    const scalars = compute();
    return scalars.length > 1 ? stack([...scalars]) : scalars[0]?.clone();
  });
  if (!result) return new Float32Array();
  const values = result.dataSync() as Float32Array;
  result.dispose();
  return values;
}
