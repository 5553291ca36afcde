import type {io} from '@tensorflow/tfjs-core';
import {bytesPerNumber} from '../dtypes.js';
import {errorOf, oneLine, quote} from './untrusted.js';

/**
 * Throws unless `specs` are tensors that together take exactly `byteLength` bytes, so that nothing is made for a file
 * that is too short, too long or that claims sizes it does not hold. Strings have no length of their own: with one
 * among them only the others are counted.
 */
export function expectSpecs(where: string, specs: unknown, byteLength: number): asserts specs is Specs {
  const {bytes, isExact} = sizeOfSpecs(where, specs);
  if (bytes > byteLength || (isExact && bytes !== byteLength)) {
    throw errorOf(
      `${where}: its tensors take ${bytes} bytes, and there are ${byteLength}: it is cut off or damaged`,
    );
  }
}

/**
 * How many bytes tensors take, without the strings among them; `isExact` where there are none.
 *
 * @throws Error where these are no descriptions of tensors with names and shapes, of dtypes tfjs knows.
 */
export function sizeOfSpecs(where: string, specs: unknown): {bytes: number; isExact: boolean} {
  if (!Array.isArray(specs)) throw errorOf(`${where}: there is no list of tensors`);
  const names = new Set<string>();
  let total = 0;
  let isExact = true;
  for (const spec of specs as Partial<io.WeightsManifestEntry>[]) {
    const name = spec?.name;
    if (typeof name !== 'string') throw errorOf(`${where}: a tensor has no name`);
    if (names.has(name)) throw errorOf(`${where}: there are two tensors called ${quote(name)}`);
    names.add(name);
    const {shape, dtype} = spec;
    if (!Array.isArray(shape) || !shape.every(axis => Number.isSafeInteger(axis) && axis >= 0)) {
      throw errorOf(
        `${where}: ${quote(name)} has the shape ${oneLine(JSON.stringify(shape) ?? 'undefined')}`,
      );
    }
    const type = spec.quantization?.dtype ?? dtype ?? '';
    if (type === 'string') isExact = false;
    else {
      const bytes = bytesPerNumber(type);
      if (!bytes)
        throw errorOf(
          `${where}: ${quote(name)} is of ${oneLine(JSON.stringify(type))}, which tfjs does not know`,
        );
      total += shape.reduce((product, axis) => product * axis, bytes);
    }
  }
  return {bytes: total, isExact};
}

export type Specs = io.WeightsManifestEntry[];

/**
 * Weight data as one piece.
 *
 * @throws Where a store gave something back that is neither a buffer nor a list of buffers.
 */
export function weightBytes(where: string, data: unknown): Uint8Array<ArrayBuffer> {
  const parts = (data === undefined ? [] : Array.isArray(data) ? (data as unknown[]) : [data]).map(part => {
    if (part instanceof ArrayBuffer) return new Uint8Array(part);
    if (ArrayBuffer.isView(part)) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    // A buffer of another realm (an iframe, a test runner's sandbox) is no instance of ours.
    if (Object.prototype.toString.call(part) === '[object ArrayBuffer]')
      return new Uint8Array(part as ArrayBuffer);
    throw errorOf(`${where}: its weightData is no ArrayBuffer and no list of them`);
  });
  if (parts.length === 1 && parts[0]!.buffer instanceof ArrayBuffer && isWhole(parts[0]!)) {
    return parts[0] as Uint8Array<ArrayBuffer>;
  }
  const whole = new Uint8Array(parts.reduce((sum, {length}) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Whether these bytes are all of their buffer. */
const isWhole = ({buffer, length}: Uint8Array) => buffer.byteLength === length;
