import type {Tensor4D} from '@tensorflow/tfjs-core';
import {pad, slice} from '@tensorflow/tfjs-core';

/**
 * Images `[batch, height, width, channels]` in a window of the size given, their corner at (top, left), which may lie
 * outside: zeros where they do not reach, cut where they reach beyond.
 */
export function fitted(x: Tensor4D, top: number, height: number, left: number, width: number): Tensor4D {
  const [batch, h, w, channels] = x.shape;
  const [firstRow, firstColumn] = [Math.max(0, -top), Math.max(0, -left)];
  const rows = Math.min(h - firstRow, height - Math.max(0, top));
  const columns = Math.min(w - firstColumn, width - Math.max(0, left));
  const cut =
    rows < h || columns < w ? slice(x, [0, firstRow, firstColumn, 0], [batch, rows, columns, channels]) : x;
  if (rows === height && columns === width) return cut;
  const [above, before] = [Math.max(0, top), Math.max(0, left)];
  return pad(cut, [
    [0, 0],
    [above, height - above - rows],
    [before, width - before - columns],
    [0, 0],
  ]);
}
