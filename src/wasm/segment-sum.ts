import {type TensorInfo, UnsortedSegmentSum, type UnsortedSegmentSumAttrs, util} from '@tensorflow/tfjs-core';
import {type WasmBackend, kernel} from './backend.js';
import {installer} from './register.js';

/**
 * Sums of rows by segment, the gradient of every gather and embedding: out[s] = sum of x[i] over segmentIds[i] = s.
 * `segmentIds` has the leading axes of `x`; rows with an id outside 0 … numSegments − 1 are left out.
 */
function segmentSum(
  backend: WasmBackend,
  x: TensorInfo,
  segmentIds: TensorInfo,
  segments: number,
): TensorInfo {
  if (x.dtype !== 'float32' && x.dtype !== 'int32') {
    throw new Error(`unsortedSegmentSum on the wasm backend takes float32 or int32, got ${x.dtype}`);
  }
  const axes = segmentIds.shape.length;
  if (!util.arraysEqual(x.shape.slice(0, axes), segmentIds.shape)) {
    throw new Error(
      `unsortedSegmentSum: segment ids of shape [${segmentIds.shape}] do not fit x of shape [${x.shape}]`,
    );
  }
  const rowShape = x.shape.slice(axes);
  const width = util.sizeFromShape(rowShape);
  const out = backend.makeOutput([segments, ...rowShape], x.dtype);
  const sums = backend.typedArrayFromHeap(out).fill(0);
  const rows = backend.typedArrayFromHeap(x);
  const ids = backend.typedArrayFromHeap(segmentIds);
  ids.forEach((id: number, row: number) => {
    if (id < 0 || id >= segments) return;
    const from = row * width;
    const to = id * width;
    for (let i = 0; i < width; i++) sums[to + i]! += rows[from + i]!;
  });
  return out;
}

/** Installs UnsortedSegmentSum, which the wasm backend lacks; see {@link installer}. */
export const installSegmentSum = installer({
  [UnsortedSegmentSum]: () =>
    kernel<{x: TensorInfo; segmentIds: TensorInfo}, UnsortedSegmentSumAttrs>(({inputs, attrs, backend}) =>
      segmentSum(backend, inputs.x, inputs.segmentIds, attrs.numSegments),
    ),
});
