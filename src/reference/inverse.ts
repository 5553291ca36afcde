import {copy, identity, type Matrix, shapeOf} from './matrix.js';

/** A^-1 of a square matrix: Gauss and Jordan's elimination with the largest pivot of each column. */
export function inverse(a: Matrix): Matrix {
  const [size, columns] = shapeOf(a);
  if (size !== columns) throw new Error(`Only a square matrix has an inverse, not [${size}, ${columns}]`);
  const [left, right] = [copy(a), identity(size)];
  for (let j = 0; j < size; j++) {
    let pivot = j;
    for (let i = j + 1; i < size; i++) if (Math.abs(left.get(i, j)) > Math.abs(left.get(pivot, j))) pivot = i;
    const value = left.get(pivot, j);
    if (value === 0) throw new Error('The matrix is singular');
    for (const matrix of [left, right]) {
      for (let k = 0; k < size; k++) {
        const [x, y] = [matrix.get(j, k), matrix.get(pivot, k)];
        matrix.set(pivot, k, x);
        matrix.set(j, k, y / value);
      }
    }
    for (let i = 0; i < size; i++) {
      const factor = left.get(i, j);
      if (i === j || factor === 0) continue;
      for (const matrix of [left, right])
        for (let k = 0; k < size; k++) matrix.set(i, k, matrix.get(i, k) - factor * matrix.get(j, k));
    }
  }
  return right;
}
