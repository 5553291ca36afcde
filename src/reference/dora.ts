/**
 * DoRA (arXiv:2402.09353): the length and the direction of every column of W, trained apart.
 *
 *     W = V diag(mu / ||V||)      V = W0 + s A B      A [m, r]   B [r, n]   mu [1, n]      ||V|| [1, n], of the columns
 *
 * As matrices do not broadcast here, X diag(q) is X .* (one * q), with one [m, 1].
 */
import {formula} from './formula.js';
import {filled, shapeOf, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `a` [m, r], `b` [r, n], `magnitude` [1, n]. */
export type DoraFactors = {a: Matrix; b: Matrix; magnitude: Matrix};

const directionFormula = formula('W0 + s * A * B');
const lengthFormula = formula("sqrt(one' * V .^ 2)");
const mergedFormula = formula('V .* (one * (mu ./ length))');
const alongFormula = formula("(one' * (G .* V)) ./ length");
const acrossFormula = formula('(G - V .* (one * (along ./ length))) .* (one * (mu ./ length))');
const stretchedFormula = formula('G .* (one * (mu ./ length))');
const gradientOfA = formula("s * G * B'");
const gradientOfB = formula("s * A' * G");
const minus = formula('X - Y');

/** The length of every column, [1, n]. */
export function columnLengths(v: Matrix): Matrix {
  return lengthFormula({V: v, one: filled([shapeOf(v)[0], 1], 1)});
}

/** DoRA on the base W0. `constant`: A and B get the gradient that holds the lengths fixed, as PEFT has it. */
export function dora(scale: number, base: Matrix, {constant = false} = {}): Parametrization<DoraFactors> {
  const one = filled([shapeOf(base)[0], 1], 1);
  const direction = ({a, b}: DoraFactors) => directionFormula({W0: base, s: scale, A: a, B: b});
  const merged = (factors: DoraFactors) => {
    const V = direction(factors);
    return mergedFormula({V, one, mu: factors.magnitude, length: columnLengths(V)});
  };
  return {
    delta: factors => minus({X: merged(factors), Y: base}),
    pullback: (factors, G) => {
      const V = direction(factors);
      const length = columnLengths(V);
      const along = alongFormula({one, G, V, length});
      const mu = factors.magnitude;
      const ofV = constant
        ? stretchedFormula({G, one, mu, length})
        : acrossFormula({G, V, one, along, mu, length});
      return {
        a: gradientOfA({s: scale, G: ofV, B: factors.b}),
        b: gradientOfB({s: scale, A: factors.a, G: ofV}),
        magnitude: along,
      };
    },
    lift: (factors, next) => minus({X: merged(next), Y: merged(factors)}),
  };
}
