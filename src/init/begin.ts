import type {Tensor} from '@tensorflow/tfjs-core';
import {zeros} from '@tensorflow/tfjs-core';
import type {Fresh} from '../parametrization.js';
import {mapValues} from '../tensors.js';

/**
 * Factors of these shapes from what an initialiser gave; what it left out is zero. When it left out none the weight
 * may not start at W0, so the start is frozen too, under `…Start`, to be subtracted. Throws on a wrong shape.
 */
export function begin<K extends string>(
  where: string,
  given: {readonly [key in K]?: Tensor},
  shapes: Readonly<Record<K, readonly number[]>>,
): Fresh<K> {
  const keys = Object.keys(shapes) as K[];
  for (const key of Object.keys(given) as K[]) {
    const shape = given[key]?.shape;
    if (!(key in shapes))
      throw new Error(`${where}: init returned '${key}'; its factors are ${keys.join(', ')}`);
    if (shape && String(shape) !== String(shapes[key])) {
      throw new Error(`${where}: init returned ${key} of shape [${shape}] where [${shapes[key]}] is needed`);
    }
  }
  const missing = keys.filter(key => !given[key]);
  if (missing.length === keys.length) {
    throw new Error(`${where}: init returned none of ${keys.join(', ')}; with all at zero nothing can move`);
  }
  const factors = mapValues(shapes, (shape, key) => given[key as K] ?? zeros([...shape])) as Record<
    K,
    Tensor
  >;
  if (missing.length > 0) return {factors};
  return {factors, frozen: Object.fromEntries(keys.map(key => [`${key}Start`, factors[key]]))};
}

/** The factors that `begin` froze, by their own names; null when some factor started at zero. */
export function startOf<K extends string>(
  frozen: Readonly<Record<string, Tensor>>,
  factors: Readonly<Record<K, Tensor>>,
): Record<K, Tensor> | null {
  const keys = Object.keys(factors) as K[];
  if (!frozen[`${keys[0]!}Start`]) return null;
  return Object.fromEntries(keys.map(key => [key, frozen[`${key}Start`]!])) as Record<K, Tensor>;
}
