/**
 * Gradients of a convolution from the fast matrix product and the fast convolution of the wasm backend.
 * Images are [batch, height, width, channels], filters [height, width, inChannels, outChannels].
 */
import {
  Conv2DBackpropFilter,
  type Conv2DBackpropFilterAttrs,
  Conv2DBackpropInput,
  type Conv2DBackpropInputAttrs,
  type KernelFunc,
  type Tensor4D,
  type TensorInfo,
  backend_util,
  conv2d,
  reverse,
  tidy,
  transpose,
  util,
} from '@tensorflow/tfjs-core';
import {type WasmBackend, floats, kernel, requireFloat32, withView} from './backend.js';
import {plain, productOf} from './product.js';
import {installer} from './register.js';
import {type Pads, axesOf, meeting, met, padsBack} from './window.js';

type Info = backend_util.Conv2DInfo;

/** What the attributes of both gradients say of the convolution. */
interface ConvAttrs {
  strides: [number, number] | number;
  pad: Conv2DBackpropFilterAttrs['pad'];
  dataFormat: 'NHWC' | 'NCHW';
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** @throws Error for channels before height, which the wasm backend convolves nowhere */
function infoOf(what: string, inShape: number[], filterShape: number[], attrs: ConvAttrs): Info {
  if (attrs.dataFormat === 'NCHW') throw new Error(`${what} on the wasm backend takes NHWC, got NCHW`);
  return backend_util.computeConv2DInfo(
    inShape as [number, number, number, number],
    filterShape as [number, number, number, number],
    attrs.strides,
    1,
    attrs.pad,
    attrs.dimRoundingMode,
  );
}

/**
 * Writes what the places of one filter row meet, as a matrix [filterWidth * inChannels, batch * outHeight * outWidth].
 * Row (column of the filter, channel), column (image, output place); zero where they meet padding.
 */
function gatherRow(info: Info, filterRow: number, x: Float32Array, patches: Float32Array): void {
  const {vertical, horizontal} = axesOf(info);
  const {batchSize, inHeight, inWidth, inChannels, outHeight, outWidth, filterWidth} = info;
  const places = batchSize * outHeight * outWidth;
  const rows = meeting(vertical, filterRow);
  const step = horizontal.stride * inChannels;
  patches.fill(0);
  for (let column = 0; column < filterWidth; column++) {
    const columns = meeting(horizontal, column);
    const run = columns.end - columns.first;
    const firstX = met(horizontal, columns.first, column);
    for (let image = 0; image < batchSize; image++) {
      for (let row = rows.first; row < rows.end; row++) {
        const from = ((image * inHeight + met(vertical, row, filterRow)) * inWidth + firstX) * inChannels;
        const to = (image * outHeight + row) * outWidth + columns.first + column * inChannels * places;
        for (let channel = 0; channel < inChannels; channel++) {
          const source = from + channel;
          const target = to + channel * places;
          for (let i = 0; i < run; i++) patches[target + i] = x[source + i * step]!;
        }
      }
    }
  }
}

/**
 * The gradient of the filter: for every filter row one product of what its places meet with `dy`,
 * [filterWidth * inChannels, places] [places, outChannels]. `dy` is packed once for all of them.
 * Needs filterWidth times the size of `x` (at stride 1) for the time of the call.
 */
function filterGradient(backend: WasmBackend, x: TensorInfo, dy: TensorInfo, info: Info): TensorInfo {
  requireFloat32('conv2dBackpropFilter', x, dy);
  const {batchSize, inChannels, outChannels, outHeight, outWidth, filterHeight, filterWidth} = info;
  const places = batchSize * outHeight * outWidth;
  const rows = filterWidth * inChannels;
  const out = backend.makeOutput(info.filterShape, 'float32');
  if (places === 0 || util.sizeFromShape(out.shape) === 0) {
    floats(backend, out).fill(0);
    return out;
  }
  const patches = backend.makeOutput([rows, places], 'float32');
  const left = {id: backend.dataIdMap.get(patches.dataId).id, rows, columns: places};
  try {
    withView(backend, dy, 0, places * outChannels, dyId => {
      for (let row = 0; row < filterHeight; row++) {
        gatherRow(info, row, floats(backend, x), floats(backend, patches));
        withView(backend, out, row, rows * outChannels, outId =>
          productOf(backend)(left, {id: dyId, rows: places, columns: outChannels}, outId, plain),
        );
      }
    });
  } finally {
    backend.disposeData(patches.dataId);
  }
  return out;
}

/** The gradient of the input at stride 1: `dy` convolved with the filter turned by 180°, channels swapped. */
function inputGradient(dy: Tensor4D, filter: Tensor4D, pads: Pads): TensorInfo {
  return tidy(() => {
    const turned = transpose(reverse(filter, [0, 1]), [0, 1, 3, 2]);
    return conv2d(dy, turned, 1, pads);
  });
}

const backpropInput = (stock: KernelFunc | undefined) =>
  kernel<{dy: TensorInfo; filter: TensorInfo}, Conv2DBackpropInputAttrs>(call => {
    const {dy, filter} = call.inputs;
    requireFloat32('conv2dBackpropInput', dy, filter);
    const attrs = call.attrs as ConvAttrs;
    const info = infoOf('conv2dBackpropInput', call.attrs.inputShape, filter.shape, attrs);
    const pads = padsBack(info);
    if (pads !== undefined) return inputGradient(dy as Tensor4D, filter as Tensor4D, pads);
    return stock!(call as unknown as Parameters<KernelFunc>[0]) as TensorInfo;
  });

/** Installs the gradients of conv2d: the filter's, which the wasm backend lacks, and the input's at stride 1. */
export const installConv2d = installer({
  [Conv2DBackpropFilter]: () =>
    kernel<{x: TensorInfo; dy: TensorInfo}, Conv2DBackpropFilterAttrs>(({inputs: {x, dy}, attrs, backend}) =>
      filterGradient(
        backend,
        x,
        dy,
        infoOf('conv2dBackpropFilter', x.shape, attrs.filterShape, attrs as ConvAttrs),
      ),
    ),
  [Conv2DBackpropInput]: backpropInput,
});
