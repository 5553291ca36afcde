import type {HostTensor} from './adapter.js';
import {expectBytes} from './expect.js';
import {given} from './given.js';
import {fromBfloat16, fromHalf, toBfloat16, toHalf} from './half.js';
import {isWellFormed, type Json, parseStrictJson} from './json.js';
import {errorOf, quote, visible} from './untrusted.js';

/** How float32 is written. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

export interface SafetensorsFile<T extends HostTensor = HostTensor> {
  readonly tensors: ReadonlyMap<string, T>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor and how its numbers stood in the file. */
export type StoredTensor = HostTensor & {readonly dtype: string};

const MAX_HEADER = 8 * 1024 * 1024;
const MAX_TENSORS = 100_000;
const MAX_AXES = 8;

/**
 * The safetensors layout: eight bytes with the length of the header (u64, little-endian), the header as JSON padded
 * with spaces to a multiple of 8, then the numbers, little-endian and row by row, without a gap.
 * Format: huggingface/safetensors, README, "Format".
 *
 * Tensors stand by the size of their numbers, largest first, then by name, as the reference implementation has them;
 * equal content gives equal bytes. Int32Array is written as I32.
 *
 * @throws RangeError when a shape does not fit its values, or a number is too large for `dtype`.
 */
export function encodeSafetensors(file: SafetensorsFile, dtype: FloatDtype = 'F32'): Uint8Array {
  const {tensors, metadata} = (file ?? {}) as Partial<SafetensorsFile>;
  if (!(tensors instanceof Map) || metadata === null || typeof metadata !== 'object') {
    throw new TypeError(
      'encodeSafetensors: {tensors, metadata} are needed, a Map of {shape, values} by name and an object of text, and ' +
        `this is ${given(file).words}; encodeAdapter(adapter) writes an adapter`,
    );
  }
  if (tensors.size > MAX_TENSORS)
    throw new RangeError(`safetensors: ${tensors.size} tensors, and ${MAX_TENSORS} are the most`);
  const entries = [...tensors].map(([name, tensor]) => {
    if (name === '__metadata__' || !isWellFormed(name)) {
      throw new RangeError(`safetensors: ${quote(name)} cannot be the name of a tensor`);
    }
    return {name, shape: expectShape(name, tensor), ...numbersOf(name, tensor, dtype)};
  });
  entries.sort((a, b) => ORDER.indexOf(a.dtype) - ORDER.indexOf(b.dtype) || byCodePoint(a.name, b.name));

  const members: string[] = [];
  const notes = Object.entries(metadata).sort(([a], [b]) => byCodePoint(a, b));
  if (notes.length > 0) {
    const pairs = notes.map(([key, value]) => {
      if (typeof value === 'string' && isWellFormed(key + value))
        return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
      throw new TypeError(visible(`safetensors: metadata '${key}' must be a string of well-formed Unicode`));
    });
    members.push(`"__metadata__":{${pairs.join()}}`);
  }
  let end = 0;
  for (const {name, dtype, shape, bytes} of entries) {
    const offsets = [end, (end += bytes.byteLength)];
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${offsets}]}`,
    );
  }
  const header = new TextEncoder().encode(`{${members.join()}}`);
  const start = 8 + Math.ceil(header.length / 8) * 8;
  if (start - 8 > MAX_HEADER) throw new RangeError(`safetensors: a header of ${header.length} bytes`);
  const written = new Uint8Array(start + end).fill(0x20, 8 + header.length, start);
  new DataView(written.buffer).setBigUint64(0, BigInt(start - 8), true);
  written.set(header, 8);
  let offset = start;
  for (const {bytes} of entries) {
    written.set(bytes, offset);
    offset += bytes.byteLength;
  }
  return written;
}

/**
 * Reads a file whole or not at all: every name, shape and offset is checked before the first tensor is made, and the
 * numbers made take at most twice the bytes of those in the file. F16, BF16 and F64 become float32.
 *
 * As strict as the reference implementation, and stricter: no key twice, no member it does not know, no number it would
 * have to change (I64; F64 beyond float32), at most 8 axes, 100,000 tensors and 8 MiB of header. Files with a header that
 * is not padded are read, as they are there.
 *
 * @returns Tensors in the order of the file, with the dtype they had there.
 * @throws Error that begins `not a readable safetensors file`.
 */
export function decodeSafetensors(bytes: Uint8Array): SafetensorsFile<StoredTensor> {
  expectBytes('decodeSafetensors', bytes);
  const {entries, metadata, read} = openSafetensors(bytes);
  for (const {name, dtype} of entries) {
    if (!READERS[dtype]) {
      fail(`'${name}' is ${dtype}; ${Object.keys(READERS).join(', ')} are read, so convert it first`);
    }
  }
  return {tensors: new Map(entries.map(entry => [entry.name, read(entry)!])), metadata};
}

/** A safetensors file of which nothing but the header was read. */
export interface OpenSafetensors {
  /** In the order of the file. */
  readonly entries: readonly SafetensorsEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  /** The numbers of a tensor; null of a dtype that is not read. */
  read(entry: SafetensorsEntry): StoredTensor | null;
}

/** Where the numbers of a tensor are, in bytes from the end of the header. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly from: number;
  readonly to: number;
}

/** As `decodeSafetensors`, for files that also hold what cannot be read: tensors of other dtypes are only listed. */
export function openSafetensors(bytes: Uint8Array): OpenSafetensors {
  if (bytes.length < 8) fail(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const claimed = view.getBigUint64(0, true);
  if (claimed > BigInt(Math.min(MAX_HEADER, bytes.length - 8))) {
    fail(
      `its header claims ${claimed} bytes of the ${bytes.length - 8} there are, and ${MAX_HEADER} is the most`,
    );
  }
  const start = 8 + Number(claimed);
  const header = parseHeader(bytes.subarray(8, start));
  let metadata: Readonly<Record<string, string>> = {};
  const entries: SafetensorsEntry[] = [];
  for (const [name, raw] of header) {
    if (name === '__metadata__') metadata = readMetadata(raw);
    else entries.push(readEntry(name, raw));
  }
  entries.sort((a, b) => a.from - b.from || a.to - b.to);
  let expected = 0;
  for (const {name, dtype, shape, from, to} of entries) {
    if (from !== expected) fail(`'${name}' starts at ${from} where ${expected} is next`);
    const count = sizeOf(shape);
    const size = READERS[dtype]?.bytes ?? FOREIGN.get(dtype);
    if (count === null || (size !== undefined && to - from !== count * size)) {
      fail(`'${name}' has ${to - from} bytes for ${dtype} of the shape [${shape}]`);
    }
    if (to > bytes.length - start)
      fail(`'${name}' ends at ${to}, behind the ${bytes.length - start} bytes of data`);
    expected = to;
  }
  if (expected !== bytes.length - start) fail(`${bytes.length - start - expected} bytes belong to no tensor`);

  const read = ({name, dtype, shape, from, to}: SafetensorsEntry): StoredTensor | null => {
    const reader = READERS[dtype];
    if (!reader) return null;
    // A copy, which begins where the numbers need it to; `slice` of node's Buffer would be none.
    const {buffer} = new Uint8Array(bytes.subarray(start + from, start + to));
    return {shape, values: reader.read(buffer, name), dtype};
  };
  return {entries, metadata, read};
}

/** Bytes of a number of dtypes that are not read; others the format may have are not counted. */
const FOREIGN: ReadonlyMap<string, number> = new Map([
  ['BOOL', 1],
  ['U8', 1],
  ['I8', 1],
  ['F8_E5M2', 1],
  ['F8_E4M3', 1],
  ['U16', 2],
  ['I16', 2],
  ['U32', 4],
  ['U64', 8],
  ['I64', 8],
]);

/** As the reference implementation orders what it writes. */
const ORDER = ['F32', 'I32', 'BF16', 'F16'];

interface Reader {
  readonly bytes: number;
  read(buffer: ArrayBuffer, name: string): HostTensor['values'];
}

const READERS: Readonly<Partial<Record<string, Reader>>> = Object.assign(Object.create(null), {
  F64: {bytes: 8, read: narrowed},
  F32: {bytes: 4, read: buffer => new Float32Array(buffer)},
  I32: {bytes: 4, read: buffer => new Int32Array(buffer)},
  F16: {bytes: 2, read: buffer => fromHalf(new Uint16Array(buffer))},
  BF16: {bytes: 2, read: buffer => fromBfloat16(new Uint16Array(buffer))},
} satisfies Record<string, Reader>);

function narrowed(buffer: ArrayBuffer, name: string): Float32Array {
  const wide = new Float64Array(buffer);
  const values = Float32Array.from(wide);
  const lost = values.findIndex((value, i) => !Number.isFinite(value) && Number.isFinite(wide[i]));
  if (lost >= 0) fail(`'${name}' holds ${wide[lost]}, which float32 cannot`);
  return values;
}

function numbersOf(
  name: string,
  {values}: HostTensor,
  dtype: FloatDtype,
): {dtype: string; bytes: Uint8Array} {
  const bytesOf = ({buffer, byteOffset, byteLength}: ArrayBufferView) =>
    new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  if (values instanceof Int32Array) return {dtype: 'I32', bytes: bytesOf(values)};
  if (dtype === 'F32') return {dtype, bytes: bytesOf(values)};
  if (dtype !== 'F16' && dtype !== 'BF16') {
    throw new TypeError(`safetensors: dtype must be 'F32', 'F16' or 'BF16', not '${String(dtype)}'`);
  }
  const halves = dtype === 'F16' ? toHalf(values) : toBfloat16(values);
  const infinite = dtype === 'F16' ? 0x7c00 : 0x7f80;
  const lost = halves.findIndex((half, i) => (half & 0x7fff) === infinite && Number.isFinite(values[i]));
  if (lost >= 0) {
    throw new RangeError(
      visible(`safetensors: '${name}' holds ${values[lost]}, which ${dtype} cannot; write F32`),
    );
  }
  return {dtype, bytes: bytesOf(halves)};
}

function expectShape(name: string, {shape, values}: HostTensor): readonly number[] {
  if (shape.length <= MAX_AXES && shape.every(isCount) && sizeOf(shape) === values.length) return shape;
  throw new RangeError(
    visible(`safetensors: '${name}' has ${values.length} numbers for the shape [${shape}]`),
  );
}

function parseHeader(bytes: Uint8Array): ReadonlyMap<string, Json> {
  if (bytes[0] !== 0x7b) fail("its header does not begin with '{'");
  let text: string;
  try {
    text = new TextDecoder('utf-8', {fatal: true}).decode(bytes);
  } catch {
    return fail('its header is no UTF-8');
  }
  try {
    // One more than the tensors there may be, for the metadata.
    const limits = {counts: true, members: MAX_TENSORS + 1};
    return parseStrictJson(text, 3, limits) as ReadonlyMap<string, Json>;
  } catch (error) {
    return fail(`its header is no JSON as it should be: ${(error as Error).message}`);
  }
}

function readMetadata(raw: Json): Readonly<Record<string, string>> {
  if (raw === null) return {};
  if (!(raw instanceof Map)) return fail('its metadata is no object');
  for (const [key, value] of raw) {
    if (typeof value !== 'string') fail(`its metadata '${key}' is no string`);
  }
  return Object.fromEntries(raw as Map<string, string>);
}

function readEntry(name: string, raw: Json): SafetensorsEntry {
  if (!(raw instanceof Map)) return fail(`'${name}' is no object`);
  for (const key of raw.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets')
      fail(`'${name}' has an unknown member '${key}'`);
  }
  const dtype = raw.get('dtype');
  if (typeof dtype !== 'string') return fail(`'${name}' has no dtype`);
  const shape = raw.get('shape');
  if (!Array.isArray(shape) || shape.length > MAX_AXES || !shape.every(isCount)) {
    return fail(`'${name}' has no shape of at most ${MAX_AXES} whole numbers`);
  }
  const offsets = raw.get('data_offsets');
  if (
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isCount) ||
    offsets[0]! > offsets[1]!
  ) {
    return fail(`'${name}' has no data_offsets [from, to]`);
  }
  return {name, dtype, shape, from: offsets[0]!, to: offsets[1]!};
}

/** How many numbers, or null when it is more than can be counted. */
function sizeOf(shape: readonly number[]): number | null {
  let size = 1;
  for (const axis of shape) {
    size *= axis;
    if (!Number.isSafeInteger(size)) return null;
  }
  return size;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** By code points, which is the order of the bytes in UTF-8. */
function byCodePoint(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = left[i]!.codePointAt(0)! - right[i]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

function fail(reason: string): never {
  throw errorOf(`not a readable safetensors file: ${reason}`);
}
