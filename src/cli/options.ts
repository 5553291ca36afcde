import {UsageError} from './usage-error.js';

/**
 * The value of a whole-number option.
 * @throws UsageError if it is not a whole number in digits or below `least`
 */
export function integerOption(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`${name} takes a whole number of at least ${least}, got "${text}"`);
  }
  return value;
}

/**
 * The value of an option that takes a number such as 0.005 or 5e-3, above 0 unless `least` is given.
 * @throws UsageError if it does not fit
 */
export function decimalOption(name: string, text: string, least?: number): number {
  const value = /^(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
  if (Number.isFinite(value) && (least === undefined ? value > 0 : value >= least)) return value;
  const range = least === undefined ? 'above 0' : `of at least ${least}`;
  throw new UsageError(`${name} takes a number ${range}, got "${text}" (such as 0.005 or 5e-3)`);
}

/**
 * The value of an option that takes a text.
 * @throws UsageError if it is empty
 */
export function textOption(name: string, text: string): string {
  if (text.trim() === '') throw new UsageError(`${name} must not be empty, got "${text}"`);
  return text;
}
