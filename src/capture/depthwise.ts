import type {Tensor, Tensor2D, Tensor4D} from '@tensorflow/tfjs-core';
import {
  backend_util,
  concat,
  depthwiseConv2d,
  DepthwiseConv2dNativeBackpropFilter,
  DepthwiseConv2dNativeBackpropInput,
  getBackend,
  getKernel,
  mul,
  pad,
  reshape,
  reverse,
  slice,
  stridedSlice,
  sum,
} from '@tensorflow/tfjs-core';
import type {ConvAttributes} from './conv2d.js';
import {fitted} from './fitted.js';
import {biasGradient, columnSums} from './layout.js';
import {type Attributes, type Inputs, sameShape} from './node.js';

type Shape4D = readonly [number, number, number, number];

/** Why a depthwise filter's gradient is not kept as an operator. */
export const SMALL = "a depthwise filter's gradient is no larger than the filter and is formed";

const infoOf = (xShape: Shape4D, filterShape: Shape4D, attributes: ConvAttributes) =>
  backend_util.computeConv2DInfo(
    [...xShape],
    [...filterShape],
    attributes.strides,
    attributes.dilations ?? 1,
    attributes.pad,
    attributes.dimRoundingMode,
    true,
  );

/**
 * dL/dF of a depthwise convolution, `[kh, kw, channels, multiplier]`: at each place of the filter, the inputs it met
 * times delta, summed over images and output places.
 *
 * @param x `[batch, height, width, channels]`
 * @param delta `[batch, outHeight, outWidth, channels * multiplier]`
 */
export function depthwiseFilterGradient(
  x: Tensor4D,
  delta: Tensor4D,
  filterShape: Shape4D,
  attributes: ConvAttributes,
): Tensor4D {
  const [kh, kw, channels, multiplier] = filterShape;
  const info = infoOf(x.shape, filterShape, attributes);
  const {outHeight, outWidth, strideHeight, strideWidth, dilationHeight, dilationWidth, padInfo} = info;
  const [height, width] = [(outHeight - 1) * strideHeight + 1, (outWidth - 1) * strideWidth + 1];
  const met = fitted(
    x,
    padInfo.top,
    height + (kh - 1) * dilationHeight,
    padInfo.left,
    width + (kw - 1) * dilationWidth,
  );
  const batch = x.shape[0];
  const t = batch * outHeight * outWidth;
  const flat = reshape(delta, multiplier === 1 ? [t, channels] : [t, channels, multiplier]);
  const places = Array.from({length: kh * kw}, (_, place) => {
    const [row, column] = [Math.floor(place / kw) * dilationHeight, (place % kw) * dilationWidth];
    const inputs =
      strideHeight === 1 && strideWidth === 1
        ? slice(met, [0, row, column, 0], [batch, outHeight, outWidth, channels])
        : stridedSlice(
            met,
            [0, row, column, 0],
            [batch, row + height, column + width, channels],
            [1, strideHeight, strideWidth, 1],
          );
    const products = mul(reshape(inputs, multiplier === 1 ? [t, channels] : [t, channels, 1]), flat);
    return columnSums(reshape(products, [t, channels * multiplier]));
  });
  return reshape(concat<Tensor2D>(places), [kh, kw, channels, multiplier]);
}

/**
 * dL/dx of a depthwise convolution, `[batch, height, width, channels]`: delta, spread out by the stride, convolved with
 * the filter turned by half a turn; then the filters of each channel are summed.
 */
export function depthwiseInputGradient(
  xShape: Shape4D,
  delta: Tensor4D,
  filter: Tensor4D,
  attributes: ConvAttributes,
): Tensor4D {
  const [kh, kw, channels, multiplier] = filter.shape;
  const [batch, height, width] = xShape;
  const info = infoOf(xShape, filter.shape, attributes);
  const {strideHeight, strideWidth, dilationHeight, dilationWidth, padInfo} = info;
  const [down, right] = [(kh - 1) * dilationHeight, (kw - 1) * dilationWidth];
  const back = depthwiseConv2d(
    fitted(
      spread(delta, strideHeight, strideWidth),
      down - padInfo.top,
      height + down,
      right - padInfo.left,
      width + right,
    ),
    reverse(reshape(filter, [kh, kw, channels * multiplier, 1]) as Tensor4D, [0, 1]),
    1,
    'valid',
    'NHWC',
    [dilationHeight, dilationWidth],
  );
  if (multiplier === 1) return back;
  return reshape(sum(reshape(back, [-1, multiplier]), 1), [batch, height, width, channels]);
}

/** Zeros below and to the right of each place, so that places lie a stride apart. */
function spread(delta: Tensor4D, down: number, right: number): Tensor4D {
  if (down === 1 && right === 1) return delta;
  const [batch, height, width, channels] = delta.shape;
  const after = (a: Tensor, count: number, length: number, zeros: number) =>
    pad(reshape(a, [count, 1, length]), [
      [0, 0],
      [0, zeros],
      [0, 0],
    ]);
  const columns = after(delta, batch * height * width, channels, right - 1);
  const rows = after(columns, batch * height, width * right * channels, down - 1);
  return reshape(rows, [batch, height * down, width * right, channels]);
}

/**
 * The gradients of a depthwise convolution by input, for a node for which tfjs has none: on a backend without the
 * kernels (stock wasm), or with a dilation. Null where tfjs has its own.
 */
export function depthwiseGradients(
  inputs: Inputs,
  saved: readonly Tensor[],
  attrs: Attributes,
  keys: {x: string; filter: string; bias?: string},
): ((dy: Tensor) => Record<string, () => Tensor>) | null {
  // The plain op saves [x, filter], the fused one [filter, x, y, bias].
  const [x, filter] = (keys.x === 'x' ? saved : [saved[1], saved[0]]) as Tensor4D[];
  if (!x || !filter || !sameShape(x, inputs[keys.x]) || !sameShape(filter, inputs[keys.filter])) return null;
  const attributes = attrs as unknown as ConvAttributes;
  if (attributes.dataFormat === 'NCHW') return null;
  const isDilated = [attributes.dilations ?? 1].flat().some(dilation => dilation > 1);
  const kernels = [DepthwiseConv2dNativeBackpropFilter, DepthwiseConv2dNativeBackpropInput];
  if (!isDilated && kernels.every(kernel => getKernel(kernel, getBackend()))) return null;
  const bias = keys.bias === undefined ? undefined : inputs[keys.bias];
  return dy => ({
    [keys.x]: () => depthwiseInputGradient(x.shape, dy as Tensor4D, filter, attributes),
    [keys.filter]: () => depthwiseFilterGradient(x, dy as Tensor4D, filter.shape, attributes),
    ...(bias && {
      [keys.bias!]: () => biasGradient(dy, bias),
    }),
  });
}
