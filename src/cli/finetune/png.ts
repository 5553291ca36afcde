import {inflateSync} from 'node:zlib';
import {mostPixels, type Picture} from './picture.js';

const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Samples of a pixel by colour type: grey, RGB, palette, grey and alpha, RGBA. */
const samplesOf: Readonly<Record<number, number>> = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4};

/**
 * Decodes a PNG (ISO/IEC 15948): every colour type and depth, without interlacing. Of 16 bits the upper 8 count; a
 * palette becomes RGB, or RGBA where it has transparent colours. A colour that is transparent by itself (tRNS without a
 * palette) is taken for opaque.
 *
 * @throws Error that says what is wrong
 */
export function decodePng(file: Uint8Array): Picture {
  if (signature.some((byte, i) => file[i] !== byte)) throw new Error('is no PNG');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const data: Uint8Array[] = [];
  let header: DataView | undefined;
  let palette: Uint8Array = new Uint8Array();
  let alphas: Uint8Array = new Uint8Array();
  for (let at = 8, type = ''; type !== 'IEND';) {
    if (at + 12 > file.length) throw new Error('ends in the middle: the file is damaged');
    const length = view.getUint32(at);
    type = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (at + 12 + length > file.length) throw new Error('ends in the middle: the file is damaged');
    const content = file.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR' && length === 13) header = new DataView(content.buffer, content.byteOffset, length);
    else if (type === 'PLTE') palette = content;
    else if (type === 'tRNS') alphas = content;
    else if (type === 'IDAT') data.push(content);
    at += 12 + length;
  }
  if (!header) throw new Error('has no header: the file is damaged');
  const [width, height] = [header.getUint32(0), header.getUint32(4)];
  const [depth, colour, interlace] = [header.getUint8(8), header.getUint8(9), header.getUint8(12)];
  const samples = samplesOf[colour];
  if (!samples || ![1, 2, 4, 8, 16].includes(depth)) throw new Error('has a colour type that no PNG has');
  if (interlace !== 0) throw new Error('is interlaced, which is not read here: save it without');
  if (width * height === 0 || width * height > mostPixels)
    throw new Error(`says that it is ${width} x ${height} pixels`);
  const rowBytes = Math.ceil((width * samples * depth) / 8);
  const size = height * (1 + rowBytes);
  let raw: Uint8Array;
  try {
    raw = inflateSync(Buffer.concat(data), {maxOutputLength: size + 1});
  } catch {
    throw new Error('has pixels that cannot be unpacked: the file is damaged');
  }
  if (raw.length !== size) throw new Error('has too few or too many pixels: the file is damaged');
  unfilter(raw, height, rowBytes, Math.ceil((samples * depth) / 8));

  const bytes = new Uint8Array(width * height * samples);
  const most = 2 ** depth - 1;
  for (let y = 0; y < height; y++) {
    const row = raw.subarray(y * (1 + rowBytes) + 1, (y + 1) * (1 + rowBytes));
    for (let x = 0; x < width * samples; x++) {
      const bit = x * depth;
      const sample = depth >= 8 ? row[(x * depth) / 8]! : (row[bit >> 3]! >> (8 - depth - (bit & 7))) & most;
      bytes[y * width * samples + x] = depth < 8 && colour !== 3 ? (sample * 255) / most : sample;
    }
  }
  if (colour !== 3) return {width, height, channels: samples, bytes};
  return {width, height, ...coloured(bytes, palette, alphas)};
}

/** Undoes the filter of each row in place: each byte was written as its difference from its neighbours. */
function unfilter(raw: Uint8Array, height: number, rowBytes: number, step: number): void {
  for (let y = 0; y < height; y++) {
    const start = y * (1 + rowBytes) + 1;
    const kind = raw[start - 1]!;
    if (kind > 4) throw new Error('has a row with an unknown filter: the file is damaged');
    for (let i = 0; i < rowBytes; i++) {
      const left = i < step ? 0 : raw[start + i - step]!;
      const up = y === 0 ? 0 : raw[start + i - rowBytes - 1]!;
      const corner = i < step || y === 0 ? 0 : raw[start + i - rowBytes - 1 - step]!;
      raw[start + i]! += [0, left, up, (left + up) >> 1, paeth(left, up, corner)][kind]!;
    }
  }
}

/** The neighbour that is nearest to left + up - corner. */
function paeth(left: number, up: number, corner: number): number {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function coloured(places: Uint8Array, palette: Uint8Array, alphas: Uint8Array) {
  const channels = alphas.some(alpha => alpha !== 255) ? 4 : 3;
  const bytes = new Uint8Array(places.length * channels);
  places.forEach((place, i) => {
    if (3 * place + 3 > palette.length)
      throw new Error('has a colour that its palette lacks: the file is damaged');
    bytes.set(palette.subarray(3 * place, 3 * place + 3), i * channels);
    if (channels === 4) bytes[4 * i + 3] = alphas[place] ?? 255;
  });
  return {channels, bytes};
}
