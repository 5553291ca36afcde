/** What a file holds, by its first bytes: its name may say something else. */

const text = (bytes: Uint8Array, from: number, to: number) =>
  String.fromCharCode(...bytes.subarray(from, to));

const kinds: readonly [kind: string, isIt: (bytes: Uint8Array) => boolean][] = [
  ['PNG', bytes => text(bytes, 0, 4) === '\x89PNG'],
  ['JPEG', bytes => text(bytes, 0, 3) === '\xff\xd8\xff'],
  ['GIF', bytes => text(bytes, 0, 4) === 'GIF8'],
  ['WebP', bytes => text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 12) === 'WEBP'],
  ['TIFF', bytes => ['II*\0', 'MM\0*'].includes(text(bytes, 0, 4))],
  ['HEIC or AVIF', bytes => text(bytes, 4, 8) === 'ftyp'],
  ['BMP', bytes => text(bytes, 0, 2) === 'BM'],
];

/** PNG, JPEG, or the name of a kind that is not read here; undefined for what is no image. */
export const kindOf = (bytes: Uint8Array): string | undefined => kinds.find(([, isIt]) => isIt(bytes))?.[0];
