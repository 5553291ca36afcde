import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installConv2d} from '../../src/wasm/conv2d.js';
import {installDepthwise} from '../../src/wasm/depthwise.js';
import {expectAgreement, filled, gradients} from './agreement.js';
import {type Geometry, geometries} from './geometry.js';

let undo: () => void;
beforeAll(async () => {
  const undos = [installDepthwise(), installConv2d()];
  undo = () => undos.forEach(back => back());
  await tf.setBackend('wasm');
});
afterAll(() => undo());

/** The gradients of input and filter. */
function both({batch, size, filter, strides, pad, channels}: Geometry, multiplier: number): tf.Tensor[] {
  const x = filled([batch, ...size, channels], 1);
  const w = filled([...filter, channels, multiplier], 2);
  const f = (x?: tf.Tensor, w?: tf.Tensor) =>
    tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad as 'same');
  return gradients(f, [x, w]);
}

const usual: Geometry = {batch: 2, size: [8, 7], filter: [3, 3], strides: [1, 1], pad: 'same', channels: 4};

describe('the gradients of depthwiseConv2d', () => {
  test('any geometry', () =>
    fc.assert(
      fc.asyncProperty(geometries, fc.integer({min: 1, max: 3}), (geometry, multiplier) =>
        expectAgreement(() => both(geometry, multiplier)),
      ),
      {numRuns: 150},
    ));

  test.each<[string, Partial<Geometry>, number]>([
    ['one by one', {filter: [1, 1]}, 1],
    ['one by one, strided', {filter: [1, 1], strides: [2, 2]}, 2],
    ['one channel', {channels: 1}, 3],
    ['stride beyond the filter', {filter: [2, 2], strides: [4, 4], pad: 'valid'}, 1],
    ['filter as large as the image', {filter: [8, 7], pad: 'valid'}, 2],
    ['many channels', {size: [4, 5], channels: 37}, 2],
  ])('%s', (_, change, multiplier) => expectAgreement(() => both({...usual, ...change}, multiplier)));

  test('separableConv2d', () =>
    expectAgreement(() =>
      gradients(
        (x, d, p) => tf.separableConv2d(x as tf.Tensor4D, d as tf.Tensor4D, p as tf.Tensor4D, 2, 'same'),
        [filled([2, 6, 6, 3], 3), filled([3, 3, 3, 2], 4), filled([1, 1, 6, 4], 5)],
      ),
    ));

  test.each([1, 2])('dilated, %i filters a channel: <dy, conv(x, w)> is <dw, w> and <dx, x>', multiplier => {
    const inner = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.mul(a, b)).arraySync() as number;
    tf.tidy(() => {
      const x = filled([2, 9, 8, 3], 6) as tf.Tensor4D;
      const w = filled([3, 2, 3, multiplier], 7) as tf.Tensor4D;
      const y = tf.depthwiseConv2d(x, w, 1, 'same', 'NHWC', [2, 3]);
      const dy = filled(y.shape, 8);
      const attrs = {strides: 1, pad: 'same', dilations: [2, 3]};
      const run = (name: string, inputs: tf.NamedTensorMap, more: object) =>
        tf.engine().runKernel(name, inputs, {...attrs, ...more}) as tf.Tensor;
      const dw = run('DepthwiseConv2dNativeBackpropFilter', {x, dy}, {filterShape: w.shape});
      const dx = run('DepthwiseConv2dNativeBackpropInput', {dy, filter: w}, {inputShape: x.shape});
      const expected = inner(dy, y);
      expect(inner(dw, w)).toBeCloseTo(expected, 3);
      expect(inner(dx, x)).toBeCloseTo(expected, 3);
    });
  });
});
