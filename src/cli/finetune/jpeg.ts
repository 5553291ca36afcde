import {UsageError} from '../usage-error.js';
import {mostPixels, type Picture} from './picture.js';

/** What of `jpeg-js` is used. */
export interface JpegReader {
  decode(file: Uint8Array, options: object): {width: number; height: number; data: Uint8Array};
}

/** @throws UsageError where it is not installed */
export async function loadJpegReader(name = 'jpeg-js'): Promise<JpegReader> {
  try {
    const module = (await import(name)) as JpegReader & {default?: JpegReader};
    return module.default ?? module;
  } catch (error) {
    if (
      (error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND' &&
      !/cannot find|could not resolve|failed to load/i.test(String(error))
    )
      throw error;
    throw new UsageError(
      `JPEG images are read by ${name}, which is not installed: npm install ${name}, or save them as PNG`,
    );
  }
}

/** Decodes a JPEG as RGB. */
export function decodeJpeg(file: Uint8Array, reader: JpegReader): Picture {
  const options = {useTArray: true, formatAsRGBA: false, maxResolutionInMP: mostPixels / 1e6};
  const {width, height, data} = reader.decode(file, options);
  return {width, height, channels: 3, bytes: data};
}
