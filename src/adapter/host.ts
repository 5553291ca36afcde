/** Numbers outside tfjs in any precision, row by row. */
export interface HostArray<T extends Numbers = Numbers> {
  readonly shape: readonly number[];
  readonly values: T;
}
export type Numbers = Float32Array | Float64Array | Int32Array;

/** The same numbers with the axes in another order: axis i of the result is axis `order[i]`. */
export function permuted({shape, values}: HostArray, order: readonly number[]): HostArray<Float32Array> {
  const strides = shape.map((_, i) => product(shape.slice(i + 1)));
  const [to, steps] = [order.map(axis => shape[axis]!), order.map(axis => strides[axis]!)];
  const result = new Float32Array(values.length);
  const index = to.map(() => 0);
  let from = 0;
  for (let i = 0; i < result.length; i++) {
    result[i] = values[from]!;
    for (let axis = to.length - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++index[axis]! < to[axis]!) break;
      from -= to[axis]! * steps[axis]!;
      index[axis] = 0;
    }
  }
  return {shape: to, values: result};
}

/** `[m, k]` times `[k, n]` in float64. */
export function times(left: HostArray, right: HostArray): HostArray<Float64Array> {
  const [[m, k], [rows, n]] = [sides(left), sides(right)];
  if (rows !== k) throw new Error(`[${left.shape}] times [${right.shape}]`);
  const values = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let t = 0; t < k; t++) {
      const factor = left.values[i * k + t]!;
      for (let j = 0; j < n; j++) values[i * n + j]! += factor * right.values[t * n + j]!;
    }
  }
  return {shape: [m, n], values};
}

/** A matrix from what stands at (i, j), in float64. */
export function matrixOf(
  m: number,
  n: number,
  at: (i: number, j: number) => number,
): HostArray<Float64Array> {
  return {shape: [m, n], values: Float64Array.from({length: m * n}, (_, i) => at(Math.floor(i / n), i % n))};
}

/** Side by side, or one below the other. */
export const beside = (left: HostArray, right: HostArray): HostArray<Float64Array> => {
  const [[m, k], [, n]] = [sides(left), sides(right)];
  return matrixOf(m, k + n, (i, j) => (j < k ? left.values[i * k + j]! : right.values[i * n + j - k]!));
};
export const below = (upper: HostArray, lower: HostArray): HostArray<Float64Array> => {
  const values = new Float64Array(upper.values.length + lower.values.length);
  values.set(upper.values);
  values.set(lower.values, upper.values.length);
  return {shape: [upper.shape[0]! + lower.shape[0]!, upper.shape[1]!], values};
};

export const minus = (a: HostArray, b: HostArray): HostArray<Float64Array> => ({
  shape: a.shape,
  values: Float64Array.from(a.values, (value, i) => value - b.values[i]!),
});

export const transposed = (a: HostArray): HostArray<Float64Array> => {
  const [m, n] = sides(a);
  return matrixOf(n, m, (i, j) => a.values[j * n + i]!);
};

export const sides = ({shape}: HostArray): readonly [number, number] => shape as [number, number];

export const product = (axes: readonly number[]): number => axes.reduce((size, axis) => size * axis, 1);
