/**
 * Gradients of a depthwise convolution: loops over the heap and, where it fits, the fast convolution itself. Images are [batch, height, width, channels],
 * filters [height, width, channels, multiplier]; output channel = channel * multiplier + which of its filters.
 */
import {
  DepthwiseConv2dNativeBackpropFilter,
  type DepthwiseConv2dNativeBackpropFilterAttrs,
  DepthwiseConv2dNativeBackpropInput,
  type DepthwiseConv2dNativeBackpropInputAttrs,
  type Tensor4D,
  type TensorInfo,
  backend_util,
  depthwiseConv2d,
  reverse,
  tidy,
} from '@tensorflow/tfjs-core';
import {type WasmBackend, floats, kernel, requireFloat32} from './backend.js';
import {installer} from './register.js';
import {type Pads, axesOf, meeting, met, padsBack} from './window.js';

type Info = backend_util.Conv2DInfo;

function infoOf(
  inShape: number[],
  filterShape: number[],
  attrs: Omit<DepthwiseConv2dNativeBackpropFilterAttrs, 'filterShape'>,
): Info {
  return backend_util.computeConv2DInfo(
    inShape as [number, number, number, number],
    filterShape as [number, number, number, number],
    attrs.strides,
    attrs.dilations,
    attrs.pad,
    attrs.dimRoundingMode,
    true,
  );
}

type Visit = (tap: number, x: number, dy: number) => void;

/** Calls `visit` for every filter place and output place that meets an input there, with where each one starts. */
function forEachMeeting(info: Info, visit: Visit): void {
  const {vertical, horizontal} = axesOf(info);
  const {batchSize, inHeight, inWidth, inChannels, outHeight, outWidth, outChannels} = info;
  for (let i = 0; i < info.filterHeight; i++) {
    const down = i * info.dilationHeight;
    const rows = meeting(vertical, down);
    for (let j = 0; j < info.filterWidth; j++) {
      const right = j * info.dilationWidth;
      const columns = meeting(horizontal, right);
      const tap = (i * info.filterWidth + j) * outChannels;
      for (let image = 0; image < batchSize; image++) {
        for (let row = rows.first; row < rows.end; row++) {
          const xRow = (image * inHeight + met(vertical, row, down)) * inWidth;
          const dyRow = (image * outHeight + row) * outWidth;
          for (let column = columns.first; column < columns.end; column++) {
            const x = (xRow + met(horizontal, column, right)) * inChannels;
            visit(tap, x, (dyRow + column) * outChannels);
          }
        }
      }
    }
  }
}

function filterGradient(backend: WasmBackend, x: TensorInfo, dy: TensorInfo, info: Info): TensorInfo {
  requireFloat32('depthwiseConv2dNativeBackpropFilter', x, dy);
  const {inChannels, outChannels} = info;
  const multiplier = outChannels / inChannels;
  const out = backend.makeOutput(info.filterShape, 'float32');
  const xs = floats(backend, x);
  const dys = floats(backend, dy);
  // A filter place sums over all images and places: in float64, so that the order costs no digits.
  const sums = new Float64Array(info.filterHeight * info.filterWidth * outChannels);
  const visitOne: Visit = (tap, xAt, dyAt) => {
    for (let i = 0; i < inChannels; i++) sums[tap + i]! += xs[xAt + i]! * dys[dyAt + i]!;
  };
  const visitMany: Visit = (tap, xAt, dyAt) => {
    for (let channel = 0; channel < inChannels; channel++) {
      const value = xs[xAt + channel]!;
      const first = channel * multiplier;
      for (let o = first; o < first + multiplier; o++) sums[tap + o]! += value * dys[dyAt + o]!;
    }
  };
  forEachMeeting(info, multiplier === 1 ? visitOne : visitMany);
  floats(backend, out).set(sums);
  return out;
}

function inputGradient(backend: WasmBackend, dy: TensorInfo, filter: TensorInfo, info: Info): TensorInfo {
  const {inChannels, outChannels} = info;
  const multiplier = outChannels / inChannels;
  const out = backend.makeOutput(info.inShape, 'float32');
  const dx = floats(backend, out).fill(0);
  const dys = floats(backend, dy);
  const weights = floats(backend, filter);
  const visitOne: Visit = (tap, xAt, dyAt) => {
    for (let i = 0; i < inChannels; i++) dx[xAt + i]! += weights[tap + i]! * dys[dyAt + i]!;
  };
  const visitMany: Visit = (tap, xAt, dyAt) => {
    for (let channel = 0; channel < inChannels; channel++) {
      const first = channel * multiplier;
      let sum = 0;
      for (let o = first; o < first + multiplier; o++) sum += weights[tap + o]! * dys[dyAt + o]!;
      dx[xAt + channel]! += sum;
    }
  };
  forEachMeeting(info, multiplier === 1 ? visitOne : visitMany);
  return out;
}

/** The gradient of the input where `padsBack` has pads and each channel one filter: `dy` convolved, the filter turned. */
function turnedGradient(dy: Tensor4D, filter: Tensor4D, pads: Pads): TensorInfo {
  return tidy(() => depthwiseConv2d(dy, reverse(filter, [0, 1]), 1, pads));
}

/** Installs the gradients of depthwiseConv2d, which the wasm backend lacks; see {@link installer}. */
export const installDepthwise = installer({
  [DepthwiseConv2dNativeBackpropFilter]: () =>
    kernel<{x: TensorInfo; dy: TensorInfo}, DepthwiseConv2dNativeBackpropFilterAttrs>(
      ({inputs: {x, dy}, attrs, backend}) =>
        filterGradient(backend, x, dy, infoOf(x.shape, attrs.filterShape, attrs)),
    ),
  [DepthwiseConv2dNativeBackpropInput]: () =>
    kernel<{dy: TensorInfo; filter: TensorInfo}, DepthwiseConv2dNativeBackpropInputAttrs>(
      ({inputs: {dy, filter}, attrs, backend}) => {
        requireFloat32('depthwiseConv2dNativeBackpropInput', dy, filter);
        const info = infoOf(attrs.inputShape, filter.shape, attrs);
        const pads = filter.shape[3] === 1 ? padsBack(info) : undefined;
        if (pads !== undefined) return turnedGradient(dy as Tensor4D, filter as Tensor4D, pads);
        return inputGradient(backend, dy, filter, info);
      },
    ),
});
