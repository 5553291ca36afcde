import type {Tensor} from '@tensorflow/tfjs-core';
import {tensor} from '@tensorflow/tfjs-core';

/**
 * One counter-based generator for everything random: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel
 * random numbers: as easy as 1, 2, 3", SC 2011), in integer arithmetic on the host. The i-th number depends on
 * (seed, i) alone, so it is the same on every backend and in every order, and a resumed run continues it.
 */
export function threefry(
  key: readonly [number, number],
  counter: readonly [number, number],
): [number, number] {
  const keys = [key[0] >>> 0, key[1] >>> 0, (0x1bd11bda ^ key[0] ^ key[1]) >>> 0] as const;
  let x = (counter[0] + keys[0]) >>> 0;
  let y = (counter[1] + keys[1]) >>> 0;
  for (let round = 0; round < 20; round++) {
    const turn = ROTATIONS[round % 8]!;
    x = (x + y) >>> 0;
    y = (((y << turn) | (y >>> (32 - turn))) ^ x) >>> 0;
    if (round % 4 === 3) {
      const injection = (round + 1) / 4;
      x = (x + keys[injection % 3]!) >>> 0;
      y = (y + keys[(injection + 1) % 3]! + injection) >>> 0;
    }
  }
  return [x, y];
}

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24];

/** A 32-bit seed for one purpose: equal labels give equal seeds, different labels unrelated ones. */
export function splitSeed(seed: number, ...labels: readonly (string | number)[]): number {
  return labels.reduce<number>((key, label) => {
    const text = String(label);
    let mixed = key;
    for (let i = 0; i < text.length; i++) mixed = threefry([mixed, 1], [text.charCodeAt(i), i])[0];
    return threefry([mixed, 2], [text.length, 0])[0];
  }, seed | 0);
}

/** Independent `N(mean, std^2)` numbers, float32. */
export function normal(shape: readonly number[], seed: number, {mean = 0, std = 1} = {}): Tensor {
  const values = new Float32Array(size(shape));
  for (let i = 0; i < values.length; i += 2) {
    const [u, v] = uniformPair(seed, i / 2);
    // Box-Muller; 1 - u is in (0, 1], so the logarithm is finite.
    const radius = std * Math.sqrt(-2 * Math.log(1 - u));
    values[i] = mean + radius * Math.cos(2 * Math.PI * v);
    if (i + 1 < values.length) values[i + 1] = mean + radius * Math.sin(2 * Math.PI * v);
  }
  return tensor(values, [...shape], 'float32');
}

/** Independent uniform numbers in `[low, high)`, float32. */
export function uniform(shape: readonly number[], seed: number, {low = 0, high = 1} = {}): Tensor {
  const values = new Float32Array(size(shape));
  for (let i = 0; i < values.length; i += 2) {
    const [u, v] = uniformPair(seed, i / 2);
    values[i] = low + (high - low) * u;
    if (i + 1 < values.length) values[i + 1] = low + (high - low) * v;
  }
  return tensor(values, [...shape], 'float32');
}

function uniformPair(seed: number, index: number): [number, number] {
  const [x, y] = threefry([seed, 0], [index >>> 0, Math.floor(index / 2 ** 32)]);
  return [x / 2 ** 32, y / 2 ** 32];
}

const size = (shape: readonly number[]) => shape.reduce((product, axis) => product * axis, 1);
