/**
 * Preconditioners of LoRA's factor gradients, from the gradient G itself. For factors of full rank.
 *
 *     W = W0 + s A B      g_A = s G B'   g_B = s A' G
 */
import {formula} from './formula.js';
import {inverse} from './inverse.js';
import type {LoraFactors} from './lora.js';
import {identity, type Matrix, matrix, shapeOf, toArray} from './matrix.js';

const gramOfA = formula("A' * A + reg * I");
const gramOfB = formula("B * B' + reg * I");
const scaledA = formula("s * G * B' * C");
const scaledB = formula("s * C * A' * G");
const projection = formula('P * G + G * Q - P * G * Q');
const left = formula("A * C * A'");
const right = formula("B' * C * B");
const directionOfA = formula("G * B' * C / s + A * X");
const directionOfB = formula("C * A' * (G - G * Q) / s - X * B");
const side = formula("-(A' * G * B' * C) / s");
const change = formula('s * (dA * B + A * dB)');

const grams = ({a, b}: LoraFactors, reg = 0) => {
  const I = identity(shapeOf(a)[1]);
  return {ofA: gramOfA({A: a, I, reg}), ofB: gramOfB({B: b, I, reg})};
};

/** Scaled gradients (arXiv:2402.02347): g_A (B B' + reg I)^-1 and (A' A + reg I)^-1 g_B. */
export function riemannian(s: number, reg: number, {a, b}: LoraFactors, gradient: Matrix): LoraFactors {
  const {ofA, ofB} = grams({a, b}, reg);
  return {
    a: scaledA({s, G: gradient, B: b, C: inverse(ofB)}),
    b: scaledB({s, G: gradient, A: a, C: inverse(ofA)}),
  };
}

/** The orthogonal projection of G on the tangent space of the matrices A B: Pi_A G + G Pi_B - Pi_A G Pi_B. */
export function tangentProjection({a, b}: LoraFactors, gradient: Matrix): Matrix {
  const {ofA, ofB} = grams({a, b});
  const [P, Q] = [left({A: a, C: inverse(ofA)}), right({B: b, C: inverse(ofB)})];
  return projection({P, Q, G: gradient});
}

/** LoRA-Pro (arXiv:2407.18242): the shortest dA, dB with s (dA B + A dB) = the tangent projection of G. */
export function loraPro(s: number, {a, b}: LoraFactors, gradient: Matrix): LoraFactors {
  const {ofA, ofB} = grams({a, b});
  const [inverseA, inverseB] = [inverse(ofA), inverse(ofB)];
  const Q = right({B: b, C: inverseB});
  const X = sylvester(ofA, ofB, side({s, A: a, G: gradient, B: b, C: inverseB}));
  return {
    a: directionOfA({s, G: gradient, B: b, C: inverseB, A: a, X}),
    b: directionOfB({s, C: inverseA, A: a, G: gradient, Q, X, B: b}),
  };
}

/** How W moves, to first order, as A moves by dA and B by dB: s (dA B + A dB). */
export function tangent(s: number, {a, b}: LoraFactors, direction: LoraFactors): Matrix {
  return change({s, A: a, B: b, dA: direction.a, dB: direction.b});
}

/** P X + X Q = C for square P, Q, as r^2 linear equations in the entries of X. */
export function sylvester(p: Matrix, q: Matrix, c: Matrix): Matrix {
  const r = shapeOf(p)[0];
  const [P, Q, C] = [p, q, c].map(toArray) as [number[][], number[][], number[][]];
  const equations = new Float64Array(r ** 4);
  for (let i = 0; i < r; i++) {
    for (let j = 0; j < r; j++) {
      const row = (i * r + j) * r * r;
      for (let k = 0; k < r; k++) {
        equations[row + k * r + j]! += P[i]![k]!;
        equations[row + i * r + k]! += Q[k]![j]!;
      }
    }
  }
  const solution = formula('K * c')({
    K: inverse(matrix([r * r, r * r], equations)),
    c: matrix([r * r, 1], C.flat()),
  });
  return matrix([r, r], toArray(solution).flat());
}
