import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {beforeAll, describe, expect, test} from 'vitest';
import {blockOfSlice, blockWithin, embedded, sumOfBlocks} from '../../src/capture/block.js';
import {conv2dGradient, conv2dInputGradient} from '../../src/capture/conv2d.js';
import {depthwiseFilterGradient, depthwiseInputGradient} from '../../src/capture/depthwise.js';
import {factoredGradient} from '../../src/capture/factored.js';
import {gatherGradient} from '../../src/capture/gather.js';
import {denseGradient, type Gradient, sumOfGradients} from '../../src/capture/gradient.js';
import {normal} from '../../src/index.js';

const matrix = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;

/**
 * Every product of an operator against the same product of its dense form.
 *
 * @param x The input that the layer was given; null where the operator must not claim to know it.
 */
function expectOperator(operator: Gradient, dense: tf.Tensor2D, x: tf.Tensor2D | null) {
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
  if (x) pairs.push(['inputGram', operator.inputGram!(p), tf.matMul(tf.matMul(x, x, true), p)]);
  else expect(operator.inputGram).toBeUndefined();
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
          const x = tf.concat<tf.Tensor2D>(terms.map(term => term.x));
          expectOperator(factoredGradient(terms, [m, n]), dense, x);
          expectOperator(sumOfGradients(terms.map(term => factoredGradient([term], [m, n]))), dense, x);
          expectOperator(denseGradient(dense, [m, n]), dense, null);
          const swapped = terms.map((term, i) => ({...term, swapped: i === terms.length - 1}));
          expectOperator(factoredGradient(swapped, [m, n]), dense, null);
          const mixed = [factoredGradient(terms, [m, n]), denseGradient(dense, [m, n])];
          expectOperator(sumOfGradients(mixed), tf.mul(dense, 2) as tf.Tensor2D, null);
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
          const x = tf.cast(tf.oneHot(tf.tensor1d(rows, 'int32'), m), 'float32') as tf.Tensor2D;
          const dense = tf.matMul(x, delta, true) as tf.Tensor2D;
          expectOperator(gatherGradient(tf.tensor1d(rows, 'int32'), delta, [m, n]), dense, x);
        }),
      ),
      {numRuns: 25, seed: 2},
    );
  });

  test('the norm of an embedding with a large table: rows of equal indices add up', () => {
    const [m, n] = [4096, 32];
    const delta = matrix([6, n], 3);
    const gradient = gatherGradient(tf.tensor1d([7, 4000, 7, 1, 7, 1], 'int32'), delta, [m, n]);
    const wanted = tf.sum(tf.square(gradient.dense())).dataSync()[0]!;
    expect(gradient.norm2().dataSync()[0]! / wanted).toBeCloseTo(1, 5);
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
          // A filter that holds the identity picks the patches.
          const taps = filter.size / outputs;
          const patches = tf.conv2d(
            x,
            tf.reshape(tf.eye(taps), [...kernel, inputs, taps]) as tf.Tensor4D,
            strides,
            padding,
            'NHWC',
            dilation,
          );
          expectOperator(operator, dense, tf.reshape(patches, [-1, taps]) as tf.Tensor2D);
        });
      }),
      {numRuns: 60, seed: 3},
    );
  });

  test('a block of a weight: rows, columns, both, all', () => {
    const cut = fc.tuple(fc.nat(3), side, fc.nat(3));
    fc.assert(
      fc.property(side, cut, cut, (t, [top, rows, below], [left, columns, right]) =>
        tf.tidy(() => {
          const shape: [number, number] = [top + rows + below, left + columns + right];
          const [x, delta] = [matrix([t, rows], 1), matrix([t, columns], 2)];
          const dense = tf.pad(tf.matMul(x, delta, true), [
            [top, below],
            [left, right],
          ]) as tf.Tensor2D;
          const operator = embedded(
            factoredGradient([{x, delta}], [rows, columns]),
            {top, rows, left, columns},
            shape,
          );
          expectOperator(operator, dense, top + below === 0 ? x : null);
        }),
      ),
      {numRuns: 40, seed: 4},
    );
  });

  test('several blocks: side by side, apart, overlapping', () => {
    const cut = fc.tuple(fc.nat(4), fc.integer({min: 1, max: 4}));
    const shape: [number, number] = [8, 8];
    fc.assert(
      fc.property(fc.array(fc.tuple(cut, cut), {minLength: 1, maxLength: 3}), cuts =>
        tf.tidy(() => {
          const blocks = cuts.map(([[top, rows], [left, columns]]) => ({top, rows, left, columns}));
          const gradients = blocks.map(({rows, columns}, i) =>
            factoredGradient(
              [{x: matrix([5, rows], i), delta: matrix([5, columns], 10 + i)}],
              [rows, columns],
            ),
          );
          const dense = tf.addN(
            blocks.map(({top, rows, left, columns}, i) =>
              tf.pad(gradients[i]!.dense(), [
                [top, 8 - top - rows],
                [left, 8 - left - columns],
              ]),
            ),
          ) as tf.Tensor2D;
          const parts = blocks.map((block, i) => ({block, gradient: gradients[i]!}));
          expectOperator(sumOfBlocks(parts, shape), dense, null);
        }),
      ),
      {numRuns: 40, seed: 5},
    );
  });

  test('blocks of columns know their inputs, together', () =>
    tf.tidy(() => {
      const [a, b, d, e] = [matrix([5, 4], 1), matrix([3, 4], 2), matrix([5, 6], 3), matrix([3, 2], 4)];
      const parts = [
        {
          gradient: factoredGradient([{x: a, delta: d}], [4, 6]),
          block: {top: 0, rows: 4, left: 0, columns: 6},
        },
        {
          gradient: factoredGradient([{x: b, delta: e}], [4, 2]),
          block: {top: 0, rows: 4, left: 6, columns: 2},
        },
      ];
      const dense = tf.concat([tf.matMul(a, d, true), tf.matMul(b, e, true)], 1) as tf.Tensor2D;
      expectOperator(sumOfBlocks(parts, [4, 8]), dense, tf.concat([a, b]));
    }));

  test('what a slice cuts out, also of a transpose and of a block', () => {
    const axis = fc.tuple(fc.nat(2), fc.integer({min: 1, max: 3}), fc.nat(2));
    fc.assert(
      fc.property(fc.array(axis, {minLength: 1, maxLength: 4}), fc.boolean(), (axes, transposed) =>
        tf.tidy(() => {
          const shape = axes.map(([before, length, after]) => before + length + after);
          const [begin, size] = [axes.map(([before]) => before), axes.map(([, length]) => length)];
          const block = blockOfSlice(shape, begin, size);
          const columns = shape.at(-1)!;
          const numbers = tf.range(
            0,
            shape.reduce((a, b) => a * b),
          );
          const flat = tf.reshape(numbers, [-1, columns]) as tf.Tensor2D;
          const cut = tf.slice(tf.reshape(numbers, shape), begin, size);
          if (!block) {
            // Only where rows are missing in between.
            const rows = Array.from(tf.reshape(cut, [-1, size.at(-1)!]).arraySync() as number[][]);
            const at = rows.map(row => Math.floor(row[0]! / columns));
            expect(at.some((row, i) => i > 0 && row !== at[i - 1]! + 1)).toBe(true);
            return;
          }
          // The matrix lies at (2, 1) of a larger one, or its transpose does.
          const [m, n] = transposed ? [columns, flat.shape[0]] : flat.shape;
          const {
            top,
            rows,
            left,
            columns: width,
          } = blockWithin({top: 2, rows: m, left: 1, columns: n}, block, transposed);
          const large = tf.pad(transposed ? tf.transpose(flat) : flat, [
            [2, 0],
            [1, 0],
          ]) as tf.Tensor2D;
          const got = tf.slice(large, [top, left], [rows, width]);
          const wanted = tf.reshape(cut, [-1, size.at(-1)!]);
          expect((transposed ? tf.transpose(got) : got).arraySync()).toEqual(wanted.arraySync());
        }),
      ),
      {numRuns: 200, seed: 6},
    );
    expect(blockOfSlice([4, 6], [0, 2], [4, 0])).toBeNull();
  });

  test('a depthwise convolution: as defined, and as on the cpu backend', async () => {
    const cases = fc.record({
      size: fc.tuple(fc.integer({min: 4, max: 8}), fc.integer({min: 4, max: 8})),
      kernel: fc.tuple(fc.integer({min: 1, max: 4}), fc.integer({min: 1, max: 4})),
      step: fc.constantFrom([1, 1], [2, 1], [1, 3], [2, 2], [3, 2]) as fc.Arbitrary<[number, number]>,
      dilated: fc.boolean(),
      padding: fc.constantFrom('same' as const, 'valid' as const, 0, 1, 2),
      channels: fc.integer({min: 1, max: 4}),
      multiplier: fc.integer({min: 1, max: 3}),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({size, kernel, step, dilated, padding, channels, multiplier}) => {
        const strides: [number, number] = dilated ? [1, 1] : step;
        const dilations: [number, number] = dilated ? step : [1, 1];
        const reach = kernel.map((k, i) => (k - 1) * dilations[i]! + 1);
        const pads = typeof padding === 'number' ? padding : 0;
        fc.pre(padding === 'same' || reach.every((r, i) => r <= size[i]! + 2 * pads));
        const info = tf.backend_util.computeConv2DInfo(
          [2, ...size, channels],
          [...kernel, channels, multiplier],
          strides,
          dilations,
          padding,
          'floor',
          true,
        );
        // With a number for padding tfjs takes the width's size from the filter's height.
        fc.pre(info.outHeight > 0 && info.outWidth > 0);
        const x = normal([2, ...size, channels], 1) as tf.Tensor4D;
        const filter = normal([...kernel, channels, multiplier], 2) as tf.Tensor4D;
        const delta = normal(info.outShape, 3) as tf.Tensor4D;
        const attributes = {
          strides,
          pad: padding,
          dataFormat: 'NHWC' as const,
          dilations,
          ...(pads > 0 && {dimRoundingMode: 'floor' as const}),
        };
        const got = [
          depthwiseInputGradient(x.shape, delta, filter, attributes),
          depthwiseFilterGradient(x, delta, filter.shape, attributes),
        ];
        expect(got.map(g => g.shape)).toEqual([x.shape, filter.shape]);
        const close = (a: tf.Tensor, wanted: ArrayLike<number>) => {
          const values = a.dataSync();
          expect(values.length).toBe(wanted.length);
          for (let i = 0; i < values.length; i++)
            expect(Math.abs(values[i]! - wanted[i]!)).toBeLessThan(1e-4);
        };
        const defined = depthwiseByLoops(x, filter, delta, info);
        close(got[0]!, defined.dx);
        close(got[1]!, defined.dFilter);
        if (!dilated) {
          await tf.setBackend('cpu');
          const [dx, dFilter] = tf.grads((a, b) =>
            tf.depthwiseConv2d(
              a as tf.Tensor4D,
              b as tf.Tensor4D,
              strides,
              padding as 'same',
              'NHWC',
              1,
              attributes.dimRoundingMode,
            ),
          )([x, filter], delta);
          close(got[0]!, dx!.dataSync());
          close(got[1]!, dFilter!.dataSync());
          await tf.setBackend(backend);
        }
      }),
      {numRuns: 120, seed: 7},
    );
  });
});

