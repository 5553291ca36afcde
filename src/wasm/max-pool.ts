import {MaxPoolGrad, type MaxPoolGradAttrs, type TensorInfo, backend_util} from '@tensorflow/tfjs-core';
import {type WasmBackend, floats, kernel, requireFloat32} from './backend.js';
import {installer} from './register.js';
import {axesOf, met} from './window.js';

/**
 * The gradient of max pooling: each `dy` goes to the largest input of its window, the first one of equals.
 * Inputs are [batch, height, width, channels]. Padding is never the largest, whatever the sign of the inputs.
 */
function maxPoolGradient(
  backend: WasmBackend,
  dy: TensorInfo,
  input: TensorInfo,
  info: backend_util.Conv2DInfo,
): TensorInfo {
  requireFloat32('maxPoolGrad', dy, input);
  const {vertical, horizontal} = axesOf(info);
  const {batchSize, inHeight, inWidth, inChannels, outHeight, outWidth, filterHeight, filterWidth} = info;
  const out = backend.makeOutput(input.shape, 'float32');
  const dx = floats(backend, out).fill(0);
  const xs = floats(backend, input);
  const dys = floats(backend, dy);
  let at = 0;
  for (let image = 0; image < batchSize; image++) {
    for (let row = 0; row < outHeight; row++) {
      const top = met(vertical, row, 0);
      const bottom = Math.min(inHeight, top + filterHeight);
      for (let column = 0; column < outWidth; column++) {
        const left = met(horizontal, column, 0);
        const right = Math.min(inWidth, left + filterWidth);
        for (let channel = 0; channel < inChannels; channel++, at++) {
          let largest = -Infinity;
          let where = -1;
          for (let y = Math.max(0, top); y < bottom; y++) {
            for (let x = Math.max(0, left); x < right; x++) {
              const place = ((image * inHeight + y) * inWidth + x) * inChannels + channel;
              if (xs[place]! > largest) {
                largest = xs[place]!;
                where = place;
              }
            }
          }
          if (where >= 0) dx[where]! += dys[at]!;
        }
      }
    }
  }
  return out;
}

/** Installs MaxPoolGrad; the wasm backend's own is wrong for a window without a positive value. */
export const installMaxPool = installer({
  [MaxPoolGrad]: () =>
    kernel<{dy: TensorInfo; input: TensorInfo}, MaxPoolGradAttrs>(({inputs: {dy, input}, attrs, backend}) => {
      const shape = input.shape as [number, number, number, number];
      const {filterSize, strides, pad, dimRoundingMode} = attrs;
      const info = backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
      return maxPoolGradient(backend, dy, input, info);
    }),
});
