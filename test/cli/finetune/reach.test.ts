import type * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import type {Head} from '../../../src/cli/finetune/head.js';
import {outOfReach, reachOf} from '../../../src/cli/finetune/reach.js';
import type {Task} from '../../../src/cli/finetune/task.js';
import {otherUnits} from '../../../src/cli/finetune/units.js';

const of = (...values: number[]) => Float32Array.from(values);
const head = (activation: string, units = 1): Head => ({activation, units, layer: {} as tf.layers.Layer});
const numbers: Task = {kind: 'numbers', names: ['label']};
const logits: Task = {kind: 'classes', classes: ['a', 'b'], outputs: 'logits'};

test('what a head can give, and what is beyond it', () => {
  expect(reachOf(head('linear'))).toBeUndefined();
  expect(reachOf(head('relu'))).toBe('numbers from 0 up');
  expect(outOfReach(head('linear'), numbers, of(-1e9, 1e9), false)).toBeUndefined();
  expect(outOfReach(head('relu'), numbers, of(0, 1e9), false)).toBeUndefined();
  expect(outOfReach(head('relu'), numbers, of(-1, 2000, -0.5), false)).toMatch(
    /^the head ends in relu, which gives numbers from 0 up, and 2 of 3 labels \(-1 to 2,000\) are out of its reach: --new-head/,
  );
  expect(outOfReach(head('tanh'), numbers, of(-1, 0.5, 1), false)).toBeUndefined();
  expect(outOfReach(head('tanh'), numbers, of(-1.5, 0.5, 1), true)).toMatch(
    /1 of 3 standardised labels \(-1.5 to 1\)/,
  );
});

test('logits that are kept small can never be sure', () => {
  expect(outOfReach(head('tanh', 2), logits, of(0, 1), false)).toMatch(/it can never be sure of a class/);
  expect(outOfReach(head('linear', 2), logits, of(0, 1), false)).toBeUndefined();
  const shares: Task = {...logits, outputs: 'probabilities'};
  expect(outOfReach(head('softmax', 2), shares, of(0, 1), false)).toBeUndefined();
});

test.each([
  ['prices for a model of ages', of(8, 12), of(15_000, 500_000), 2, true],
  ['large numbers around zero', of(-0.2, 0.3), of(-90_000, 90_000), 1, true],
  ['tiny numbers', of(-1, 1), of(0.001, 0.002), 900, true],
  ['the same units', of(7, 12), of(1, 29), 1.1, false],
  ['the same units, badly met', of(0, 0.5), of(-1.5, 0.5), 1.6, false],
  ['a model that gives one number', of(10, 10), of(1, 29), 1, false],
])('units: %s', (_, outputs, labels, share, isWarned) => {
  expect(otherUnits(outputs, labels, share) !== undefined).toBe(isWarned);
});
