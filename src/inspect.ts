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
 * Reads one small tensor, and more only in doubt.
 */
export function findUnusable(
  projected: Projected,
  clipped: boolean,
): {weight: Variable; isFinite: boolean}[] {
  const entries = [...projected];
  const norms = read(entries.map(([, {norm2}]) => norm2));
  return entries
    .filter((_, i) => !Number.isFinite(norms[i]))
    .map(([{weight}, {grads}]) => ({weight, isFinite: areFinite(Object.values(grads))}))
    .filter(({isFinite}) => !(clipped && isFinite));
}

/** Whether these tensors are all finite: one small read, more in doubt. */
export function areAllFinite(variables: readonly Tensor[]): boolean {
  const norm2 = tidy(() => sumOfSquares(Object.fromEntries(variables.map((v, i) => [i, v]))));
  const [value] = read([norm2]);
  norm2.dispose();
  return Number.isFinite(value) || areFinite(variables);
}

/** Throws when a weight attached by this step could never move. */
export function expectMovable(projected: Projected): void {
  const entries = [...projected].filter(([, {gradientNorm2}]) => gradientNorm2);
  const values = read(entries.flatMap(([, {norm2, gradientNorm2}]) => [norm2, gradientNorm2!]));
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

/** Whether this backend can hand over a number at once. webgpu outside a browser cannot. */
export function canRead(): boolean {
  const name = getBackend();
  if (unreadable.has(name)) return false;
  if (name !== 'webgpu' || typeof OffscreenCanvas !== 'undefined') return true;
  unreadable.add(name);
  console.warn(
    `tfjs-lora: the ${name} backend cannot be read synchronously here, so gradients are not checked for NaN`,
  );
  return false;
}

const unreadable = new Set<string>();

function areFinite(tensors: readonly Tensor[]): boolean {
  return tensors.every(tensor => {
    const finite = tidy(() => all(isFiniteEach(tensor)));
    const [value] = finite.dataSync();
    finite.dispose();
    return value === 1;
  });
}

function read(scalars: readonly Scalar[]): Float32Array {
  if (scalars.length === 0) return new Float32Array();
  const stacked = tidy(() => stack([...scalars]));
  const values = stacked.dataSync() as Float32Array;
  stacked.dispose();
  return values;
}
