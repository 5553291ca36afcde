/**
 * LoRA that leaves the largest singular directions of W0 alone.
 *
 *     W = W0 + s P A B Q      P = I - U U'   Q = I - V V'      U [m, k], V [n, k] with orthonormal columns
 */
import {formula} from './formula.js';
import type {LoraFactors} from './lora.js';
import {identity, type Matrix, shapeOf} from './matrix.js';
import type {Parametrization} from './parametrization.js';

const leftOf = formula("A - U * U' * A");
const rightOf = formula("B - B * V * V'");
const productOf = formula('s * A * B');
const gradientOfA = formula("s * P * G * Q * B'");
const gradientOfB = formula("s * A' * P * G * Q");
const complement = formula("I - U * U'");
const difference = formula('X1 - X');

/** For the frames U and V. */
export function osf(scale: number, u: Matrix, v: Matrix): Parametrization<LoraFactors> {
  const [P, Q] = [u, v].map(U => complement({I: identity(shapeOf(U)[0]), U})) as [Matrix, Matrix];
  const delta = ({a, b}: LoraFactors) =>
    productOf({s: scale, A: leftOf({A: a, U: u}), B: rightOf({B: b, V: v})});
  return {
    delta,
    pullback: ({a, b}, gradient) => ({
      a: gradientOfA({s: scale, P, G: gradient, Q, B: b}),
      b: gradientOfB({s: scale, A: a, P, G: gradient, Q}),
    }),
    lift: (factors, next) => difference({X1: delta(next), X: delta(factors)}),
  };
}
