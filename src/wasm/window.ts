/** One spatial axis of a convolution or pooling: input place = output place * stride + offset − pad. */
export interface Axis {
  inputs: number;
  outputs: number;
  stride: number;
  /** Zeros before the first input. */
  pad: number;
}

interface Geometry {
  inHeight: number;
  inWidth: number;
  outHeight: number;
  outWidth: number;
  strideHeight: number;
  strideWidth: number;
  padInfo: {top: number; left: number};
}

/** The vertical and the horizontal axis of a convolution or pooling. */
export function axesOf(info: Geometry): {vertical: Axis; horizontal: Axis} {
  const {inHeight, inWidth, outHeight, outWidth, strideHeight, strideWidth, padInfo} = info;
  return {
    vertical: {inputs: inHeight, outputs: outHeight, stride: strideHeight, pad: padInfo.top},
    horizontal: {inputs: inWidth, outputs: outWidth, stride: strideWidth, pad: padInfo.left},
  };
}

/**
 * The outputs, from `first` up to but without `end`, that meet an input, and not padding, at an offset in their window.
 * `end` is `first` where there is none.
 */
export function meeting(axis: Axis, offset: number): {first: number; end: number} {
  const {inputs, outputs, stride, pad} = axis;
  const first = Math.max(0, Math.ceil((pad - offset) / stride));
  const end = Math.min(outputs, Math.ceil((inputs + pad - offset) / stride));
  return {first, end: Math.max(first, end)};
}

/** The input that an output meets at an offset in its window. */
export function met(axis: Axis, output: number, offset: number): number {
  return output * axis.stride + offset - axis.pad;
}

/** Zeros before and after each axis of an image, as tfjs takes them. */
export type Pads = [[number, number], [number, number], [number, number], [number, number]];

/**
 * The padding with which a convolution of `dy` and the filter turned by 180° gives the gradient of the input.
 * Undefined where none does: at strides or dilations above 1, or padding that is wider than the filter.
 */
export function padsBack(
  info: Geometry & {
    filterHeight: number;
    filterWidth: number;
    dilationHeight: number;
    dilationWidth: number;
  },
): Pads | undefined {
  const {vertical, horizontal} = axesOf(info);
  const {filterHeight, filterWidth, dilationHeight, dilationWidth} = info;
  if (vertical.stride * horizontal.stride * dilationHeight * dilationWidth !== 1) return undefined;
  const around = ({inputs, outputs, pad}: Axis, filter: number): [number, number] => {
    const before = filter - 1 - pad;
    return [before, inputs - outputs - before + filter - 1];
  };
  const pads: Pads = [[0, 0], around(vertical, filterHeight), around(horizontal, filterWidth), [0, 0]];
  return pads.flat().every(pad => pad >= 0) ? pads : undefined;
}
