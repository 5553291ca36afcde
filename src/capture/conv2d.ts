import type {Scalar, Tensor2D, Tensor4D} from '@tensorflow/tfjs-core';
import {
  addN,
  backend_util,
  conv2d,
  conv2dTranspose,
  matMul,
  ones,
  pad,
  reshape,
  slice,
  square,
  sum,
  transpose,
} from '@tensorflow/tfjs-core';
import {fitted} from './fitted.js';
import type {Gradient} from './gradient.js';
import {biasGradient, timesTransposed, transposedTimes} from './layout.js';
import {type Consumer, type ConsumingNode, sameShape} from './node.js';

/** What tfjs's Conv2D kernel was called with. */
export interface ConvAttributes {
  strides: [number, number] | number;
  pad: 'valid' | 'same' | number | backend_util.ExplicitPadding;
  dataFormat: 'NHWC' | 'NCHW';
  dilations: [number, number] | number;
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/**
 * The gradient of a convolution's filter `[kh, kw, in, out]` as `[kh*kw*in, out]`: `cols^T delta`, where `cols` holds
 * the patch of every output place. Neither is formed: `P^T G` is a convolution with k output channels, and so is
 * `G Q`, with delta Q as the filter.
 *
 * @param x `[batch, height, width, in]`
 * @param delta `[batch, outHeight, outWidth, out]`
 */
export function conv2dGradient(
  x: Tensor4D,
  delta: Tensor4D,
  filterShape: readonly [kh: number, kw: number, inChannels: number, out: number],
  {strides, pad: padding, dilations, dimRoundingMode}: ConvAttributes,
): Gradient {
  const [kh, kw, inChannels, out] = filterShape;
  const info = backend_util.computeConv2DInfo(
    x.shape,
    [kh, kw, inChannels, out],
    strides,
    dilations,
    padding,
    dimRoundingMode,
  );
  const {outHeight, outWidth, strideHeight, strideWidth, dilationHeight, dilationWidth, padInfo} = info;
  const t = x.shape[0] * outHeight * outWidth;
  const flat = reshape(delta, [t, out]) as Tensor2D;

  /**
   * cols^T right, `[kh*kw*in, k]`, by one convolution with channels and batch in each other's place: delta is the
   * filter, dilated by the stride, and goes over x in steps of the dilation.
   */
  const backwards = (right: Tensor2D): Tensor2D => {
    const met = (steps: number, stride: number, taps: number, dilation: number) =>
      (steps - 1) * stride + (taps - 1) * dilation + 1;
    const height = met(outHeight, strideHeight, kh, dilationHeight);
    const width = met(outWidth, strideWidth, kw, dilationWidth);
    const filter = reshape(right, [x.shape[0], outHeight, outWidth, right.shape[1]]) as Tensor4D;
    const places = conv2d(
      transpose(fitted(x, padInfo.top, height, padInfo.left, width), [3, 1, 2, 0]) as Tensor4D,
      transpose(filter, [1, 2, 0, 3]) as Tensor4D,
      [dilationHeight, dilationWidth],
      'valid',
      'NHWC',
      [strideHeight, strideWidth],
    );
    return reshape(transpose(places, [1, 2, 0, 3]), [kh * kw * inChannels, right.shape[1]]);
  };
  const dense = () => backwards(flat);
  /** cols P, `[t, k]`. */
  const forwards = (p: Tensor2D): Tensor2D => {
    const filter = reshape(p, [kh, kw, inChannels, p.shape[1]]) as Tensor4D;
    return reshape(conv2d(x, filter, strides, padding, 'NHWC', dilations, dimRoundingMode), [t, p.shape[1]]);
  };
  const leftMul = (p: Tensor2D) => transpose(transposedTimes(flat, forwards(p)));

  return {
    shape: [kh * kw * inChannels, out],
    leftMul,
    rightMul: q => backwards(matMul(flat, q)),
    rowSums: () => backwards(sum(flat, 1, true) as Tensor2D),
    columnSums: () => leftMul(ones([kh * kw * inChannels, 1])),
    norm2: () => sum(square(dense())) as Scalar,
    dense,
    inputGram: q => backwards(forwards(q)),
  };
}

/**
 * dL/dx of a convolution, `[batch, height, width, in]`. tfjs has it for dilation 1; with a dilation (and so stride 1)
 * each place of the filter sends delta back to the inputs it met.
 */
export function conv2dInputGradient(
  xShape: [number, number, number, number],
  delta: Tensor4D,
  filter: Tensor4D,
  {strides, pad: padding, dilations, dimRoundingMode}: ConvAttributes,
): Tensor4D {
  const info = backend_util.computeConv2DInfo(
    xShape,
    filter.shape,
    strides,
    dilations,
    padding,
    dimRoundingMode,
  );
  const {dilationHeight, dilationWidth, padInfo, outHeight, outWidth} = info;
  if (dilationHeight === 1 && dilationWidth === 1) {
    return conv2dTranspose(delta, filter, xShape, strides, padding as 'valid', dimRoundingMode);
  }
  const [kh, kw, inChannels, out] = filter.shape;
  const [batch, height, width] = xShape;
  const [paddedHeight, paddedWidth] = [
    Math.max(padInfo.top + height, outHeight + (kh - 1) * dilationHeight),
    Math.max(padInfo.left + width, outWidth + (kw - 1) * dilationWidth),
  ];
  const flat = reshape(delta, [-1, out]) as Tensor2D;
  const parts = Array.from({length: kh * kw}, (_, place) => {
    const [row, column] = [Math.floor(place / kw), place % kw];
    const matrix = reshape(slice(filter, [row, column, 0, 0], [1, 1, inChannels, out]), [inChannels, out]);
    const back = reshape(timesTransposed(flat, matrix as Tensor2D), [batch, outHeight, outWidth, inChannels]);
    const [top, left] = [row * dilationHeight, column * dilationWidth];
    return pad(back, [
      [0, 0],
      [top, paddedHeight - outHeight - top],
      [left, paddedWidth - outWidth - left],
      [0, 0],
    ]);
  });
  return slice(addN(parts) as Tensor4D, [0, padInfo.top, padInfo.left, 0], xShape);
}

/** `y = conv2d(x, W)`, NHWC, plain or fused with a bias. */
export function conv2dConsumer(
  {inputs, saved, attrs, transposed}: ConsumingNode,
  keys: {x: string; filter: string; bias?: string},
): Consumer | string {
  // Conv2D saves [x, filter], the fused one [filter, x, y, bias].
  const [x, filter] = keys.x === 'x' ? saved : [saved[1], saved[0]];
  const attributes = attrs as unknown as ConvAttributes;
  if (transposed) return 'conv2d with a transposed filter';
  if (attributes.dataFormat === 'NCHW') return 'conv2d in NCHW';
  if (!sameShape(x, inputs[keys.x]) || !sameShape(filter, inputs[keys.filter])) {
    return 'conv2d of shapes that were changed';
  }
  const input = x as Tensor4D;
  const shape = (filter as Tensor4D).shape;
  const bias = keys.bias === undefined ? undefined : inputs[keys.bias];
  const at = keys.x === 'x' ? 1 : 0;
  return {
    others: dy => ({
      [keys.x]: () =>
        conv2dInputGradient(input.shape, dy as Tensor4D, reshape(saved[at]!, shape) as Tensor4D, attributes),
      ...(bias && {
        [keys.bias!]: () => biasGradient(dy, bias),
      }),
    }),
    part: dy => ({
      tensors: [input, dy],
      gradient: ([from, delta]) => conv2dGradient(from as Tensor4D, delta as Tensor4D, shape, attributes),
    }),
  };
}
