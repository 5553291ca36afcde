import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installSegmentSum} from '../../src/wasm/segment-sum.js';
import {expectAgreement, filled, gradients, on} from './agreement.js';

let undo: () => void;
beforeAll(async () => {
  undo = installSegmentSum();
  await tf.setBackend('wasm');
});
afterAll(() => undo());

describe('unsortedSegmentSum', () => {
  test('any rows, ids in and out of range, empty segments', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({min: -2, max: 7}), {minLength: 1, maxLength: 20}),
        fc.array(fc.integer({min: 1, max: 4}), {maxLength: 3}),
        fc.integer({min: 1, max: 6}),
        (ids, row, segments) =>
          expectAgreement(() =>
            tf.unsortedSegmentSum(filled([ids.length, ...row], 1), tf.tensor1d(ids, 'int32'), segments),
          ),
      ),
      {numRuns: 60},
    ));

  test('segment ids of two axes', async () => {
    const sum = await on('wasm', () =>
      tf.unsortedSegmentSum(
        tf.tensor3d([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]),
        tf.tensor2d([0, 1, 1, 0], [2, 2], 'int32') as unknown as tf.Tensor1D,
        2,
      ),
    );
    expect(sum).toEqual([[8, 10, 8, 10]]);
  });

  test('int32 stays int32', async () => {
    const ids = tf.tensor1d([1, 1, 0], 'int32');
    const sum = tf.unsortedSegmentSum(tf.tensor1d([1, 2, 4], 'int32'), ids, 2);
    expect(sum.dtype).toBe('int32');
    expect([...(await sum.data())]).toEqual([4, 3]);
    tf.dispose([ids, sum]);
  });

  test('what it cannot take is said', () => {
    const ids = tf.tensor1d([0, 1], 'int32');
    expect(() => tf.unsortedSegmentSum(tf.zeros([3, 2]), ids, 2)).toThrow(
      /\[2\] do not fit x of shape \[3,2\]/,
    );
    expect(() => tf.unsortedSegmentSum(tf.zeros([2], 'bool'), ids, 2)).toThrow(/got bool/);
    tf.disposeVariables();
  });
});

describe('gradients that are sums by segment', () => {
  test.each([
    [[7, 3], 0],
    [[4, 7], 1],
    [[2, 7, 3], 1],
    [[2, 3, 7], 2],
    [[7], 0],
  ])('gather from [%s] along axis %i', async (shape, axis) => {
    await expectAgreement(() => {
      const ids = tf.tensor1d([3, 0, 3, 6, 3], 'int32');
      return gradients(x => tf.gather(x!, ids, axis), [filled(shape, 2)]);
    });
  });

  test('a matrix of indices', () =>
    expectAgreement(() => {
      const ids = tf.tensor2d([1, 2, 2, 0, 5, 1], [2, 3], 'int32');
      return gradients(x => tf.gather(x!, ids), [filled([6, 4], 3)]);
    }));

  test('a table used twice', () =>
    expectAgreement(() => {
      const ids = tf.tensor1d([1, 2, 2], 'int32');
      const f = (x?: tf.Tensor) => tf.matMul(tf.gather(x!, ids), tf.transpose(x!));
      return gradients(f, [filled([4, 5], 4)]);
    }));
});
