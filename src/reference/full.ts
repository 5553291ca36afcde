/** Full training in the clothes of a parametrization: Delta = D, so that any optimizer acts on W itself. */
import {formula} from './formula.js';
import {copy, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `d` [m, n]: all of the change, W = W0 + D. */
export type FullFactors = {d: Matrix};

const liftFormula = formula('D1 - D');

export const full: Parametrization<FullFactors> = {
  delta: ({d}) => copy(d),
  pullback: (_, gradient) => ({d: copy(gradient)}),
  lift: ({d}, next) => liftFormula({D1: next.d, D: d}),
};
