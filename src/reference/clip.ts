import {formula} from './formula.js';
import {frobenius} from './matrix.js';
import {mapFactors, type Factors} from './parametrization.js';

const shorten = formula('limit / max(norm, limit) * g');

/** sqrt of the sum of all squares, over all matrices together. */
export function globalNorm(gradients: Factors): number {
  return Math.hypot(...Object.values(gradients).map(frobenius));
}

/** g * limit / max(norm, limit): all gradients together no longer than `limit` (arXiv:1211.5063). */
export function clipByGlobalNorm<F extends Factors>(gradients: F, limit: number): F {
  const norm = globalNorm(gradients);
  return mapFactors(gradients, g => shorten({g, norm, limit}));
}
