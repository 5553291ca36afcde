import type {Scalar, Tensor2D, Tensor4D} from '@tensorflow/tfjs-core';
import {
  backend_util,
  concat,
  conv2d,
  matMul,
  pad,
  reshape,
  square,
  stridedSlice,
  sum,
  transpose,
} from '@tensorflow/tfjs-core';
import type {Gradient} from './gradient.js';

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
      const perPlace = concat(places(inputs => sum(inputs, 1, true) as Tensor2D), 1);
      return matMul(transpose(sum(perPlace, 1, true) as Tensor2D), flat);
    },
    norm2: () => sum(square(dense())) as Scalar,
    dense,
  };
}
