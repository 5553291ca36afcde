import {threefry} from '../random.js';
import type {WeightPrint} from './adapter.js';

const PRODUCTS = 4;

/**
 * A weight in five numbers: its norm, and its products with four vectors of random signs that are the same for
 * everybody, summed in float64. The order of the numbers counts, the shape does not.
 *
 * `difference` takes two weights for one where these agree to a thousandth of the norm. Of a weight that differs by d
 * (a vector as long as d times the norm) a product differs by about N(0, d^2) norms, so four agree with a chance of
 * about (0.0008 / d)^4: 1e-13 for other random numbers, another seed, or the same in another order (d = 1.4);
 * 4e-9 for d = 0.1; above a third for d below 0.001. What training in float32 loses by rounding is near d = 1e-5.
 */
export function printOf(values: ArrayLike<number>): WeightPrint {
  let squares = 0;
  const products = new Array<number>(PRODUCTS).fill(0);
  // 64 random bits are the signs of 16 numbers.
  for (let start = 0, group = 0; start < values.length; start += 16, group++) {
    const words = threefry([SEED, 0], [group >>> 0, Math.floor(group / 2 ** 32)]);
    const end = Math.min(start + 16, values.length);
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      const bits = words[(i - start) >> 3]! >>> (PRODUCTS * ((i - start) & 7));
      squares += value * value;
      for (let k = 0; k < PRODUCTS; k++) products[k]! += (bits >>> k) & 1 ? value : -value;
    }
  }
  return {norm: Math.sqrt(squares), products};
}

const SEED = 0x7072696e;

/** Relative to the norm; rounding in thousands of steps stays two orders of magnitude below. */
const TOLERANCE = 1e-3;
/** Relative to what was added and taken off again. */
const DRIFT = 1e-4;

/**
 * How two weights differ, in words: `norm 3.21 there and 5.60 here`; null where they are the same to rounding.
 *
 * @param there The print that came with the adapter.
 * @param here The model's.
 * @param size The norm of a change that was taken off again to get one of them: a base of zeros comes back as rounding
 *     of its size.
 */
export function difference(there: WeightPrint, here: WeightPrint, size = 0): string | null {
  const allowed = TOLERANCE * Math.max(there.norm, here.norm) + DRIFT * size;
  // Not `>`: what is NaN differs.
  if (!(Math.abs(there.norm - here.norm) <= allowed)) {
    return `norm ${three(there.norm)} there and ${three(here.norm)} here`;
  }
  const isAlike =
    there.products.length === here.products.length &&
    there.products.every((product, k) => Math.abs(product - here.products[k]!) <= allowed);
  return isAlike ? null : `norm ${three(here.norm)} there and here, but other numbers`;
}

const three = (value: number) =>
  Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : String(value);
