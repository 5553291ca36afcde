/** Mean and standard deviation of each column. */
export interface Standard {
  readonly mean: readonly number[];
  /** 1 for a column that is the same everywhere. */
  readonly deviation: readonly number[];
}

/** Over the rows at `indices`; the deviation divides by their number. */
export function standardOf(values: ArrayLike<number>, width: number, indices: Int32Array): Standard {
  const mean: number[] = [];
  const deviation: number[] = [];
  for (let k = 0; k < width; k++) {
    let sum = 0;
    for (const i of indices) sum += values[i * width + k]!;
    const middle = sum / indices.length;
    let squares = 0;
    for (const i of indices) squares += (values[i * width + k]! - middle) ** 2;
    mean.push(middle);
    deviation.push(Math.sqrt(squares / indices.length) || 1);
  }
  return {mean, deviation};
}

/** Subtracts the mean and divides by the deviation. */
export function standardised(values: Float32Array, {mean, deviation}: Standard): Float32Array {
  const width = mean.length;
  return values.map((value, i) => (value - mean[i % width]!) / deviation[i % width]!);
}
