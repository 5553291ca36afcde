import type {io} from '@tensorflow/tfjs-core';
import {sizeOfSpecs, weightBytes} from './specs.js';
import {errorOf} from './untrusted.js';

/**
 * Artifacts with their `weightData`: where a handler gives only `getWeightStream` (`tf.io.http` with `streamWeights: true`),
 * the stream is read to its end.
 *
 * What is held is what has come, and its copy in one piece; a stream that goes on after the last byte of `weightSpecs`
 * is ended there, so no more is held than that, however long it is.
 *
 * @throws Error where it is longer than the specs say, and where it breaks off with an error of its own. One that is too
 *     short is left to whoever looks at the specs.
 */
export async function withWeightData(
  where: string,
  artifacts: io.ModelArtifacts,
): Promise<io.ModelArtifacts> {
  if (typeof artifacts?.getWeightStream !== 'function' || artifacts.weightData !== undefined)
    return artifacts;
  const {getWeightStream, ...rest} = artifacts;
  const {bytes: most, isExact} = sizeOfSpecs(where, artifacts.weightSpecs);
  const stream = getWeightStream.call(artifacts) as ReadableStream<unknown> | null | undefined;
  if (typeof stream?.getReader !== 'function')
    throw errorOf(`${where}: its getWeightStream gives no ReadableStream`);
  const reader = stream.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      const part = weightBytes(where, value);
      parts.push(part);
      length += part.length;
      if (isExact && length > most) {
        throw errorOf(`${where}: its tensors take ${most} bytes, and the stream of weights has more`);
      }
    }
  } catch (error) {
    // Whether it can be ended or not, this is what went wrong.
    void reader.cancel(error).catch(() => {});
    throw error;
  }
  return {...rest, weightData: weightBytes(where, parts).buffer};
}
