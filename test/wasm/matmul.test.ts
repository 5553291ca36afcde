import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installFastMatMul} from '../../src/wasm/matmul.js';
import {expectAgreement, filled, on} from './agreement.js';

let undo: () => void;
beforeAll(async () => {
  undo = installFastMatMul();
  await tf.setBackend('wasm');
});
afterAll(() => undo());

/** The shape [...batch, rows, columns], with the last two swapped for a transposed operand. */
function operand(batch: number[], rows: number, columns: number, transpose: boolean): number[] {
  return transpose ? [...batch, columns, rows] : [...batch, rows, columns];
}

const flags = [
  [false, false],
  [true, false],
  [false, true],
  [true, true],
] as const;
const sizes = [
  [1, 1, 1],
  [5, 3, 7],
  [1, 70, 9],
  [33, 64, 1],
  [17, 130, 40],
] as const;
const equalBatches = [[], [1], [3], [2, 3]];

describe('matMul', () => {
  for (const [transposeA, transposeB] of flags) {
    for (const batch of equalBatches) {
      test(`batch [${batch}], transposeA ${transposeA}, transposeB ${transposeB}`, async () => {
        for (const [m, k, n] of sizes) {
          await expectAgreement(() => {
            const a = filled(operand(batch, m, k, transposeA), 1);
            const b = filled(operand(batch, k, n, transposeB), 2);
            return tf.matMul(a, b, transposeA, transposeB);
          });
        }
      });
    }
    test(`gradients, transposeA ${transposeA}, transposeB ${transposeB}`, async () => {
      for (const batch of equalBatches) {
        await expectAgreement(() => {
          const a = filled(operand(batch, 6, 52, transposeA), 3);
          const b = filled(operand(batch, 52, 9, transposeB), 4);
          const weight = filled([...batch, 6, 9], 5);
          const f = (x: tf.Tensor, y: tf.Tensor) =>
            tf.matMul(x, y, transposeA, transposeB).mul(weight).sum() as tf.Scalar;
          return tf.grads(f)([a, b]);
        });
      }
    });
  }

  test.each([
    [[4], []],
    [[], [4]],
    [
      [2, 3],
      [1, 3],
    ],
    [
      [2, 3],
      [2, 1],
    ],
    [
      [2, 1],
      [1, 3],
    ],
    [[2, 3], [3]],
    [[2, 3], []],
  ])('batches [%s] and [%s] broadcast', async (batchA, batchB) => {
    for (const [transposeA, transposeB] of flags) {
      const shapeA = operand(batchA, 5, 50, transposeA);
      const shapeB = operand(batchB, 50, 6, transposeB);
      const actual = await on('wasm', () =>
        tf.matMul(filled(shapeA, 6), filled(shapeB, 7), transposeA, transposeB),
      );
      const expected = await on('wasm', () => {
        const full = tf.broadcast_util.assertAndGetBroadcastShape(batchA, batchB);
        const spread = (x: tf.Tensor) => x.broadcastTo([...full, ...x.shape.slice(-2)]);
        const [a, b] = [spread(filled(shapeA, 6)), spread(filled(shapeB, 7))];
        return tf.matMul(a, b, transposeA, transposeB);
      });
      expect(actual).toEqual(expected);
    }
  });

  test('one tensor as right operand under two shapes', () =>
    expectAgreement(() => {
      const b = filled([6, 20], 8);
      const first = tf.matMul(filled([3, 6], 9), b);
      const second = tf.matMul(filled([3, 10], 10), b.reshape([10, 12]));
      return [first, second, tf.matMul(filled([3, 6], 11), b)];
    }));

  test('a variable that changes', () =>
    expectAgreement(() => {
      const w = tf.variable(filled([4, 4], 12), true, undefined);
      const x = filled([2, 4], 13);
      const before = tf.matMul(x, w);
      w.assign(filled([4, 4], 14));
      const after = tf.matMul(x, w);
      w.dispose();
      return [before, after];
    }));

  test('no rows', () => expectAgreement(() => tf.matMul(tf.zeros([0, 4]), filled([4, 3], 15))));

  test.each<[boolean, boolean]>([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])('a sum of nothing is zero: transposed %s, %s', (ta, tb) => {
    // What earlier tensors leave in memory must not come back.
    tf.tidy(() => void Array.from({length: 50}, (_, i) => tf.fill([5, 3], 3 + i)));
    return expectAgreement(() =>
      tf.matMul(
        tf.zeros<tf.Rank.R2>(ta ? [0, 5] : [5, 0]),
        tf.zeros<tf.Rank.R2>(tb ? [3, 0] : [0, 3]),
        ta,
        tb,
      ),
    );
  });
});

describe('fused.matMul', () => {
  const activations = ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu', 'prelu'] as const;
  test.each(activations)('%s, with and without bias', async activation => {
    for (const [transposeA, transposeB] of flags) {
      for (const batch of [[], [3]]) {
        for (const bias of [true, false]) {
          await expectAgreement(() =>
            tf.fused.matMul({
              a: filled(operand(batch, 5, 130, transposeA), 16) as tf.Tensor2D,
              b: filled(operand(batch, 130, 7, transposeB), 17) as tf.Tensor2D,
              transposeA,
              transposeB,
              ...(bias ? {bias: filled([7], 18)} : {}),
              activation,
              ...(activation === 'leakyrelu' ? {leakyreluAlpha: 0.3} : {}),
              ...(activation === 'prelu' ? {preluActivationWeights: filled([7], 19)} : {}),
            }),
          );
        }
      }
    }
  });

  test('gradients', async () => {
    for (const [transposeA, transposeB] of flags) {
      await expectAgreement(() => {
        const a = filled(operand([], 6, 60, transposeA), 20) as tf.Tensor2D;
        const b = filled(operand([], 60, 9, transposeB), 21) as tf.Tensor2D;
        const f = (x: tf.Tensor, y: tf.Tensor, bias: tf.Tensor) =>
          tf.fused
            .matMul({
              a: x as tf.Tensor2D,
              b: y as tf.Tensor2D,
              transposeA,
              transposeB,
              bias,
              activation: 'relu',
            })
            .square()
            .sum() as tf.Scalar;
        return tf.grads(f)([a, b, filled([9], 22)]);
      });
    }
  });
});

describe('installing', () => {
  test('again changes nothing, and undo restores what was there', () => {
    const ours = tf.getKernel('BatchMatMul', 'wasm');
    expect(installFastMatMul()).toBe(undo);
    expect(tf.getKernel('BatchMatMul', 'wasm')).toBe(ours);
    undo();
    const theirs = tf.getKernel('BatchMatMul', 'wasm');
    expect(theirs.kernelFunc).not.toBe(ours.kernelFunc);
    expect(theirs.setupFunc).toBe(ours.setupFunc);
    undo();
    expect(tf.getKernel('BatchMatMul', 'wasm')).toBe(theirs);
    undo = installFastMatMul();
    expect(tf.getKernel('BatchMatMul', 'wasm').kernelFunc).toBe(ours.kernelFunc);
  });
});
