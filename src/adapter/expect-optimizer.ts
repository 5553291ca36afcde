import type {ProjectedOptimizer} from '../optimizer.js';
import {given} from './given.js';

/** Throws unless this is an optimizer of ours. `instanceof` will not do: tfjs takes every optimizer for every other. */
export function expectOptimizer(where: string, value: unknown): asserts value is ProjectedOptimizer {
  const {checkpoint, resume} = (value ?? {}) as Partial<ProjectedOptimizer>;
  if (typeof checkpoint === 'function' && typeof resume === 'function') return;
  const name = (value as {getClassName?(): string} | null)?.getClassName?.() ?? given(value).words;
  throw new TypeError(`${where}: the optimizer must be one of tfjs-lora, such as loraAdam, and is ${name}`);
}
