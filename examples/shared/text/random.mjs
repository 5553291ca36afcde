/** Uniform numbers in [0, 1) from a seed: xorshift of 32 bits with the shifts 13, 17, 5 (Marsaglia 2003). */
export function random(seed) {
  let state = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) next();
  return next;
}

/** A copy in another order (Fisher and Yates). */
export function shuffled(items, next) {
  const all = [...items];
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}
