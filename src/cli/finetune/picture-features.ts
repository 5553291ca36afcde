/** Images as the input of a model. */
import {setImmediate} from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs';
import {UsageError} from '../usage-error.js';
import {type Picture, withChannels} from './picture.js';
import type {Pictures} from './pictures.js';

/** What a model gets of a byte: `times * byte + plus`. */
export const scales: Readonly<Record<string, {times: number; plus: number}>> = {
  '0..1': {times: 1 / 255, plus: 0},
  '-1..1': {times: 2 / 255, plus: -1},
  '0..255': {times: 1, plus: 0},
};

/** Bytes that all images together may take. */
const mostBytes = 2 ** 31;

export interface PictureFeatures {
  readonly shape: readonly [height: number, width: number, channels: number];
  readonly values: Uint8Array;
}

/**
 * Decodes all images, in the channels and the size of the model; resized (bilinear, rounded to whole bytes) only where
 * that is asked for. A model that takes any size takes that of the first image.
 *
 * @throws UsageError that names the image
 */
export async function pictureFeatures(
  pictures: Pictures,
  input: readonly (number | null)[],
  resize: boolean,
): Promise<PictureFeatures> {
  const takes = `the model takes ${input.map(axis => axis ?? 'any').join(' x ')}`;
  if (input.length !== 3 || input[2] === null) {
    throw new UsageError(`${takes} numbers for an example, and not images (height x width x channels)`);
  }
  const channels = input[2]!;
  let shape: [number, number, number] | undefined;
  let values = new Uint8Array();
  for (let i = 0; i < pictures.size; i++) {
    const picture = await pictureOf(pictures, i, input);
    if (!shape) {
      shape = [input[0] ?? picture.height, input[1] ?? picture.width, channels];
      const bytes = pictures.size * shape[0] * shape[1] * channels;
      if (bytes > mostBytes) {
        throw new UsageError(
          `${pictures.size} images of ${shape.join(' x ')} take ${(bytes / 1e9).toFixed(1)} GB, and all must fit into ` +
            `${(mostBytes / 1e9).toFixed(1)} GB: give fewer`,
        );
      }
      values = new Uint8Array(bytes);
    }
    const [height, width] = shape;
    const isOfSize = picture.height === height && picture.width === width;
    if (!isOfSize && !resize) {
      const wanted = input[0] === null || input[1] === null ? 'the first image is' : 'the model takes';
      throw new UsageError(
        `${pictures.where(i)} is ${picture.width} x ${picture.height} pixels, and ${wanted} ${width} x ${height}: ` +
          'add --resize',
      );
    }
    values.set(isOfSize ? picture.bytes : resized(picture, height, width), i * height * width * channels);
    // Lets signals be seen.
    if (i % 64 === 0) await setImmediate();
  }
  return {shape: shape!, values};
}

/** The picture in the channels of the model; what is wrong with the file becomes a line that names it. */
async function pictureOf(pictures: Pictures, i: number, input: readonly (number | null)[]): Promise<Picture> {
  const where = pictures.where(i);
  const picture = await pictures.read(i).catch((error: Error) => {
    throw error instanceof UsageError ? error : new UsageError(`${where} ${error.message}`);
  });
  try {
    return withChannels(picture, input[2]!);
  } catch (error) {
    const [height, width, channels] = input;
    const size = height === null || width === null ? 'any size' : `${width} x ${height} pixels`;
    const colours = channels === 1 ? ', grey' : channels === 3 ? ', RGB' : '';
    throw new UsageError(`${where} ${(error as Error).message}; the model takes images of ${size}${colours}`);
  }
}

function resized({width, height, channels, bytes}: Picture, newHeight: number, newWidth: number): Uint8Array {
  const values = tf.tidy(() => {
    const image = tf.tensor3d(Float32Array.from(bytes), [height, width, channels]);
    return tf.image.resizeBilinear(image, [newHeight, newWidth], false, true).dataSync();
  });
  return Uint8Array.from(values, value => Math.min(255, Math.max(0, Math.round(value))));
}
