import {create, all} from 'mathjs';
import {describe, expect, it} from 'vitest';
import {formula, fromRows, generator, randomMatrix, rule, toArray} from '../../src/reference/index.js';

const A = fromRows([
  [1, 2],
  [3, 4],
]);
const B = fromRows([
  [5, 6],
  [7, 8],
]);

describe('a formula', () => {
  it.each([
    ['A * B', [19, 22, 43, 50]], // 1*5 + 2*7, 1*6 + 2*8; 3*5 + 4*7, 3*6 + 4*8
    ["A * B'", [17, 23, 39, 53]], // 1*5 + 2*6, 1*7 + 2*8; 3*5 + 4*6, 3*7 + 4*8
    ["s * A'", [2, 6, 4, 8]],
    ['-A + 1', [0, -1, -2, -3]],
    ['A .* B', [5, 12, 21, 32]],
    ['B ./ A', [5, 3, 7 / 3, 2]],
    ['A .^ 2 / s', [0.5, 2, 4.5, 8]],
    ['sqrt(A .^ 2) - abs(-A)', [0, 0, 0, 0]],
    ['max(A, 2.5)', [2.5, 2.5, 3, 4]],
    ['-s^2 * A + s * A + s * A', [0, 0, 0, 0]],
  ])('%s', (text, expected) => {
    expect(toArray(formula(text)({A, B, s: 2})).flat()).toEqual(expected);
  });

  it('means what mathjs itself means by it', () => {
    const numbers = generator(1);
    const letters = {
      A: randomMatrix([5, 2], numbers),
      B: randomMatrix([2, 4], numbers),
      G: randomMatrix([5, 4], numbers),
    };
    const text = "-eta * s^2 * (A * A' * G + G * B' * B) + eta^2 * s^3 * G * B' * A' * G";
    const ours = toArray(formula(text)({...letters, eta: 0.3, s: 2}));
    const arrays = Object.fromEntries(Object.entries(letters).map(([name, m]) => [name, toArray(m)]));
    const theirs: number[][] = create(all!).evaluate(text, {...arrays, eta: 0.3, s: 2});
    ours.flat().forEach((value, i) => expect(value).toBeCloseTo(theirs.flat()[i]!, 12));
  });

  it('keeps a 1 x 1 product a matrix', () => {
    expect(toArray(formula("A * A'")({A: fromRows([[3, 4]])}))).toEqual([[25]]);
  });

  it('never broadcasts a matrix and never guesses', () => {
    const row = fromRows([[1, 2]]);
    expect(() => formula('A + row')({A, row})).toThrow('Shapes differ: [2,2] and [1,2]');
    expect(() => formula('A / B')({A, B})).toThrow('"./"');
    expect(() => formula('A ^ 2')({A})).toThrow('".^"');
    expect(() => formula('A * C')({A})).toThrow('Undefined symbol C');
    expect(() => formula('s + 1')({s: 1})).toThrow('is a number');
  });

  it('leaves its arguments alone', () => {
    const before = toArray(A);
    formula("s * A' .* A")({A, s: 3});
    expect(toArray(A)).toEqual(before);
  });
});

describe('a rule', () => {
  it('runs its lines in order and reports every name', () => {
    const before = {t: 0, v: 0, g: A};
    const after = rule(`
      t = t + 1
      v = v / 2 + g / t`)(before);
    expect(after['t']).toBe(1);
    expect(toArray(after['v'] as typeof A)).toEqual(toArray(A));
    expect(before).toEqual({t: 0, v: 0, g: A});
  });
});
