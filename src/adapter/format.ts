import type {Adapter} from './adapter.js';
import {expectAdapter, expectBytes} from './expect.js';
import {known} from './known.js';
import {fromParts, type Parts, toParts} from './parts.js';
import {decodeSafetensors, encodeSafetensors} from './safetensors.js';
import {oneLine} from './untrusted.js';

/**
 * An adapter as one safetensors file, the native format: see `Parts` for what it holds. Equal adapters give equal bytes.
 *
 * @throws When it could not be read again: a parametrization that no recipe made, a number that is NaN, factors that do
 *     not make their weight. One line, with the weight and the part.
 */
export function encodeAdapter(adapter: Adapter): Uint8Array {
  expectAdapter('encodeAdapter', adapter);
  return encodeSafetensors(toParts(adapter));
}

/**
 * The adapter that `encodeAdapter` wrote, bit for bit; of a file that is anything else nothing at all. No tensor stays,
 * and no more memory is used than the file is long, besides what a weight of 2^24 numbers takes.
 *
 * @throws One line that says what is wrong, with which weight, in which part of the file.
 */
export function decodeAdapter(bytes: Uint8Array): Adapter {
  return fromParts(opened(bytes), known);
}

function opened(bytes: Uint8Array): Parts {
  expectBytes('decodeAdapter', bytes);
  try {
    return decodeSafetensors(bytes);
  } catch (error) {
    // Names of the file stand in it, however long they are.
    throw new Error(oneLine((error as Error).message), {cause: error});
  }
}
