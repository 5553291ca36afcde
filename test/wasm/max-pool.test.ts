import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installMaxPool} from '../../src/wasm/max-pool.js';
import {expectAgreement, filled, gradients, on} from './agreement.js';
import {type Geometry, geometries} from './geometry.js';

let undo: () => void;
beforeAll(async () => {
  undo = installMaxPool();
  await tf.setBackend('wasm');
});
afterAll(() => undo());

type Fill = (shape: number[]) => tf.Tensor;

function gradient({batch, size, filter, strides, pad, channels}: Geometry, fill: Fill): tf.Tensor[] {
  const f = (x?: tf.Tensor) => tf.maxPool(x as tf.Tensor4D, filter, strides, pad as 'same');
  return gradients(f, [fill([batch, ...size, channels])]);
}

const fills: Record<string, Fill> = {
  'any sign': shape => filled(shape, 1),
  'all negative': shape => tf.sub(tf.neg(tf.square(filled(shape, 2))), 0.1),
  'many equal': shape => tf.round(filled(shape, 3)),
  'all zero': shape => tf.zeros(shape),
};

describe('the gradient of maxPool', () => {
  test.each(Object.keys(fills))('any geometry, %s', name =>
    fc.assert(
      // A window that holds padding only has no largest input, and the cpu backend then goes wrong.
      fc.asyncProperty(
        geometries.filter(({pad}) => typeof pad === 'string'),
        geometry => expectAgreement(() => gradient(geometry, fills[name]!)),
      ),
      {numRuns: 50},
    ),
  );

  test('explicit padding, an image without batch', () =>
    expectAgreement(() => {
      const x = fills['all negative']!([6, 5, 3]) as tf.Tensor3D;
      const pad = [[0, 0], [1, 0], [1, 2], [0, 0]] as [[number, number], [number, number], [number, number], [number, number]]; // prettier-ignore
      return [
        ...gradients(x => tf.maxPool(x as tf.Tensor3D, 3, 2, pad), [x]),
        ...gradients(x => tf.maxPool(x as tf.Tensor3D, 3, 2, 1, 'floor'), [x]),
      ];
    }));

  test('a window of padding alone takes no gradient', async () => {
    const pad = [[0, 0], [2, 0], [0, 0], [0, 0]] as [[number, number], [number, number], [number, number], [number, number]]; // prettier-ignore
    const [dx] = await on('wasm', () =>
      tf.grad(x => tf.maxPool(x as tf.Tensor4D, [1, 1], 1, pad))(
        tf.tensor4d([-1, -2], [1, 1, 2, 1]),
        tf.ones([1, 3, 2, 1]),
      ),
    );
    expect(dx).toEqual([1, 1]);
  });

  test('the kernel it replaces is wrong for negative inputs', async () => {
    const build = () =>
      gradient(
        {batch: 1, size: [4, 4], filter: [2, 2], strides: [2, 2], pad: 'valid', channels: 1},
        fills['all negative']!,
      );
    const ours = await on('wasm', build);
    undo();
    const stock = await on('wasm', build);
    undo = installMaxPool();
    expect(stock).not.toEqual(ours);
  });
});
