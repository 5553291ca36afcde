import type {HostArray} from '../host.js';
import type {ExactProduct} from '../product.js';

/** F16 has its 11 bits from here on. */
const SMALLEST = 2 ** -14;
const LARGEST = 65504;

/**
 * The same product with factors that F16 can hold: one whose largest number is below 2^-14 or above 65504 is multiplied by
 * a power of two that brings it near 1, and `alpha` is what lora_alpha has to be multiplied by. So a factor is wrong by at
 * most 2^-11 of its largest number, however small that is.
 */
export function inRangeOfHalf(pair: ExactProduct): {pair: ExactProduct; alpha: number} {
  const [left, right] = [shifted(pair.left), shifted(pair.right)];
  return {
    pair: {...pair, left: left.factor, right: right.factor},
    alpha: 2 ** -(left.exponent + right.exponent),
  };
}

function shifted(factor: HostArray): {factor: HostArray; exponent: number} {
  let most = 0;
  for (const value of factor.values) most = Math.max(most, Math.abs(value));
  if (most === 0 || (most >= SMALLEST && most <= LARGEST) || !Number.isFinite(most))
    return {factor, exponent: 0};
  const exponent = -Math.floor(Math.log2(most));
  const values = Float64Array.from(factor.values, value => value * 2 ** exponent);
  return {factor: {shape: factor.shape, values}, exponent};
}
