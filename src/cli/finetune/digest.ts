import {createHash} from 'node:crypto';

/** SHA-256 in hexadecimal digits of texts and bytes, one after the other; each part is told from the next. */
export function digestOf(parts: Iterable<string | ArrayBufferView>): string {
  const hash = createHash('sha256');
  for (const part of parts) {
    const bytes =
      typeof part === 'string'
        ? Buffer.from(part)
        : new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    hash.update(`${bytes.length}:`);
    // A hash takes less than 2 GiB at once.
    for (let from = 0; from < bytes.length; from += 2 ** 30)
      hash.update(bytes.subarray(from, from + 2 ** 30));
  }
  return hash.digest('hex');
}
