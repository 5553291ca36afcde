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

/** Memory that the reader may take for an image, in MB: its own limit of 512 is below a large photograph. */
const mostMemory = 4096;

/**
 * Decodes a JPEG as RGB.
 * @throws Error that says what is wrong
 */
export function decodeJpeg(file: Uint8Array, reader: JpegReader): Picture {
  const limits = {maxResolutionInMP: mostPixels / 1e6, maxMemoryUsageInMB: mostMemory};
  const options = {useTArray: true, formatAsRGBA: false, ...limits};
  try {
    const {width, height, data} = reader.decode(file, options);
    return {width, height, channels: 3, bytes: data};
  } catch (error) {
    const {message} = error as Error;
    if (/limit exceeded/.test(message)) {
      throw new Error(`has more than ${Math.floor(mostPixels / 1e6)} million pixels: make it smaller`);
    }
    // A TypeError is the reader's own surprise, which tells people nothing.
    const why = error instanceof TypeError ? '' : ` (${message})`;
    throw new Error(`is a JPEG that cannot be read${why}: the file is damaged or ends in the middle`);
  }
}
