import {copy, identity, matrix, shapeOf, transpose, type Matrix} from './matrix.js';

/**
 * Singular values of A, largest first, min(m, n) of them.
 *
 * One-sided Jacobi: rotate pairs of columns until all are orthogonal; their lengths are the singular values.
 * Accurate to rounding, also for the small ones, and short; meant for matrices of at most a few dozen columns.
 */
export function singularValues(a: Matrix): number[] {
  const [rows, columns] = shapeOf(a);
  const u = copy(rows < columns ? transpose(a) : a);
  const width = Math.min(rows, columns);
  const dot = (p: number, q: number) => columnDot(u, p, q);
  for (let sweep = 0, rotated = true; rotated && sweep < 60; sweep++) {
    rotated = false;
    for (let p = 0; p < width; p++) {
      for (let q = p + 1; q < width; q++) {
        const [pp, qq, pq] = [dot(p, p), dot(q, q), dot(p, q)];
        if (Math.abs(pq) <= 1e-15 * Math.sqrt(pp * qq)) continue;
        rotateColumns(u, p, q, 0.5 * Math.atan2(2 * pq, pp - qq));
        rotated = true;
      }
    }
  }
  return Array.from({length: width}, (_, p) => Math.sqrt(dot(p, p))).sort((x, y) => y - x);
}

/** How many singular values exceed `tolerance` times the largest. */
export function rank(a: Matrix, tolerance = 1e-10): number {
  const values = singularValues(a);
  return values.filter(value => value > tolerance * (values[0] ?? 0)).length;
}

function columnDot(u: Matrix, p: number, q: number): number {
  let sum = 0;
  for (let i = 0; i < shapeOf(u)[0]; i++) sum += u.get(i, p) * u.get(i, q);
  return sum;
}

/** (u_p, u_q) <- (cos u_p + sin u_q, cos u_q - sin u_p), in place. */
function rotateColumns(u: Matrix, p: number, q: number, angle: number): void {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  for (let i = 0; i < shapeOf(u)[0]; i++) {
    const [x, y] = [u.get(i, p), u.get(i, q)];
    u.set(i, p, cos * x + sin * y);
    u.set(i, q, cos * y - sin * x);
  }
}

/** `A = U diag(s) V'`, min(m, n) terms: `u` [m, p] and `v` [n, p] with orthonormal columns, s largest first. */
export interface Svd {
  u: Matrix;
  s: number[];
  v: Matrix;
}

/** The decomposition by the same rotations. Where s is zero the column of the longer side is left zero. */
export function svd(a: Matrix): Svd {
  const [rows, columns] = shapeOf(a);
  if (rows < columns) {
    const {u, s, v} = svd(transpose(a));
    return {u: v, s, v: u};
  }
  const image = copy(a);
  const turns = identity(columns);
  for (let sweep = 0, rotated = true; rotated && sweep < 60; sweep++) {
    rotated = false;
    for (let p = 0; p < columns; p++) {
      for (let q = p + 1; q < columns; q++) {
        const [pp, qq, pq] = [columnDot(image, p, p), columnDot(image, q, q), columnDot(image, p, q)];
        if (Math.abs(pq) <= 1e-15 * Math.sqrt(pp * qq)) continue;
        const angle = 0.5 * Math.atan2(2 * pq, pp - qq);
        rotateColumns(image, p, q, angle);
        rotateColumns(turns, p, q, angle);
        rotated = true;
      }
    }
  }
  const lengths = Array.from({length: columns}, (_, p) => Math.sqrt(columnDot(image, p, p)));
  const order = lengths.map((_, p) => p).sort((p, q) => lengths[q]! - lengths[p]!);
  return {
    u: chosen(image, order, p => (lengths[p] === 0 ? 0 : 1 / lengths[p]!)),
    s: order.map(p => lengths[p]!),
    v: chosen(turns, order),
  };
}

/** The columns named, in that order, each times a number: [m, k]. */
export function chosen(
  a: Matrix,
  columns: readonly number[],
  size: (column: number) => number = () => 1,
): Matrix {
  const [rows] = shapeOf(a);
  const values = Array.from({length: rows}, (_, i) => columns.map(p => a.get(i, p) * size(p)));
  return matrix([rows, columns.length], values.flat());
}
