/** Whether a training was of use. */
import {percent} from '../table.js';
import type {Scores} from './measure.js';
import {rounded} from './result.js';

export type Remark = [name: 'Warning' | 'Note', text: string];

/**
 * By what was made small: the cross-entropy, or the squared error.
 * @param baseline what one gets without looking at an example
 */
export function verdictOf(before: Scores, after: Scores, baseline: Scores, lr: number): Remark[] {
  if (!Number.isFinite(after.loss) || after.loss < baseline.loss) return [];
  const isClasses = 'accuracy' in after && 'accuracy' in baseline;
  const measure = isClasses ? 'cross-entropy' : 'squared error';
  const guessing = isClasses ? 'guessing by the shares of the classes' : 'always giving the mean';
  if (after.loss > before.loss) {
    const worse = `worse than before the training and than ${guessing}`;
    const losses = `${rounded(after.loss)}, it was ${rounded(before.loss)}`;
    return [['Warning', `the ${measure} is ${worse} (${losses}): lower --lr (${lr}), or look at the labels`]];
  }
  if (isClasses && after.accuracy > baseline.accuracy) {
    const shares = `${percent(after.accuracy)} are right, by guessing ${percent(baseline.accuracy)}`;
    return [
      [
        'Note',
        `more examples are right than by guessing (${shares}), and the cross-entropy is no better, since the model is too ` +
          'sure where it is wrong: more --epochs or another --lr may help',
      ],
    ];
  }
  return [['Note', `${guessing} is as good or better: more --epochs, another --lr or other inputs may help`]];
}
