import type {Scalar, Tensor2D, Tensor4D} from '@tensorflow/tfjs-core';
import {
  addN,
  backend_util,
  concat,
  conv2d,
  conv2dTranspose,
  matMul,
  pad,
  reshape,
  slice,
  square,
  stridedSlice,
  sum,
  transpose,
} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';
import {columnSums, timesTransposed} from './layout.js';
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
 * the patch of every output place. Neither is formed. `P^T G` is a convolution with k output channels; `G Q` takes, for
 * each place of the filter, the inputs it met.
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

  /** For each place of the filter the inputs it met, `[t, in]`. */
  const places = (use: (inputs: Tensor2D) => Tensor2D): Tensor2D[] => {
    const [bottom, right] = [
      Math.max(0, (outHeight - 1) * strideHeight + (kh - 1) * dilationHeight + 1 - padInfo.top - x.shape[1]),
      Math.max(0, (outWidth - 1) * strideWidth + (kw - 1) * dilationWidth + 1 - padInfo.left - x.shape[2]),
    ];
    const padded = pad(x, [
      [0, 0],
      [padInfo.top, bottom],
      [padInfo.left, right],
      [0, 0],
    ]);
    return Array.from({length: kh * kw}, (_, place) => {
      const [top, left] = [Math.floor(place / kw) * dilationHeight, (place % kw) * dilationWidth];
      const met = stridedSlice(
        padded,
        [0, top, left, 0],
        [
          x.shape[0],
          top + (outHeight - 1) * strideHeight + 1,
          left + (outWidth - 1) * strideWidth + 1,
          inChannels,
        ],
        [1, strideHeight, strideWidth, 1],
      );
      return use(reshape(met, [t, inChannels]) as Tensor2D);
    });
  };
  // cols^T right, [kh*kw*in, k]: the thin matrix is the one that is transposed.
  const backwards = (right: Tensor2D) =>
    concat(places(inputs => transpose(matMul(transpose(right), inputs)) as Tensor2D)) as Tensor2D;
  const dense = () => backwards(flat);

  return {
    shape: [kh * kw * inChannels, out],
    leftMul: p => {
      const filter = reshape(p, [kh, kw, inChannels, p.shape[1]]) as Tensor4D;
      const passed = conv2d(x, filter, strides, padding, 'NHWC', dilations, dimRoundingMode);
      return matMul(transpose(reshape(passed, [t, p.shape[1]])), flat);
    },
    rightMul: q => backwards(matMul(flat, q)),
    rowSums: () => backwards(sum(flat, 1, true) as Tensor2D),
    columnSums: () => {
      const perPlace = concat(
        places(inputs => sum(inputs, 1, true) as Tensor2D),
        1,
      );
      return matMul(transpose(sum(perPlace, 1, true) as Tensor2D), flat);
    },
    norm2: () => sum(square(dense())) as Scalar,
    dense,
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
  {inputs, saved, attrs, weight, transposed}: ConsumingNode,
  keys: {x: string; filter: string; bias?: string},
): Consumer | null {
  // Conv2D saves [x, filter], the fused one [filter, x, y, bias].
  const [x, filter] = keys.x === 'x' ? saved : [saved[1], saved[0]];
  const attributes = attrs as unknown as ConvAttributes;
  if (transposed || attributes.dataFormat === 'NCHW') return null;
  if (!sameShape(x, inputs[keys.x]) || !sameShape(filter, inputs[keys.filter])) return null;
  const input = x as Tensor4D;
  const shape = (filter as Tensor4D).shape;
  const bias = keys.bias === undefined ? undefined : inputs[keys.bias];
  return {
    unneeded: [filter!],
    others: dy => ({
      [keys.x]: () =>
        conv2dInputGradient(input.shape, dy as Tensor4D, reshape(weight, shape) as Tensor4D, attributes),
      ...(bias && {
        [keys.bias!]: () => reshape(columnSums(reshape(dy, [-1, shape[3]])), bias.shape),
      }),
    }),
    part: dy => ({
      tensors: [input, dy],
      gradient: ([from, delta]) => conv2dGradient(from as Tensor4D, delta as Tensor4D, shape, attributes),
    }),
  };
}
