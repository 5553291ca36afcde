/** Whether a model gives numbers of the size of the labels. */
import {rounded} from './result.js';

/**
 * Labels of 100,000 are out of reach of a head that gives numbers about 1, however long it is trained.
 *
 * @param outputs what the model gives before any training
 * @param labels what it is to give
 * @param share its root mean squared error, by that of always giving the mean
 * @returns a line for people; undefined where the sizes agree
 */
export function otherUnits(outputs: Float32Array, labels: Float32Array, share: number): string | undefined {
  const [given, wanted] = [rangeOf(outputs), rangeOf(labels)];
  const isElsewhere = given.most < wanted.least || given.least > wanted.most;
  const isWide = given.most - given.least > 10 * (wanted.most - wanted.least);
  const isSmall = wanted.most - wanted.least > 20 * Math.max(Math.abs(given.least), Math.abs(given.most));
  if (!isSmall && (share < 1.5 || !(isElsewhere || isWide))) return undefined;
  return (
    `the labels go from ${rounded(wanted.least)} to ${rounded(wanted.most)}, and the model gives ` +
    `${rounded(given.least)} to ${rounded(given.most)}: if it has never seen their units, add --standardise-labels`
  );
}

export const rangeOf = (values: Float32Array) => ({
  least: values.reduce((a, b) => Math.min(a, b)),
  most: values.reduce((a, b) => Math.max(a, b)),
});
