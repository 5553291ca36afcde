/** Files for the tests: models, tables, PNG images. */
import {mkdirSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {deflateSync} from 'node:zlib';
import * as tf from '@tensorflow/tfjs';
import {saveModel} from '../../../src/cli/files.js';

export function write(path: string, content: string | Uint8Array): string {
  mkdirSync(dirname(path), {recursive: true});
  writeFileSync(path, content);
  return path;
}

interface PngOptions {
  width: number;
  height: number;
  depth?: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. */
  colour?: number;
  /** The packed bytes of a row. */
  row: (y: number) => number[];
  /** The filter of each row. */
  filter?: (y: number) => number;
  palette?: number[];
  alphas?: number[];
  interlace?: number;
}

/** A PNG, with true filters; the sums of its pieces are left at zero, which our decoder does not look at. */
export function png(options: PngOptions): Uint8Array {
  const {
    width,
    height,
    depth = 8,
    colour = 0,
    row,
    filter = () => 0,
    palette,
    alphas,
    interlace = 0,
  } = options;
  const samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]!;
  const step = Math.max(1, (samples * depth) / 8);
  const rows = Array.from({length: height}, (_, y) => row(y));
  const data = rows.flatMap((bytes, y) => {
    const kind = filter(y);
    const filtered = bytes.map((byte, i) => {
      const left = bytes[i - step] ?? 0;
      const up = rows[y - 1]?.[i] ?? 0;
      const corner = rows[y - 1]?.[i - step] ?? 0;
      const guess = left + up - corner;
      const [nearest] = [left, up, corner].sort((a, b) => Math.abs(guess - a) - Math.abs(guess - b));
      return (byte - [0, left, up, Math.floor((left + up) / 2), nearest!][kind]!) & 255;
    });
    return [kind, ...filtered];
  });
  const number = (n: number) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
  const piece = (type: string, content: ArrayLike<number>) => [
    ...number(content.length),
    ...Buffer.from(type, 'latin1'),
    ...Array.from(content),
    ...number(0),
  ];
  return Uint8Array.from([
    ...[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
    ...piece('IHDR', [...number(width), ...number(height), depth, colour, 0, 0, interlace]),
    ...(palette ? piece('PLTE', palette) : []),
    ...(alphas ? piece('tRNS', alphas) : []),
    ...piece('IDAT', deflateSync(Uint8Array.from(data))),
    ...piece('IEND', []),
  ]);
}

/** A grey PNG of one shade, or by a function of the place. */
export const grey = (width: number, height: number, shade: (x: number, y: number) => number) =>
  png({width, height, row: y => Array.from({length: width}, (_, x) => shade(x, y))});

/** Layers, saved as a model in a folder; a seed that begins anew for each. */
export async function modelIn(folder: string, layers: tf.layers.Layer[]): Promise<string> {
  const model = tf.sequential({layers});
  await saveModel(model, folder);
  model.dispose();
  return folder;
}

/** Ten dark and ten light pictures of 4 x 4 in a folder of two classes, and a model for them in another. */
export async function photosAndModel(photos: string, model: string): Promise<void> {
  await modelIn(model, [
    tf.layers.flatten({inputShape: [4, 4, 1]}),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(1)}),
  ]);
  for (let i = 0; i < 20; i++) {
    write(
      join(photos, i % 2 ? 'dark' : 'light', `${i}.png`),
      grey(4, 4, (x, y) => (i % 2 ? 10 : 200) + x * y + i),
    );
  }
}

export const init = (seed: number) => tf.initializers.glorotUniform({seed});

/** Columns in, `units` out. */
export const dense = (
  folder: string,
  inputs: number,
  units: number,
  activation: 'softmax' | 'sigmoid' | 'linear' | 'tanh',
) =>
  modelIn(folder, [
    tf.layers.dense({units: 12, inputShape: [inputs], activation: 'tanh', kernelInitializer: init(1)}),
    tf.layers.dense({units: 12, activation: 'tanh', kernelInitializer: init(2)}),
    tf.layers.dense({units, activation, kernelInitializer: init(3)}),
  ]);

/** Rows of a table whose last column is a label. */
export function csv(
  size: number,
  row: (i: number) => (string | number)[],
  columns = ['a', 'b', 'label'],
): string {
  return (
    [columns, ...Array.from({length: size}, (_, i) => row(i))].map(cells => cells.join(',')).join('\n') + '\n'
  );
}

/** Points in the plane in two clouds, `no` and `yes`. */
export const clouds = (size: number) =>
  csv(size, i => {
    const side = i % 2 === 0 ? -1 : 1;
    return [side + Math.sin(7 * i) / 2, -side + Math.cos(5 * i) / 2, side < 0 ? 'no' : 'yes'];
  });
