/** FNV-1a, 32 bits, of a string's UTF-16 code units: the same number on every platform. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/**
 * A generator of numbers in [0, 1) that depends on the seed alone (the splitmix32 sequence).
 * Every seed is good, 0 too.
 */
export function seededRandom(seed: number): () => number {
  let state = hash32(`seed ${seed}`);
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}
