import type {Tensor} from '@tensorflow/tfjs-core';
import {abs, keep, max, stack, tidy} from '@tensorflow/tfjs-core';

/** Float32 ends at 3.4028e38: what is left is for the rounding of sums. */
export const MAX_FLOAT = 3.4e38;

/** max |x| of each tensor, 0 of an empty one. Reads one number for each, all of them at once. */
export async function largest(compute: () => readonly Tensor[]): Promise<number[]> {
  const found = keep(
    tidy(() => stack(compute().map(tensor => max(abs(tensor.size === 0 ? stack([0]) : tensor))))),
  );
  try {
    return Array.from(await found.data());
  } finally {
    found.dispose();
  }
}
