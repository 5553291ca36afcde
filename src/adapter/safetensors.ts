/**
 * The safetensors layout: eight bytes with the length of the header (u64, little-endian), the header as JSON padded
 * with spaces, then the data. Float32 only, which is what tfjs trains in.
 * Format: huggingface/safetensors, README, "Format".
 */

export interface Float32Entry {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, Float32Entry>;
  readonly metadata: Readonly<Record<string, string>>;
}

const MAX_HEADER = 16 * 1024 * 1024;

export function encodeSafetensors({tensors, metadata}: SafetensorsFile): Uint8Array {
  const header: Record<string, unknown> = {__metadata__: metadata};
  let end = 0;
  for (const [name, {shape, values}] of tensors) {
    header[name] = {dtype: 'F32', shape, data_offsets: [end, (end += values.byteLength)]};
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = 8 + Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(start + end).fill(0x20, 8 + text.length, start);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(start - 8), true);
  bytes.set(text, 8);
  let offset = start;
  for (const {values} of tensors.values()) {
    for (const value of values) {
      view.setFloat32(offset, value, true);
      offset += 4;
    }
  }
  return bytes;
}

/** Reads a file whole or not at all: every offset, shape and name is checked before a tensor is made. */
export function decodeSafetensors(bytes: Uint8Array): SafetensorsFile {
  const fail = (reason: string): never => {
    throw new Error(`not a readable safetensors file: ${reason}`);
  };
  if (bytes.length < 8) fail(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > bytes.length) {
    fail(`its header claims ${length} bytes of the ${bytes.length - 8} there are`);
  }
  const header = parseHeader(bytes.subarray(8, 8 + length), fail);
  const data = bytes.length - 8 - length;
  const tensors = new Map<string, Float32Entry>();
  let metadata: Record<string, string> = {};
  let expected = 0;
  const entries = [...header].filter(([name]) => name !== '__metadata__');
  if (header.has('__metadata__')) metadata = readMetadata(header.get('__metadata__'), fail);
  for (const [name, entry] of entries
    .map(([name, raw]) => [name, readEntry(name, raw, fail)] as const)
    .sort(byOffset)) {
    const {
      shape,
      offsets: [from, to],
    } = entry;
    const size = shape.reduce((product, axis) => product * axis, 1);
    if (from !== expected) fail(`'${name}' starts at ${from} where ${expected} is next`);
    if (to - from !== 4 * size) fail(`'${name}' has ${to - from} bytes for the shape [${shape}]`);
    if (to > data) fail(`'${name}' ends at ${to}, behind the ${data} bytes of data`);
    const values = new Float32Array(size);
    for (let i = 0; i < size; i++) values[i] = view.getFloat32(8 + length + from + 4 * i, true);
    tensors.set(name, {shape, values});
    expected = to;
  }
  if (expected !== data) fail(`${data - expected} bytes belong to no tensor`);
  return {tensors, metadata};
}

type Fail = (reason: string) => never;
type RawEntry = {shape: number[]; offsets: [number, number]};

function parseHeader(text: Uint8Array, fail: Fail): Map<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(text));
  } catch (error) {
    fail(`its header is no JSON (${(error as Error).message})`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) fail('its header is no JSON object');
  return new Map(Object.entries(json as object));
}

function readMetadata(raw: unknown, fail: Fail): Record<string, string> {
  if (typeof raw !== 'object' || raw === null) fail('its metadata is no object');
  const entries = Object.entries(raw as object);
  if (entries.some(([, value]) => typeof value !== 'string'))
    fail('its metadata holds something that is no string');
  return Object.fromEntries(entries) as Record<string, string>;
}

function readEntry(name: string, raw: unknown, fail: Fail): RawEntry {
  const {dtype, shape, data_offsets: offsets} = (raw ?? {}) as Record<string, unknown>;
  if (dtype !== 'F32') fail(`'${name}' is ${String(dtype)}; only F32 is read`);
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isCount))
    fail(`'${name}' has the shape ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1]) {
    fail(`'${name}' has the offsets ${JSON.stringify(offsets)}`);
  }
  return {shape: shape as number[], offsets: offsets as [number, number]};
}

const byOffset = (a: readonly [string, RawEntry], b: readonly [string, RawEntry]) =>
  a[1].offsets[0] - b[1].offsets[0] || a[1].offsets[1] - b[1].offsets[1];
