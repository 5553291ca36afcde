/** One float32 matrix or vector of an adapter. */
export interface NamedArray {
  name: string;
  shape: number[];
  values: Float32Array;
}

/**
 * Float32 tensors as a safetensors file: the header's length (8 bytes, little-endian), the header (JSON, padded
 * with spaces to a multiple of 8), then the numbers, little-endian.
 * @param metadata strings kept in the header
 */
export function encodeSafetensors(tensors: NamedArray[], metadata: Record<string, string>): Uint8Array {
  const entries: Record<string, unknown> = {__metadata__: metadata};
  let end = 0;
  for (const {name, shape, values} of tensors) {
    const start = end;
    end += values.byteLength;
    entries[name] = {dtype: 'F32', shape, data_offsets: [start, end]};
  }
  const json = JSON.stringify(entries);
  const header = Buffer.from(json + ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const file = Buffer.alloc(8 + header.length + end);
  file.writeBigUInt64LE(BigInt(header.length));
  header.copy(file, 8);
  let offset = 8 + header.length;
  for (const {values} of tensors) for (const value of values) offset = file.writeFloatLE(value, offset);
  return file;
}

/** What `encodeSafetensors` wrote, or any safetensors file that holds float32 only. */
export function decodeSafetensors(bytes: Uint8Array): {
  tensors: NamedArray[];
  metadata: Record<string, string>;
} {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const data = 8 + Number(file.readBigUInt64LE());
  const header = JSON.parse(file.toString('utf8', 8, data)) as Record<string, unknown>;
  const {__metadata__: metadata = {}, ...entries} = header;
  const tensors = Object.entries(entries).map(([name, entry]) => {
    const {dtype, shape, data_offsets} = entry as {
      dtype: string;
      shape: number[];
      data_offsets: [number, number];
    };
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}; only F32 is read here`);
    const [start, end] = data_offsets;
    const values = Float32Array.from({length: (end - start) / 4}, (_, i) =>
      file.readFloatLE(data + start + 4 * i),
    );
    return {name, shape, values};
  });
  return {tensors, metadata: metadata as Record<string, string>};
}
