import type {Fresh, Observation, Start} from '../parametrization.js';
import {begin} from './begin.js';
import type {Initializer} from './initializer.js';

/** Where A `[m, rank]` and B `[rank, n]` of `s A B` start, s being `scale`; what both start with is frozen. */
export function beginProduct(
  where: string,
  init: Initializer,
  given: Start,
  {rank, scale}: {readonly rank: number; readonly scale: number},
): Fresh<'a' | 'b'> {
  const [m, n] = given.weight.shape;
  return begin(where, init({...given, rank, scale}), {a: [m, rank], b: [rank, n]});
}

/** The gradients an initialiser wants to see first, as the member of a parametrization of this rank. */
export function observing({observe}: Initializer, rank: number): {observe?: Observation} {
  return observe ? {observe: {...observe, begin: given => observe.begin({...given, rank})}} : {};
}
