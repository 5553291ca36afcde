import type {Matrix} from './matrix.js';

/** The trained matrices of one weight, by name: `{a, b}` for LoRA. */
export type Factors = Record<string, Matrix>;

/** W = W0 + Delta(theta), where Delta(theta) is [m, n] and theta is a handful of factors. */
export interface Parametrization<F extends Factors> {
  /** Delta(theta), [m, n]. */
  delta(factors: F): Matrix;
  /** The gradient of each factor from the gradient G of W, [m, n]: the adjoint of the derivative of Delta. */
  pullback(factors: F, gradient: Matrix): F;
  /** Delta(next) - Delta(factors), [m, n]: how W moves when the factors do. */
  lift(factors: F, next: F): Matrix;
}

/** The same operation on every factor. */
export function mapFactors<F extends Factors>(
  factors: F,
  change: (factor: Matrix, name: keyof F) => Matrix,
): F {
  return Object.fromEntries(Object.entries(factors).map(([name, f]) => [name, change(f, name)])) as F;
}
