import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {normal} from '../../src/index.js';
import {columnsOf, orthonormalRows, overlap, rowsOf, type Rows, squares} from '../../src/linalg/frame.js';

beforeAll(() => tf.setBackend('cpu'));

const random = (m: number, n: number, seed: number) => rowsOf(normal([m, n], seed) as tf.Tensor2D);
const dot = (v: Float64Array, w: Float64Array) => v.reduce((sum, x, i) => sum + x * w[i]!, 0);
/** Largest distance of the products of rows from those of an identity. */
const skew = (rows: Rows) =>
  Math.max(...rows.flatMap((v, i) => rows.map((w, j) => Math.abs(dot(v, w) - (i === j ? 1 : 0)))));

describe('orthonormalRows', () => {
  test.each([
    [1, 5, 1],
    [4, 9, 4],
    [9, 4, 4],
    [6, 6, 6],
  ])('%i random rows of %i have a basis of %i', (m, n, rank) => {
    const rows = random(m, n, 1);
    const found = orthonormalRows(rows).rows;
    expect(found).toHaveLength(rank);
    expect(skew(found)).toBeLessThan(1e-14);
    // The whole of every row is in it.
    expect(overlap(rows, found)).toBeCloseTo(squares(rows), 10);
  });

  test('what goes along is combined as the rows are: from P^T G comes Q^T G', () => {
    const gradient = normal([8, 5], 2) as tf.Tensor2D;
    const p = normal([8, 3], 3) as tf.Tensor2D;
    const {rows, along} = orthonormalRows(columnsOf(p), rowsOf(tf.matMul(p, gradient, true)));
    const columns = columnsOf(gradient);
    const wanted = rows.map(row => columns.map(column => dot(row, column)));
    wanted.forEach((row, i) => row.forEach((x, j) => expect(along[i]![j]).toBeCloseTo(x, 5)));
  });

  test('rows that are zero, or combinations of others, add nothing; small ones count in full', () => {
    const [a, b] = random(2, 7, 4) as [Float64Array, Float64Array];
    const both = a.map((x, i) => x - 2 * b[i]!);
    expect(orthonormalRows([a, new Float64Array(7), both, b, a.map(x => 1e20 * x)]).rows).toHaveLength(2);
    expect(orthonormalRows([a, b.map(x => 1e-20 * x)]).rows).toHaveLength(2);
    expect(orthonormalRows([new Float64Array(3)]).rows).toEqual([]);
    expect(orthonormalRows([]).rows).toEqual([]);
  });

  test('rows that are nearly one stay orthonormal, down to the tolerance', () => {
    const [a, b] = random(2, 7, 5) as [Float64Array, Float64Array];
    const beside = (angle: number) => [a, a.map((x, i) => x + angle * b[i]!)];
    expect(skew(orthonormalRows(beside(1e-3)).rows)).toBeLessThan(1e-12);
    expect(orthonormalRows(beside(1e-3)).rows).toHaveLength(2);
    expect(orthonormalRows(beside(1e-6)).rows).toHaveLength(1);
    expect(skew(orthonormalRows(beside(1e-9), [], 1e-12).rows)).toBeLessThan(1e-6);
  });
});
