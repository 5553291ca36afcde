/** A least-squares problem to train on, and the two ways a layer can come by its gradients. */
import {formula} from './formula.js';
import {copy, frobenius, shapeOf, type Matrix} from './matrix.js';
import type {LoraFactors} from './lora.js';
import {mapFactors, type Factors} from './parametrization.js';
import {generator, randomMatrix} from './random.js';

const residualFormula = formula('X * W - Y');
const gradientFormula = formula("X' * (X * W - Y) / t");
const layerError = formula('(X * W0 + s * (X * A) * B - Y) / t');
const layerGradientOfA = formula("s * X' * (delta * B')");
const layerGradientOfB = formula("s * (X * A)' * delta");

export interface Quadratic {
  /** X [t, m], a batch of t rows. */
  x: Matrix;
  /** Y [t, n]. */
  y: Matrix;
  /** W [m, n] to start from. */
  weight: Matrix;
  /** ||X W - Y||_F^2 / (2 t). */
  loss(weight: Matrix): number;
  /** G = X' (X W - Y) / t, [m, n]. */
  gradient(weight: Matrix): Matrix;
}

/** Least squares with standard normal X, Y and W: the same seed, the same problem. */
export function quadratic({m, n, t, seed}: {m: number; n: number; t: number; seed: number}): Quadratic {
  const numbers = generator(seed);
  const x = randomMatrix([t, m], numbers);
  const y = randomMatrix([t, n], numbers);
  return {
    x,
    y,
    weight: randomMatrix([m, n], numbers),
    loss: weight => frobenius(residualFormula({X: x, W: weight, Y: y})) ** 2 / (2 * t),
    gradient: weight => gradientFormula({X: x, W: weight, Y: y, t}),
  };
}

/**
 * Backpropagation through the layer y = x W0 + s (x A) B, as a hand-written LoRA layer does it:
 * delta = dL/dy, then s x' (delta B') and s (x A)' delta. Neither W nor its gradient is ever formed.
 */
export function loraBackprop({x, y}: Pick<Quadratic, 'x' | 'y'>, base: Matrix, scale: number) {
  return ({a, b}: LoraFactors): LoraFactors => {
    const delta = layerError({X: x, W0: base, s: scale, A: a, B: b, Y: y, t: shapeOf(x)[0]});
    return {
      a: layerGradientOfA({s: scale, X: x, delta, B: b}),
      b: layerGradientOfB({s: scale, X: x, A: a, delta}),
    };
  };
}

/** (L(theta + h e) - L(theta - h e)) / 2h for every number of every factor; exact to O(h^2). */
export function finiteDifferences<F extends Factors>(loss: (factors: F) => number, factors: F, h = 1e-5): F {
  return mapFactors(factors, (factor, name) => {
    const lossAt = (i: number, j: number, shift: number) => {
      const moved = copy(factor);
      moved.set(i, j, factor.get(i, j) + shift);
      return loss({...factors, [name]: moved});
    };
    const slopes = copy(factor);
    const [rows, columns] = shapeOf(factor);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) slopes.set(i, j, (lossAt(i, j, h) - lossAt(i, j, -h)) / (2 * h));
    }
    return slopes;
  });
}
