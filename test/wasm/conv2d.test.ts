import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installConv2d} from '../../src/wasm/conv2d.js';
import {installFastMatMul} from '../../src/wasm/matmul.js';
import {expectAgreement, filled, gradients} from './agreement.js';
import {type Geometry, geometries} from './geometry.js';

let undo: () => void;
beforeAll(async () => {
  undo = installConv2d();
  await tf.setBackend('wasm');
});
afterAll(() => undo());

/** The gradients of input and filter. */
function both({batch, size, filter, strides, pad, channels}: Geometry, outChannels: number): tf.Tensor[] {
  const x = filled([batch, ...size, channels], 1);
  const w = filled([...filter, channels, outChannels], 2);
  return gradients((x, w) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad), [x, w]);
}

const usual: Geometry = {batch: 2, size: [8, 7], filter: [3, 3], strides: [1, 1], pad: 'same', channels: 4};

describe('the gradients of conv2d', () => {
  test('any geometry', () =>
    fc.assert(
      fc.asyncProperty(geometries, fc.integer({min: 1, max: 5}), (geometry, outChannels) =>
        expectAgreement(() => both(geometry, outChannels)),
      ),
      {numRuns: 150},
    ));

  test.each<[string, Partial<Geometry>, number]>([
    ['one by one', {filter: [1, 1]}, 3],
    ['one by one, strided', {filter: [1, 1], strides: [2, 3]}, 3],
    ['one channel in, one out', {channels: 1}, 1],
    ['stride beyond the filter', {filter: [2, 2], strides: [5, 4], pad: 'valid'}, 2],
    ['stride beyond the image', {filter: [3, 2], strides: [20, 20]}, 2],
    ['filter as large as the image', {filter: [8, 7], pad: 'valid'}, 2],
    ['uneven padding', {pad: [[0, 0], [2, 0], [1, 3], [0, 0]]}, 3], // prettier-ignore
    ['padding wider than the filter', {filter: [2, 2], pad: [[0, 0], [3, 3], [2, 4], [0, 0]]}, 3], // prettier-ignore
    ['many channels', {size: [5, 5], channels: 33}, 17],
  ])('%s', (_, change, outChannels) => expectAgreement(() => both({...usual, ...change}, outChannels)));

  test('numeric padding and rounding', () =>
    expectAgreement(() =>
      gradients(
        (x, w) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, 1, 'NHWC', 1, 'floor'),
        [filled([2, 7, 7, 3], 3), filled([3, 3, 3, 2], 4)],
      ),
    ));

  test('conv1d, an image without batch, and fused conv2d', () =>
    expectAgreement(() => {
      const bias = filled([2], 5);
      return [
        ...gradients(
          (x, w) => tf.conv1d(x as tf.Tensor3D, w as tf.Tensor3D, 2, 'same'),
          [filled([2, 9, 3], 6), filled([3, 3, 2], 7)],
        ),
        ...gradients(
          (x, w) => tf.conv2d(x as tf.Tensor3D, w as tf.Tensor4D, 1, 'valid'),
          [filled([5, 6, 3], 8), filled([3, 2, 3, 2], 9)],
        ),
        ...gradients(
          (x, filter, b) =>
            tf.fused.conv2d({
              x: x as tf.Tensor4D,
              filter: filter as tf.Tensor4D,
              bias: b!,
              strides: 1,
              pad: 'same',
              activation: 'relu',
            }),
          [filled([2, 5, 6, 3], 10), filled([3, 3, 3, 2], 11), bias],
        ),
      ];
    }));

  test('conv2dTranspose, forward and gradients', async () => {
    for (const stride of [1, 2]) {
      const shape: [number, number, number, number] = [2, 5 * stride, 4 * stride, 3];
      const f = (x: tf.Tensor, w: tf.Tensor) =>
        tf.conv2dTranspose(x as tf.Tensor4D, w as tf.Tensor4D, shape, stride, 'same');
      const inputs = () => [filled([2, 5, 4, 2], 12), filled([3, 3, 3, 2], 13)] as const;
      await expectAgreement(() => f(...inputs()));
      await expectAgreement(() => gradients((x, w) => f(x!, w!), [...inputs()]));
    }
  });

  test('dy packed in the call is not met again as a right operand of another shape', async () => {
    const undoMatMul = installFastMatMul();
    await expectAgreement(() => {
      const x = filled([1, 4, 4, 3], 15) as tf.Tensor4D;
      const w = filled([1, 1, 3, 6], 16) as tf.Tensor4D;
      const dy = filled([1, 4, 4, 6], 14);
      const dw = tf.grad(w => tf.conv2d(x, w as tf.Tensor4D, 1, 'same'))(w, dy);
      const wide = tf.matMul(filled([2, 6], 18), tf.reshape(dy, [6, 16]));
      const high = tf.matMul(filled([2, 16], 17), tf.reshape(dy, [16, 6]));
      return [dw, wide, high, tf.grad(w => tf.conv2d(x, w as tf.Tensor4D, 1, 'same'))(w, dy)];
    });
    undoMatMul();
  });

  test('channels first and other types are refused', () => {
    const x = tf.zeros([1, 3, 4, 4]);
    const w = tf.zeros([2, 2, 3, 2]);
    const attrs = {strides: 1, pad: 'same', dataFormat: 'NCHW', filterShape: w.shape};
    expect(() => tf.engine().runKernel('Conv2DBackpropFilter', {x, dy: x}, attrs)).toThrow(/takes NHWC/);
    tf.dispose([x, w]);
  });
});
