import type {io} from '@tensorflow/tfjs-core';

const BYTES: Readonly<Record<string, number>> = {
  float32: 4,
  int32: 4,
  bool: 1,
  complex64: 8,
  uint8: 1,
  uint16: 2,
  float16: 2,
};

/**
 * Throws unless `specs` are tensors that together take exactly `byteLength` bytes, so that nothing is made for a file
 * that is too short, too long or that claims sizes it does not hold. Strings have no length of their own: with one
 * among them only the others are counted.
 */
export function expectSpecs(where: string, specs: unknown, byteLength: number): asserts specs is Specs {
  if (!Array.isArray(specs)) throw new Error(`${where}: there is no list of tensors`);
  const names = new Set<string>();
  let total = 0;
  let isExact = true;
  for (const spec of specs as Partial<io.WeightsManifestEntry>[]) {
    const name = spec?.name;
    if (typeof name !== 'string') throw new Error(`${where}: a tensor has no name`);
    if (names.has(name)) throw new Error(`${where}: there are two tensors called ${name}`);
    names.add(name);
    const {shape, dtype} = spec;
    if (!Array.isArray(shape) || !shape.every(axis => Number.isSafeInteger(axis) && axis >= 0)) {
      throw new Error(`${where}: ${name} has the shape ${JSON.stringify(shape)}`);
    }
    const type = spec.quantization?.dtype ?? dtype ?? '';
    if (type === 'string') isExact = false;
    else {
      const bytes = Object.hasOwn(BYTES, type) ? BYTES[type]! : undefined;
      if (!bytes)
        throw new Error(`${where}: ${name} is of ${JSON.stringify(type)}, which tfjs does not know`);
      total += shape.reduce((product, axis) => product * axis, bytes);
    }
  }
  if (total > byteLength || (isExact && total !== byteLength)) {
    throw new Error(
      `${where}: its tensors take ${total} bytes, and there are ${byteLength}: it is cut off or damaged`,
    );
  }
}

export type Specs = io.WeightsManifestEntry[];

/** Weight data as one piece. */
export function joined(data: io.WeightData | undefined): Uint8Array<ArrayBuffer> {
  const parts = data === undefined ? [] : Array.isArray(data) ? data : [data];
  if (parts.length === 1) return new Uint8Array(parts[0]!);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(new Uint8Array(part), at);
    at += part.byteLength;
  }
  return whole;
}