/** Both gradients of `y[o, c q] = sum_i x[o stride + i dilation - pad, c] F[i, c, q]`, written out. */
function depthwiseByLoops(
  x: tf.Tensor4D,
  filter: tf.Tensor4D,
  delta: tf.Tensor4D,
  info: tf.backend_util.Conv2DInfo,
) {
  const [xs, fs, ds] = [x, filter, delta].map(tensor => tensor.dataSync()) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const {inHeight, inWidth, inChannels, outHeight, outWidth, outChannels, filterHeight, filterWidth} = info;
  const multiplier = outChannels / inChannels;
  const [dx, dFilter] = [new Float64Array(xs.length), new Float64Array(fs.length)];
  for (let b = 0; b < info.batchSize; b++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++)
        for (let i = 0; i < filterHeight; i++)
          for (let j = 0; j < filterWidth; j++) {
            const y = oy * info.strideHeight + i * info.dilationHeight - info.padInfo.top;
            const z = ox * info.strideWidth + j * info.dilationWidth - info.padInfo.left;
            if (y < 0 || y >= inHeight || z < 0 || z >= inWidth) continue;
            for (let o = 0; o < outChannels; o++) {
              const at = ((b * inHeight + y) * inWidth + z) * inChannels + Math.floor(o / multiplier);
              const d = ds[((b * outHeight + oy) * outWidth + ox) * outChannels + o]!;
              const place = (i * filterWidth + j) * outChannels + o;
              dx[at]! += d * fs[place]!;
              dFilter[place]! += d * xs[at]!;
            }
          }
  return {dx, dFilter};
}
