import fc from 'fast-check';
import {describe, expect, it} from 'vitest';
import {normal, splitSeed, uniform} from '../src/index.js';
import {threefry} from '../src/random.js';
import {values} from './helpers.js';

describe('threefry', () => {
  it('gives the known answers of Random123 for threefry2x32 with 20 rounds', () => {
    expect(threefry([0, 0], [0, 0])).toEqual([0x6b200159, 0x99ba4efe]);
    const ones = [0xffffffff, 0xffffffff] as const;
    expect(threefry(ones, ones)).toEqual([0x1cb996fc, 0xbb002be7]);
    // The digits of pi.
    expect(threefry([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3])).toEqual([0xc4923a9c, 0x483df7a0]);
  });
});

const moments = (x: number[]) => {
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  return {mean, variance: x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length};
};

describe('normal and uniform', () => {
  it('have the moments they should', () => {
    // 20,000 numbers: the mean of N(0, 1) has the standard deviation 0.007, its variance 0.01; four of each allowed.
    const z = moments(values(normal([100, 200], 1)));
    expect(Math.abs(z.mean)).toBeLessThan(0.028);
    expect(Math.abs(z.variance - 1)).toBeLessThan(0.04);
    const shifted = moments(values(normal([100, 200], 1, {mean: 3, std: 0.5})));
    expect(shifted.mean).toBeCloseTo(3 + 0.5 * z.mean, 4);
    expect(shifted.variance).toBeCloseTo(0.25 * z.variance, 4);
    // U(-1, 3): mean 1, variance 16/12.
    const u = values(uniform([100, 200], 2, {low: -1, high: 3}));
    expect(Math.abs(moments(u).mean - 1)).toBeLessThan(0.033);
    expect(Math.abs(moments(u).variance - 16 / 12)).toBeLessThan(0.04);
    expect(Math.min(...u)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...u)).toBeLessThan(3);
  });

  it('take seed 0 for a seed, and every seed for another', () => {
    expect(values(normal([4], 0))).toEqual(values(normal([4], 0)));
    const firsts = [0, 1, 2, -1, 2 ** 31].map(seed => values(normal([1], seed))[0]);
    expect(new Set(firsts).size).toBe(5);
  });

  it('are the same numbers in any shape, and a longer tensor begins like a shorter one', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({min: 1, max: 30}), (seed, count) => {
        for (const draw of [normal, uniform]) {
          const longer = values(draw([31], seed));
          expect(values(draw([count], seed))).toEqual(longer.slice(0, count));
          expect(values(draw([1, count, 1], seed))).toEqual(longer.slice(0, count));
        }
      }),
      {numRuns: 30, seed: 1},
    );
  });

  it('have no correlation between neighbours, or between seeds next to each other', () => {
    const x = values(normal([10_000], 5));
    const correlation = (a: number[], b: number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0) / a.length;
    // Standard deviation 0.01.
    expect(Math.abs(correlation(x.slice(0, -1), x.slice(1)))).toBeLessThan(0.04);
    expect(Math.abs(correlation(x, values(normal([10_000], 6))))).toBeLessThan(0.04);
    const even = x.filter((_, i) => i % 2 === 0);
    const odd = x.filter((_, i) => i % 2 === 1);
    expect(Math.abs(correlation(even, odd))).toBeLessThan(0.057);
  });

  it('make empty tensors too', () => expect(normal([0, 3], 1).shape).toEqual([0, 3]));
});

describe('splitSeed', () => {
  it('gives equal labels equal seeds and others different ones', () => {
    expect(splitSeed(1, 'a', 2)).toBe(splitSeed(1, 'a', 2));
    const seeds = [
      splitSeed(1, 'a', 2),
      splitSeed(2, 'a', 2),
      splitSeed(1, 'b', 2),
      splitSeed(1, 'a', 3),
      splitSeed(1, 'a'),
      splitSeed(1, 'a2'),
      splitSeed(1, 'a', ''),
      splitSeed(1),
    ];
    expect(new Set(seeds).size).toBe(seeds.length);
  });

  it('keeps thousands of weight names and steps apart', () => {
    const seeds = Array.from({length: 4000}, (_, i) =>
      splitSeed(0, `layer${i % 40}/kernel`, Math.floor(i / 40)),
    );
    // 4000^2 / 2^33 = 0.002 collisions expected.
    expect(new Set(seeds).size).toBe(4000);
  });
});
