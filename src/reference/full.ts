/** Full training in the clothes of a parametrization: W = W0 + D, so that an optimizer acts on W itself. */
import {formula} from './formula.js';
import {copy, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `delta` [m, n]: all of the change. */
export type FullFactors = {delta: Matrix};

const liftFormula = formula('D1 - D');

export const full: Parametrization<FullFactors> = {
  delta: ({delta}) => copy(delta),
  pullback: (_, gradient) => ({delta: copy(gradient)}),
  lift: ({delta}, next) => liftFormula({D: delta, D1: next.delta}),
};
