import {several} from '../table.js';

/** A decoded image: rows from the top, channels last, a byte each. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. */
  readonly channels: number;
  readonly bytes: Uint8Array;
}

/** Images with more pixels are refused, before memory is taken for them. */
export const mostPixels = 2 ** 26;

/**
 * The picture with as many channels as a model takes: grey is the weighted sum 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601),
 * RGB of a grey picture is three times the same. An alpha channel is left away where all of it is opaque.
 *
 * @throws Error where that is ambiguous
 */
export function withChannels({width, height, channels, bytes}: Picture, wanted: number): Picture {
  if (channels === wanted) return {width, height, channels, bytes};
  if (![1, 3].includes(wanted))
    throw new Error(`has ${several(channels, 'channel')}, and the model takes ${wanted}`);
  const pixels = width * height;
  const hasAlpha = channels === 2 || channels === 4;
  for (let i = 0; hasAlpha && i < pixels; i++) {
    if (bytes[(i + 1) * channels - 1] !== 255)
      throw new Error('is transparent in places: lay it on a background first');
  }
  const isGrey = channels < 3;
  const made = new Uint8Array(pixels * wanted);
  for (let i = 0; i < pixels; i++) {
    const [r, g, b] = isGrey
      ? [bytes[i * channels]!, bytes[i * channels]!, bytes[i * channels]!]
      : [bytes[i * channels]!, bytes[i * channels + 1]!, bytes[i * channels + 2]!];
    if (wanted === 3) made.set([r, g, b], 3 * i);
    else made[i] = isGrey ? r : Math.round(0.299 * r + 0.587 * g + 0.114 * b);
  }
  return {width, height, channels: wanted, bytes: made};
}
