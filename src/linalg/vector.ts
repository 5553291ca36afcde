export function dot(v: Float64Array, w: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < v.length; k++) sum += v[k]! * w[k]!;
  return sum;
}
