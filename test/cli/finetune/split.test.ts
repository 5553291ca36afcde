import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {batchOf, type Examples, pick} from '../../../src/cli/finetune/examples.js';
import {lossOf} from '../../../src/cli/finetune/loss.js';
import {baselineOf, scoresOf} from '../../../src/cli/finetune/measure.js';
import {split} from '../../../src/cli/finetune/split.js';
import {standardised, standardOf} from '../../../src/cli/finetune/standardise.js';
import {ordered} from '../../../src/cli/finetune/train.js';

test('of each class the same share is set aside, never all, by the seed', () => {
  const classes = [...Array(40).fill(0), ...Array(10).fill(1), 2, 2, 3];
  const {train, heldOut} = split(53, classes, 0.2, 5);
  expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from({length: 53}, (_, i) => i));
  const counts = [0, 1, 2, 3].map(c => [...heldOut].filter(i => classes[i] === c).length);
  expect(counts).toEqual([8, 2, 1, 0]);
  expect(split(53, classes, 0.2, 5)).toEqual({train, heldOut});
  expect(split(53, classes, 0.2, 6).heldOut).not.toEqual(heldOut);
  expect([...heldOut]).not.toEqual([0, 1, 2, 3, 4, 5, 6, 7, 40, 41, 50]);
  expect(split(10, null, 0.3, 0).heldOut.length).toBe(3);
  expect(() => split(1, null, 0.5, 0)).toThrow('1 examples are too few');
  expect(() => split(3, [0, 1, 2], 0.5, 0)).toThrow('3 examples are too few');
});

test('an epoch has every example once, each epoch in an order of its own', () => {
  const order = ordered(10, 4, 3);
  const epoch = (n: number) => [0, 1, 2].map(step => [...order(3 * n + step)]);
  expect(epoch(0).map(batch => batch.length)).toEqual([4, 4, 2]);
  for (const n of [0, 1]) expect(epoch(n).flat().sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(epoch(0)).not.toEqual(epoch(1));
  // Of a run that goes on in the middle too.
  expect([...ordered(10, 4, 3)(4)]).toEqual(epoch(1)[1]);
});

test('columns of mean 0 and deviation 1, over some rows', () => {
  const values = Float32Array.of(1, 5, 3, 5, 100, 7);
  const standard = standardOf(values, 2, Int32Array.of(0, 1));
  expect(standard).toEqual({mean: [2, 5], deviation: [1, 1]});
  expect([...standardised(values, standard)]).toEqual([-1, 0, 1, 0, 98, 2]);
  expect(standardOf(Float32Array.of(0, 4), 1, Int32Array.of(0, 1))).toEqual({mean: [2], deviation: [2]});
});

const examples = (targets: number[], width = 1): Examples => ({
  size: targets.length / width,
  shape: [2],
  values: Uint8Array.from({length: (2 * targets.length) / width}, (_, i) => i),
  ...{times: 2, plus: -1, targets: Float32Array.from(targets), width},
});

test('a batch is scaled', () => {
  const {inputs, targets} = batchOf(examples([5, 6, 7]), Int32Array.of(2, 0));
  expect([...inputs.dataSync()]).toEqual([7, 9, -1, 1]);
  expect([...targets]).toEqual([7, 5]);
  inputs.dispose();
  expect(pick(examples([5, 6, 7]), Int32Array.of(1))).toMatchObject({
    ...{size: 1, values: Uint8Array.of(2, 3), targets: Float32Array.of(6)},
  });
});

test('scores by hand', () => {
  const classes = {kind: 'classes', classes: ['a', 'b'], outputs: 'probabilities'} as const;
  const outputs = Float32Array.of(0.75, 0.25, 0.5, 0.5, 0.25, 0.75);
  const scores = scoresOf(classes, outputs, Float32Array.of(0, 1, 1));
  expect(scores).toMatchObject({
    accuracy: 2 / 3,
    confusion: [
      [1, 0],
      [1, 1],
    ],
  });
  expect(scores.loss).toBeCloseTo(-(2 * Math.log(0.75) + Math.log(0.5)) / 3, 6);
  const one = scoresOf(
    {...classes, outputs: 'probability'},
    Float32Array.of(0.25, 0.5, 0.75),
    Float32Array.of(0, 1, 1),
  );
  expect(one.loss).toBeCloseTo(scores.loss, 6);
  const logits = Float32Array.of(Math.log(3), 0, 7, 7, 0, Math.log(3));
  expect(scoresOf({...classes, outputs: 'logits'}, logits, Float32Array.of(0, 1, 1)).loss).toBeCloseTo(
    scores.loss,
    6,
  );
  const numbers = {kind: 'numbers', names: ['y']} as const;
  const standard = {mean: [50], deviation: [10]};
  expect(scoresOf(numbers, [1, 2], Float32Array.of(4, -2), standard)).toEqual({
    ...{loss: 12.5, rmse: Math.sqrt(1250), mae: 35},
  });
});

test('what is trained on is what is measured', () => {
  const kinds = {
    probabilities: [0.75, 0.25, 0.4, 0.6, 0.125, 0.875],
    probability: [0.25, 0.5, 0.875],
    logits: [1, 2, -3, 4, 0, 0.5],
  } as const;
  for (const [outputs, values] of Object.entries(kinds)) {
    const task = {kind: 'classes', classes: ['a', 'b'], outputs: outputs as keyof typeof kinds} as const;
    for (const targets of [Float32Array.of(0, 1, 1), Float32Array.of(1, 0, 0)]) {
      const loss = tf.tidy(
        () => lossOf(task, tf.tensor2d([...values], [3, values.length / 3]), targets).dataSync()[0]!,
      );
      expect(loss, outputs).toBeCloseTo(scoresOf(task, Float32Array.from(values), targets).loss, 5);
    }
  }
  const numbers = {kind: 'numbers', names: ['y', 'z']} as const;
  const targets = Float32Array.of(1, 2, 3, 5);
  const loss = tf.tidy(() => lossOf(numbers, tf.tensor2d([0, 2, 3, 1], [2, 2]), targets).dataSync()[0]!);
  expect(loss).toBe(17 / 4);
});

test('the baseline knows the training part alone', () => {
  const numbers = {kind: 'numbers', names: ['y', 'z']} as const;
  const [train, heldOut] = [examples([1, 10, 3, 30], 2), examples([4, 20], 2)];
  expect(baselineOf(numbers, train, heldOut, null)).toEqual({loss: 2, rmse: Math.SQRT2, mae: 1});
  const classes = {kind: 'classes', classes: ['a', 'b'], outputs: 'logits'} as const;
  const found = baselineOf(classes, examples([0, 0, 0, 1]), examples([0, 1]), null);
  expect(found).toMatchObject({accuracy: 0.5});
  expect(found.loss).toBeCloseTo(-(Math.log(0.75) + Math.log(0.25)) / 2, 6);
});
