/**
 * The additive low-rank form (Su Jianlin, kexue.fm/archives/9590).
 *
 *     W = W0 + s (A C + R B)      A [m, p]   B [q, n]   C [p, n]   R [m, q]   s a number
 *
 * C and R are fixed. For C = [1 1 …] and R = [1; 1; …] a number is added to every row and one to every column; for a
 * rank r they are tiles, I beside I and I above I, the last one cut off where r does not divide the side.
 */
import {formula} from './formula.js';
import {identity, shapeOf, transpose, zeros, type Matrix} from './matrix.js';
import type {Parametrization} from './parametrization.js';

/** `a` [m, p], a number for every row and tile column; `b` [q, n]. */
export type AdditiveFactors = {a: Matrix; b: Matrix};

const deltaFormula = formula('s * (A * C + R * B)');
const liftFormula = formula('s * ((A1 - A) * C + R * (B1 - B))');
const gradientOfA = formula("s * G * C'");
const gradientOfB = formula("s * R' * G");
const withoutHalf = formula('X - (1 - 1 / sqrt(2)) * P * X');
const scaled = formula('D * C');
const projectorFormula = formula("C' * D * C");
const tangent = formula('G * PC + PR * G - PR * G * PC');

/** I beside I beside I …, [min(r, size), size]; the last one cut off. R is this, transposed. */
export function tiles(rank: number, size: number): Matrix {
  const width = Math.min(rank, size);
  const result = zeros([width, size]);
  for (let j = 0; j < size; j++) result.set(j % width, j, 1);
  return result;
}

/** The same with rows of length 1: (C C')^-1/2 C. */
export function unitTiles(rank: number, size: number): Matrix {
  const frame = tiles(rank, size);
  return scaled({D: power(frame, -0.5), C: frame});
}

/** Pi_C = C' (C C')^-1 C, [size, size]: the orthogonal projector onto the rows of a pile of tiles. */
export function tileProjector(rank: number, size: number): Matrix {
  const frame = tiles(rank, size);
  return projectorFormula({C: frame, D: power(frame, -1)});
}

/** G Pi_C + Pi_R G - Pi_R G Pi_C: the best approximation of G of the form A C + R B. */
export function additiveProjection(rank: number, gradient: Matrix): Matrix {
  const [m, n] = shapeOf(gradient);
  return tangent({G: gradient, PC: tileProjector(rank, n), PR: tileProjector(rank, m)});
}

/** W = W0 + s (A C + R B) for any frames C and R. */
export function additive(scale: number, C: Matrix, R: Matrix): Parametrization<AdditiveFactors> {
  return {
    delta: ({a, b}) => deltaFormula({s: scale, A: a, C, R, B: b}),
    pullback: (_, gradient) => ({
      a: gradientOfA({s: scale, G: gradient, C}),
      b: gradientOfB({s: scale, R, G: gradient}),
    }),
    lift: ({a, b}, next) => liftFormula({s: scale, A: a, B: b, A1: next.a, B1: next.b, C, R}),
  };
}

/**
 * The form whose tangent map composed with its adjoint is s^2 times `additiveProjection`: unit tiles, and of what both
 * sides can reach each carries 1/sqrt(2), so that A C + R B becomes (A - c Pi_R A) C + R (B - c B Pi_C), c = 1 - 1/sqrt(2).
 */
export function orthogonalAdditive(
  scale: number,
  rank: number,
  [m, n]: readonly [number, number],
): Parametrization<AdditiveFactors> {
  const plain = additive(scale, unitTiles(rank, n), transpose(unitTiles(rank, m)));
  const share = ({a, b}: AdditiveFactors): AdditiveFactors => ({
    a: withoutHalf({X: a, P: tileProjector(rank, m)}),
    b: transpose(withoutHalf({X: transpose(b), P: tileProjector(rank, n)})),
  });
  return {
    delta: factors => plain.delta(share(factors)),
    pullback: (factors, gradient) => share(plain.pullback(factors, gradient)),
    lift: (factors, next) => plain.lift(share(factors), share(next)),
  };
}

/** (C C')^exponent, which is diagonal: how often each row of the identity was laid. */
function power(frame: Matrix, exponent: number): Matrix {
  const [width, size] = shapeOf(frame);
  const result = identity(width);
  for (let k = 0; k < width; k++) {
    let count = 0;
    for (let j = 0; j < size; j++) count += frame.get(k, j);
    result.set(k, k, count ** exponent);
  }
  return result;
}
