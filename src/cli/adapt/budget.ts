import type {Method} from './methods.js';
import {type Matrix, parametrizationAt, trainedOf} from './optimizer.js';

/** Numbers that a method trains of some matrices at a rank. */
export const trainedAt = (method: Method, rank: number, matrices: readonly Matrix[]): number => {
  const parametrization = parametrizationAt(method, rank);
  return matrices.reduce((sum, {shape}) => sum + trainedOf(parametrization, shape), 0);
};

/**
 * The rank at which a method trains about `budget` numbers: of those that save something on every matrix, the one
 * whose ratio to the budget is nearest to 1. Null for a method without a rank.
 */
export function rankFor(method: Method, matrices: readonly Matrix[], budget: number): number | null {
  if (method.rank === null) return null;
  const widest = Math.max(...matrices.flatMap(({shape}) => shape));
  let best = {rank: 1, miss: Infinity};
  for (let rank = 1; rank <= widest; rank++) {
    const parametrization = parametrizationAt(method, rank);
    const saves = matrices.every(({shape}) => trainedOf(parametrization, shape) < shape[0] * shape[1]);
    if (!saves && rank > 1) break;
    const trained = trainedAt(method, rank, matrices);
    const miss = Math.abs(Math.log(trained / budget));
    if (miss < best.miss) best = {rank, miss};
    if (trained >= budget) break;
  }
  return best.rank;
}
