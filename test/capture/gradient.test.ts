import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {beforeAll, describe, expect, test} from 'vitest';
import {conv2dGradient, conv2dInputGradient} from '../../src/capture/conv2d.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {gatherGradient} from '../../src/capture/gather.js';
import {denseGradient, type Gradient, sumOfGradients} from '../../src/capture/gradient.js';
import {normal} from '../../src/index.js';

const matrix = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;

/** Every product of an operator against the same product of its dense form. */
function expectOperator(operator: Gradient, dense: tf.Tensor2D) {
  const [m, n] = operator.shape;
  expect(dense.shape).toEqual([m, n]);
  const [p, q] = [matrix([m, 3], 91), matrix([n, 2], 92)];
  const pairs: [string, tf.Tensor, tf.Tensor][] = [
    ['leftMul', operator.leftMul(p), tf.matMul(p, dense, true)],
    ['rightMul', operator.rightMul(q), tf.matMul(dense, q)],
    ['rowSums', operator.rowSums(), tf.sum(dense, 1, true)],
    ['columnSums', operator.columnSums(), tf.sum(dense, 0, true)],
    ['norm2', operator.norm2(), tf.sum(tf.square(dense))],
    ['dense', operator.dense(), dense],
  ];
  for (const [name, got, want] of pairs) {
    expect(got.shape, name).toEqual(want.shape);
    const size = Math.max(tf.max(tf.abs(want)).dataSync()[0]!, tf.norm(dense).dataSync()[0]!, 1e-6);
    expect(tf.max(tf.abs(tf.sub(got, want))).dataSync()[0]! / size, name).toBeLessThan(2e-5);
  }
}

const side = fc.integer({min: 1, max: 12});

describe.each(['cpu', 'wasm'])('a gradient as an operator, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test('x^T delta: t = 1, t above m and n, rank 1, several terms', () => {
    fc.assert(
      fc.property(fc.array(side, {minLength: 1, maxLength: 3}), side, side, (ts, m, n) =>
        tf.tidy(() => {
          const terms = ts.map((t, i) => ({x: matrix([t, m], i), delta: matrix([t, n], 10 + i)}));
          const dense = tf.addN(terms.map(({x, delta}) => tf.matMul(x, delta, true))) as tf.Tensor2D;
          expectOperator(factoredGradient(terms, [m, n]), dense);
          expectOperator(sumOfGradients(terms.map(term => factoredGradient([term], [m, n]))), dense);
          expectOperator(denseGradient(dense, [m, n]), dense);
        }),
      ),
      {numRuns: 40, seed: 1},
    );
  });

  test('an embedding: rows touched once, twice, never', () => {
    fc.assert(
      fc.property(side, fc.integer({min: 2, max: 12}), side, (t, m, n) =>
        tf.tidy(() => {
          const rows = Array.from({length: t}, (_, i) => (i * 7) % Math.max(1, m - 1));
          const delta = matrix([t, n], 3);
          const dense = tf.matMul(tf.oneHot(tf.tensor1d(rows, 'int32'), m), delta, true) as tf.Tensor2D;
          expectOperator(gatherGradient(tf.tensor1d(rows, 'int32'), delta, [m, n]), dense);
        }),
      ),
      {numRuns: 25, seed: 2},
    );
  });

  test('a convolution: strides, padding, dilation, filters of any size', () => {
    const cases = fc.record({
      size: fc.tuple(fc.integer({min: 4, max: 8}), fc.integer({min: 4, max: 8})),
      kernel: fc.tuple(fc.integer({min: 1, max: 3}), fc.integer({min: 1, max: 3})),
      stride: fc.integer({min: 1, max: 2}),
      dilation: fc.integer({min: 1, max: 2}),
      padding: fc.constantFrom('same' as const, 'valid' as const),
      channels: fc.tuple(fc.integer({min: 1, max: 3}), fc.integer({min: 1, max: 4})),
    });
    fc.assert(
      fc.property(cases, ({size, kernel, stride, dilation, padding, channels: [inputs, outputs]}) => {
        // tfjs takes a stride or a dilation, not both; and its wasm backend strides wrongly past the filter.
        const strides = dilation > 1 || stride > Math.min(...kernel) ? 1 : stride;
        const reach = kernel.map(k => (k - 1) * dilation + 1);
        fc.pre(padding === 'same' || reach.every((r, i) => r <= size[i]!));
        tf.tidy(() => {
          const x = normal([2, ...size, inputs], 1) as tf.Tensor4D;
          const filter = normal([...kernel, inputs, outputs], 2) as tf.Tensor4D;
          const y = tf.conv2d(x, filter, strides, padding, 'NHWC', dilation);
          const delta = normal(y.shape, 3) as tf.Tensor4D;
          const attributes = {strides, pad: padding, dataFormat: 'NHWC' as const, dilations: dilation};
          const operator = conv2dGradient(x, delta, filter.shape, attributes);
          // A convolution is linear in the filter and in x: <delta, conv(x, F)> = <G, F> = <dx, x>.
          const inner = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.mul(a, b)).dataSync()[0]!;
          const dense = operator.dense();
          const scale = tf.sum(tf.abs(tf.mul(delta, y))).dataSync()[0]!;
          const wanted = inner(delta, y);
          expect(Math.abs(inner(tf.reshape(dense, filter.shape), filter) - wanted) / scale).toBeLessThan(
            1e-5,
          );
          const other = normal(filter.shape, 4) as tf.Tensor4D;
          const moved = inner(delta, tf.conv2d(x, other, strides, padding, 'NHWC', dilation));
          expect(Math.abs(inner(tf.reshape(dense, filter.shape), other) - moved) / scale).toBeLessThan(1e-5);
          const dx = conv2dInputGradient(x.shape, delta, filter, attributes);
          expect(dx.shape).toEqual(x.shape);
          const there = normal(x.shape, 5) as tf.Tensor4D;
          const met = inner(delta, tf.conv2d(there, filter, strides, padding, 'NHWC', dilation));
          expect(Math.abs(inner(dx, there) - met) / scale).toBeLessThan(1e-5);
          expectOperator(operator, dense);
        });
      }),
      {numRuns: 60, seed: 3},
    );
  });
});
