// Chance that follows from a seed: the same on every machine, in Node and in a browser.

/** Numbers in [0, 1): a linear congruential generator modulo 2^32, of which the high bits count. */
export function random(seed) {
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x5bd1e995) >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  for (let i = 0; i < 8; i++) next();
  return next;
}

/** Puts items in another order, in their own place (Fisher and Yates). */
export function shuffle(items, next) {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [items[i], items[j]] = [items[j], items[i]];
  }
  return items;
}

/** Every item once in a random order, then again in another, without end. */
export function* shuffles(items, seed) {
  const next = random(seed);
  const order = [...items];
  for (;;) yield* shuffle(order, next);
}
