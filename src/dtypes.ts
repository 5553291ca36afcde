const BYTES: ReadonlyMap<string, number> = new Map([
  ['float32', 4],
  ['int32', 4],
  ['bool', 1],
  ['complex64', 8],
  ['uint8', 1],
  ['uint16', 2],
  ['float16', 2],
]);

/**
 * How many bytes a number of a dtype takes in tfjs's weight files, those of quantized weights included. Undefined for
 * what has no such number: strings, and names tfjs does not know.
 */
export const bytesPerNumber = (dtype: string): number | undefined => BYTES.get(dtype);
