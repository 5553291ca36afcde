import {UsageError} from './usage-error.js';

/**
 * The value of a whole-number option.
 * @throws UsageError if it is not a whole number or below `least`
 */
export function integerOption(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < least) {
    throw new UsageError(`${name} takes a whole number of at least ${least}, got "${text}"`);
  }
  return value;
}

/**
 * The value of an option that takes a number above 0.
 * @throws UsageError if it does not
 */
export function positiveOption(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value <= 0) {
    throw new UsageError(`${name} takes a number above 0, got "${text}"`);
  }
  return value;
}
