import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {difference, printOf} from '../../src/adapter/print.js';
import {normal, uniform} from '../../src/index.js';

beforeAll(() => tf.setBackend('cpu'));

const sample = (shape: number[], seed: number) => {
  const tensor = normal(shape, seed, {std: 0.1});
  const values = tensor.dataSync().slice() as Float32Array;
  tensor.dispose();
  return values;
};

describe('the print of a weight', () => {
  test('is its norm, and four products with signs', () => {
    const values = sample([12, 10], 1);
    const {norm, products} = printOf(values);
    expect(norm).toBeCloseTo(Math.sqrt(values.reduce((sum, v) => sum + v * v, 0)), 12);
    expect(products).toHaveLength(4);
    // The signs themselves, by products with unit vectors: all of them +-1, the four columns unlike each other.
    const signs = Array.from({length: 120}, (_, i) =>
      printOf(Float32Array.from({length: 120}, (_, j) => +(i === j))),
    );
    for (const {norm, products} of signs) expect([norm, ...products.map(Math.abs)]).toEqual([1, 1, 1, 1, 1]);
    products.forEach((product, k) => {
      const wanted = values.reduce((sum, v, i) => sum + v * signs[i]!.products[k]!, 0);
      expect(product).toBeCloseTo(wanted, 10);
    });
    for (let k = 0; k < 4; k++) {
      for (let l = 0; l < k; l++) {
        const same = signs.filter(({products}) => products[k] === products[l]).length;
        expect(Math.abs(same - 60)).toBeLessThan(25);
      }
    }
  });

  test('stays the same: files depend on it', () => {
    const {norm, products} = printOf(Float32Array.from({length: 40}, (_, i) => i));
    expect(norm).toBe(Math.sqrt(20540));
    expect(products).toMatchInlineSnapshot(`
      [
        26,
        22,
        -246,
        262,
      ]
    `);
  });

  test('survives rounding, and nothing else', () => {
    const values = sample([40, 30], 1);
    const there = printOf(values);
    const noise = sample([40, 30], 9);
    expect(difference(there, printOf(values))).toBeNull();
    expect(difference(there, printOf(values.map((v, i) => v + 1e-4 * noise[i]!)))).toBeNull();
    expect(difference(there, printOf(sample([40, 30], 2)))).toMatch(/norm/);
    expect(difference(there, printOf(values.map((v, i) => v + 0.02 * noise[i]!)))).toMatch(/norm/);
    expect(difference(there, printOf(values.toReversed()))).toMatch(
      /norm .* there and here, but other numbers/,
    );
    const transposed = values.map((_, i) => values[(i % 40) * 30 + Math.floor(i / 40)]!);
    expect(difference(there, printOf(transposed))).toMatch(/but other numbers/);
    const swapped = values.slice();
    [swapped[3], swapped[700]] = [swapped[700]!, swapped[3]!];
    swapped.set(values.subarray(0, 30), 30);
    swapped.set(values.subarray(30, 60), 0);
    expect(difference(there, printOf(swapped))).toMatch(/but other numbers/);
    expect(difference(there, printOf(values.map(v => -v)))).toMatch(/but other numbers/);
    expect(difference(there, printOf(values.map(v => 1.7 * v)))).toMatch(
      /^norm 3\.\d+ there and 5\.\d+ here$/,
    );
    expect(difference(there, printOf(values.with(5, NaN)))).toMatch(/NaN here/);
    expect(difference(there, {norm: there.norm, products: []})).toMatch(/other numbers/);
  });

  test('of zeros, and of what rounding makes of zeros', () => {
    const zero = printOf(new Float32Array(50));
    const noise = printOf(sample([50], 1).map(v => v * 1e-7));
    expect(difference(zero, printOf(new Float32Array(50)))).toBeNull();
    expect(difference(noise, zero)).toMatch(/norm/);
    expect(difference(noise, zero, 1)).toBeNull();
    expect(difference(zero, printOf(sample([50], 1)), 1)).toMatch(/norm 0 there/);
  });

  test('misses as seldom as it says', () => {
    const tensor = uniform([100], 3);
    const values = tensor.dataSync() as Float32Array;
    const there = printOf(values);
    tensor.dispose();
    // At d = 0.01 four products agree by chance in (0.08)^4 = 4e-5 of all cases; one, in 8 %.
    let [all, first] = [0, 0];
    for (let seed = 0; seed < 2000; seed++) {
      const noise = sample([100], seed);
      const size = printOf(noise).norm;
      const here = printOf(values.map((v, i) => v + (0.01 * there.norm * noise[i]!) / size));
      if (difference(there, {...here, norm: there.norm}) === null) all++;
      if (Math.abs(here.products[0]! - there.products[0]!) < 1e-3 * there.norm) first++;
    }
    expect(all).toBeLessThanOrEqual(2);
    expect(first / 2000).toBeGreaterThan(0.05);
    expect(first / 2000).toBeLessThan(0.11);
  });
});
