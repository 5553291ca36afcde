/**
 * 64 bits by which bytes are recognised and damage is found, as 16 hexadecimal digits. Two lanes that multiply and rotate
 * each 32-bit word, in the manner of MurmurHash3. No protection against someone who forges bytes on purpose.
 */
export function digest(bytes: Uint8Array): string {
  const whole = bytes.length >>> 2;
  const isAligned = bytes.byteOffset % 4 === 0;
  const words = isAligned
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, whole)
    : new Uint32Array(bytes.slice(0, 4 * whole).buffer);
  let [a, b] = [0x9747b28c, 0x3c6ef372];
  const take = (word: number) => {
    a =
      Math.imul(turn(a ^ Math.imul(turn(Math.imul(word, 0x239b961b), 15), 0xab0e9789), 19) + b, 5) +
      0x561ccd1b;
    b =
      Math.imul(turn(b ^ Math.imul(turn(Math.imul(word, 0x38b34ae5), 17), 0xa1e38b93), 17) + a, 5) +
      0x32ac3b17;
  };
  for (let i = 0; i < whole; i++) take(words[i]!);
  let rest = 0;
  for (let i = 4 * whole; i < bytes.length; i++) rest = (rest << 8) | bytes[i]!;
  take(rest);
  take(bytes.length);
  a = stir(a + b);
  b = stir(b + a);
  return [a, b].map(lane => (lane >>> 0).toString(16).padStart(8, '0')).join('');
}

const turn = (x: number, by: number) => (x << by) | (x >>> (32 - by));

function stir(x: number): number {
  const y = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  const z = Math.imul(y ^ (y >>> 13), 0xc2b2ae35);
  return z ^ (z >>> 16);
}
