import {describe, expect, test} from 'vitest';
import {fromBfloat16, fromHalf, toBfloat16, toHalf} from '../../src/adapter/half.js';

const patterns = Uint16Array.from({length: 65536}, (_, i) => i);

/** What the standard says a pattern means, by arithmetic alone. */
function meaning(bits: number, exponentBits: number): number {
  const mantissaBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = bits % 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
}

describe.each([
  ['F16', fromHalf, toHalf, 5, 65520],
  ['BF16', fromBfloat16, toBfloat16, 8, 2 ** 128 - 2 ** 119],
] as const)('%s', (_, from, to, exponentBits, overflow) => {
  const values = from(patterns);
  const infinite = 0x7fff & ~(2 ** (15 - exponentBits) - 1);
  const one = (value: number) => to(Float32Array.of(value))[0]!;

  test('every pattern means what the standard says', () => {
    let wrong = 0;
    for (const bits of patterns) if (!Object.is(values[bits], meaning(bits, exponentBits))) wrong++;
    expect(wrong).toBe(0);
  });

  test('every pattern comes back, NaN with its payload', () => {
    expect(to(values)).toEqual(patterns);
  });

  test('between any two neighbours: the nearer one, and in the middle the even one', () => {
    let wrong = 0;
    for (const sign of [0, 0x8000]) {
      for (let bits = sign; bits < sign + infinite - 1; bits++) {
        const [low, high] = [values[bits]!, values[bits + 1]!];
        const middle = (low + high) / 2; // a float32, but for half the smallest BF16
        if (Math.fround(middle) !== middle) continue;
        const [below, above] = [neighbour(middle, -1), neighbour(middle, 1)];
        const even = bits % 2 === 0 ? bits : bits + 1;
        if (one(middle) !== even || one(below) !== bits || one(above) !== bits + 1) wrong++;
      }
    }
    expect(wrong).toBe(0);
  });

  test('what is too large is infinite, from half a step above the largest', () => {
    expect(one(neighbour(overflow, -1))).toBe(infinite - 1);
    expect(one(neighbour(-overflow, -1))).toBe(0x8000 + infinite - 1);
    expect(one(overflow)).toBe(infinite);
    expect(one(Infinity)).toBe(infinite);
    expect(one(-Infinity)).toBe(0x8000 + infinite);
  });

  test('a NaN stays one when its payload lies in the bits that go', () => {
    const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001).buffer);
    expect([...from(to(nan))]).toEqual([NaN, NaN]);
  });

  test('zero keeps its sign, and the smallest float32 goes there', () => {
    expect([...to(Float32Array.of(0, -0, 2 ** -149, -(2 ** -149)))]).toEqual([0, 0x8000, 0, 0x8000]);
  });

  test('a view into a larger buffer is read as that view', () => {
    const all = Float32Array.of(1, 2, 3, 4);
    expect([...from(to(all.subarray(1, 3)))]).toEqual([2, 3]);
  });
});

/** The next float32 away from zero (1) or towards it (-1). */
function neighbour(value: number, direction: 1 | -1): number {
  const single = Float32Array.of(value);
  new Uint32Array(single.buffer)[0]! += direction;
  return single[0]!;
}
