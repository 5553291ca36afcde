/**
 * How much of a gradient a subspace catches, with every projector formed:
 *
 *     left K + L right      Pi G = PL G + G PR - PL G PR
 *     left K right          Pi G = PL G PR
 *
 * PL [m, m] projects on the columns of left [m, p], PR [n, n] on the rows of right [q, n].
 */
import {formula} from './formula.js';
import {frobenius, identity, inner, product, shapeOf, transpose, zeros, type Matrix} from './matrix.js';

/** One side left out bounds nothing in a product, and adds nothing to a sum. */
export interface TangentSpace {
  form: 'sum' | 'product' | 'all';
  left?: Matrix;
  right?: Matrix;
}

const without = formula('a - P * a');
const grown = formula("P + u * u' ./ size2");
const sumFormula = formula('PL * G + G * PR - PL * G * PR');
const productFormula = formula('PL * G * PR');

/** The orthogonal projector on the columns of A, [m, m]: grows by u u' / u'u, u what each column adds to those before. */
export function projector(a: Matrix, tolerance = 1e-10): Matrix {
  const [rows, columns] = shapeOf(a);
  let P = zeros([rows, rows]);
  for (let j = 0; j < columns; j++) {
    const column = a.lo(0, j).hi(rows, 1);
    const u = without({P, a: without({P, a: column})});
    if (frobenius(u) > tolerance * frobenius(column)) P = grown({P, u, size2: inner(u, u)});
  }
  return P;
}

/** Pi G. */
export function caught({form, left, right}: TangentSpace, gradient: Matrix, tolerance?: number): Matrix {
  const [m, n] = shapeOf(gradient);
  const none = form === 'sum' ? (size: number) => zeros([size, size]) : identity;
  const PL = left ? projector(left, tolerance) : none(m);
  const PR = right ? projector(transpose(right), tolerance) : none(n);
  return (form === 'sum' ? sumFormula : productFormula)({PL, PR, G: gradient});
}

/** ||Pi G||^2 / ||G||^2, from 0 to 1. Columns within `tolerance` of the span of those before add nothing to it. */
export function capturedShare(space: TangentSpace, gradient: Matrix, tolerance?: number): number {
  return frobenius(caught(space, gradient, tolerance)) ** 2 / frobenius(gradient) ** 2;
}

/** -<change, G> / (||change|| ||G||): 1 for a step along -G. */
export function cosine(change: Matrix, gradient: Matrix): number {
  return -inner(change, gradient) / (frobenius(change) * frobenius(gradient));
}

/** 1 - tr(P Q) / max(rank P, rank Q), with P and Q the projectors on the columns of A and B. */
export function drift(a: Matrix, b: Matrix): number {
  const [P, Q] = [projector(a), projector(b)];
  const trace = (x: Matrix) => inner(x, identity(shapeOf(x)[0]));
  return 1 - trace(product(P, Q)) / Math.max(trace(P), trace(Q));
}
