/**
 * Floats of 16 bits. F16 (IEEE 754 binary16): sign, 5 bits of exponent, 10 of mantissa; 65504 at most, steps of 2^-24
 * around zero. BF16: the upper half of a float32. Rounded to the nearest, ties to even; subnormals and infinities are
 * kept, and of a NaN its sign and the upper bits of its payload.
 */

/** The F16 nearest to each float32, as bits. What is 65520 or more becomes infinite. */
export function toHalf(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  return Uint16Array.from(bits, halfOf);
}

/** The float32 equal to each F16. */
export function fromHalf(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = singleOf(halves[i]!);
  return new Float32Array(bits.buffer);
}

/** The BF16 nearest to each float32, as bits. */
export function toBfloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(bitsOf(values), x => {
    if ((x & 0x7fffffff) > 0x7f800000) return (x >>> 16) | ((x >>> 16) & 0x7f ? 0 : 0x40);
    return (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  });
}

/** The float32 equal to each BF16. */
export function fromBfloat16(halves: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(halves, half => half << 16).buffer);
}

const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

function halfOf(x: number): number {
  const sign = (x >>> 16) & 0x8000;
  const size = x & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7c00 | ((size >>> 13) & 0x3ff || 0x200);
  if (size >= 0x477ff000) return sign | 0x7c00; // 65520 and above
  if (size >= 0x38800000) {
    const from = size - 0x38000000; // the exponents differ by 112
    return sign | ((from + 0xfff + ((from >>> 13) & 1)) >>> 13);
  }
  if (size <= 0x33000000) return sign; // 2^-25 and below
  // Subnormal: a multiple of 2^-24.
  const shift = 126 - (size >>> 23);
  const mantissa = (size & 0x7fffff) | 0x800000;
  const [whole, rest, half] = [mantissa >>> shift, mantissa & ((1 << shift) - 1), 1 << (shift - 1)];
  return sign | (rest > half || (rest === half && whole & 1) ? whole + 1 : whole);
}

function singleOf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const [exponent, mantissa] = [(half >>> 10) & 0x1f, half & 0x3ff];
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  const lead = 31 - Math.clz32(mantissa); // mantissa 2^-24 = 1.… 2^(lead - 24)
  return sign | ((lead + 103) << 23) | ((mantissa << (23 - lead)) & 0x7fffff);
}
