import {expect, test} from 'vitest';
import {verdictOf} from '../../../src/cli/finetune/verdict.js';

const classes = (accuracy: number, loss: number) => ({accuracy, loss, confusion: []});
const numbers = (loss: number) => ({rmse: Math.sqrt(loss), mae: 1, loss});
const verdict = (...[before, after, baseline]: [number, number][]) =>
  verdictOf(classes(...before!), classes(...after!), classes(...baseline!), 0.5);

test('a training that was of use needs no word', () => {
  expect(verdict([0.3, 2], [0.6, 0.9], [0.4, 1])).toEqual([]);
  // Worse than before, and better than guessing.
  expect(verdict([0.9, 0.2], [0.8, 0.5], [0.4, 1])).toEqual([]);
  expect(verdictOf(numbers(4), numbers(0.9), numbers(1), 0.5)).toEqual([]);
});

test('one that did worse than guessing is told by what was made small', () => {
  expect(verdict([0.3, 3], [0.4, 1], [0.4, 1])).toEqual([
    ['Note', expect.stringMatching(/^guessing by the shares of the classes is as good or better/)],
  ]);
  expect(verdictOf(numbers(4), numbers(2), numbers(1), 0.5)).toEqual([
    ['Note', expect.stringMatching(/^always giving the mean is as good or better/)],
  ]);
});

test('where more are right than by guessing, it is not said that guessing is better', () => {
  expect(verdict([0.3, 3], [0.6, 1.2], [0.4, 1])).toEqual([
    [
      'Note',
      expect.stringMatching(
        /^more examples are right than by guessing \(60.0 % are right, by guessing 40.0 %\)/,
      ),
    ],
  ]);
});

test('one that did worse than before and than guessing is a warning', () => {
  expect(verdict([0.3, 1.5], [0.2, 12], [0.4, 1])).toEqual([
    [
      'Warning',
      'the cross-entropy is worse than before the training and than guessing by the shares of the classes ' +
        '(12, it was 1.5): lower --lr (0.5), or look at the labels',
    ],
  ]);
  expect(verdictOf(numbers(2), numbers(3), numbers(1), 0.5)[0]![1]).toMatch(
    /^the squared error is worse than/,
  );
  // That is told as a divergence.
  expect(verdictOf(numbers(2), numbers(Infinity), numbers(1), 0.5)).toEqual([]);
});
