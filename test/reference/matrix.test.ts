import {describe, expect, it} from 'vitest';
import {
  columnSums,
  copy,
  filled,
  frobenius,
  fromRows,
  generator,
  identity,
  inner,
  matrix,
  maxDifference,
  product,
  randomMatrix,
  rank,
  rowSums,
  singularValues,
  toArray,
  transpose,
} from '../../src/reference/index.js';

const a = fromRows([
  [1, 2, 3],
  [4, 5, 6],
]);

describe('matrices', () => {
  it('are built row by row', () => {
    expect(toArray(matrix([2, 3], [1, 2, 3, 4, 5, 6]))).toEqual(toArray(a));
    expect(() => matrix([2, 2], [1])).toThrow('A [2, 2] matrix needs 4 values, got 1');
    expect(() => fromRows([[1], [1, 2]])).toThrow('differ in length');
  });

  it('transpose without moving a number', () => {
    const view = transpose(a);
    expect(toArray(view)).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    expect(view.data).toBe(a.data);
    expect(toArray(copy(view))).toEqual(toArray(view));
    expect(copy(view).data).not.toBe(a.data);
  });

  it('multiply, also as views', () => {
    // [1 2 3; 4 5 6] [1 4; 2 5; 3 6] = [1+4+9, 4+10+18; 4+10+18, 16+25+36]
    expect(toArray(product(a, transpose(a)))).toEqual([
      [14, 32],
      [32, 77],
    ]);
    expect(toArray(product(a, identity(3)))).toEqual(toArray(a));
    expect(() => product(a, a)).toThrow('Cannot multiply [2,3] by [2,3]');
  });

  it('have sums and norms', () => {
    expect(toArray(rowSums(a))).toEqual([[6], [15]]);
    expect(toArray(columnSums(a))).toEqual([[5, 7, 9]]);
    expect(inner(a, a)).toBe(91); // 1 + 4 + 9 + 16 + 25 + 36
    expect(frobenius(transpose(a))).toBeCloseTo(Math.sqrt(91), 14);
    expect(maxDifference(a, filled([2, 3], 2))).toBe(4);
    expect(maxDifference(filled([1, 1], NaN), filled([1, 1], 0))).toBeNaN();
    expect(() => maxDifference(a, transpose(a))).toThrow('Shapes differ: [2,3] and [3,2]');
  });
});

describe('singular values', () => {
  it('of a matrix small enough to do by hand', () => {
    // M'M = [25 20; 20 25] has the eigenvalues 45 and 5
    const values = singularValues(
      fromRows([
        [3, 0],
        [4, 5],
      ]),
    );
    expect(values[0]).toBeCloseTo(Math.sqrt(45), 14);
    expect(values[1]).toBeCloseTo(Math.sqrt(5), 14);
  });

  it('have squares that sum to the squared norm, whichever way the matrix lies', () => {
    const m = randomMatrix([5, 9], generator(1));
    const values = singularValues(m);
    expect(values).toHaveLength(5);
    expect(Math.hypot(...values)).toBeCloseTo(frobenius(m), 12);
    singularValues(transpose(m)).forEach((value, i) => expect(value).toBeCloseTo(values[i]!, 12));
  });

  it('count the rank', () => {
    const numbers = generator(2);
    const low = product(randomMatrix([8, 3], numbers), randomMatrix([3, 6], numbers));
    expect(rank(low)).toBe(3);
    expect(rank(identity(4))).toBe(4);
    expect(rank(filled([4, 3], 0))).toBe(0);
  });
});

describe('random numbers', () => {
  it('are the same for the same seed and no other', () => {
    const draw = (seed: number) => Array.from({length: 4}, generator(seed).uniform);
    expect(draw(0)).toEqual(draw(0));
    expect(draw(0)).not.toEqual(draw(1));
  });

  it('have the moments of a standard normal', () => {
    const {normal} = generator(3);
    const draws = Array.from({length: 20_000}, normal);
    const mean = (power: number) => draws.reduce((sum, x) => sum + x ** power, 0) / draws.length;
    // four standard errors: sqrt(1 / 20000), sqrt(2 / 20000), sqrt(96 / 20000)
    expect(Math.abs(mean(1))).toBeLessThan(0.0283);
    expect(Math.abs(mean(2) - 1)).toBeLessThan(0.04);
    expect(Math.abs(mean(4) - 3)).toBeLessThan(0.28);
  });
});
