import {existsSync, readFileSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import {gunzipSync} from 'node:zlib';
import {UsageError} from '../usage-error.js';
import type {Pictures} from './pictures.js';

/** Whether a path is named as the files of MNIST are. */
export const isIdx = (path: string): boolean => /idx3-ubyte(\.gz)?$/.test(path);

/**
 * Images in the form of MNIST: bytes behind a short header, packed or not. The labels lie beside them, in the file that
 * has `labels` and `idx1` in its name where this one has `images` and `idx3`.
 *
 * @throws UsageError for a file that is missing or damaged
 */
export function readIdx(path: string): Pictures {
  const labelPath = join(dirname(path), basename(path).replace('images', 'labels').replace('idx3', 'idx1'));
  if (!existsSync(labelPath)) throw new UsageError(`no labels for ${path}: ${labelPath} is missing`);
  const [images, labels] = [unpack(path, 3), unpack(labelPath, 1)];
  const [size, height, width] = images.shape as [number, number, number];
  if (size === 0) throw new UsageError(`${path} has no images`);
  if (labels.shape[0] !== size)
    throw new UsageError(`${path} has ${size} images, and ${labelPath} ${labels.shape[0]} labels`);
  return {
    name: basename(path),
    size,
    notes: [],
    labelled: basename(labelPath),
    labels: Array.from(labels.bytes, String),
    where: i => `${basename(path)}: image ${i + 1}`,
    read: async i => {
      const pixels = width * height;
      return {width, height, channels: 1, bytes: images.bytes.subarray(i * pixels, (i + 1) * pixels)};
    },
  };
}

function unpack(path: string, axes: number): {shape: number[]; bytes: Uint8Array} {
  const damaged = (why: string) =>
    new UsageError(`${path} is no idx file of bytes with ${axes} axes: ${why}`);
  let file: Uint8Array = readFileSync(path);
  try {
    if (file[0] === 0x1f && file[1] === 0x8b) file = gunzipSync(file);
  } catch {
    throw damaged('it cannot be unpacked');
  }
  const start = 4 + 4 * axes;
  if (file.length < start || file[0] !== 0 || file[1] !== 0 || file[2] !== 8 || file[3] !== axes)
    throw damaged('it begins otherwise');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const shape = Array.from({length: axes}, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (file.length - start !== size)
    throw damaged(`it holds ${file.length - start} bytes, and should ${size}`);
  return {shape, bytes: file.subarray(start)};
}
