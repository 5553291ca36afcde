import * as tf from '@tensorflow/tfjs';

/** Examples as a model takes them, in the memory of the program; a batch at a time becomes tensors. */
export interface Examples {
  readonly size: number;
  /** Of one example. */
  readonly shape: readonly number[];
  /** One example after the other. */
  readonly values: Float32Array | Uint8Array;
  /** What becomes of a value: `times * value + plus`. */
  readonly times: number;
  readonly plus: number;
  /** `width` numbers for each example. */
  readonly targets: Float32Array;
  readonly width: number;
}

/** Some examples in tensors, which are the caller's to dispose. */
export function batchOf(
  {shape, values, times, plus, targets, width}: Examples,
  indices: Int32Array,
): {inputs: tf.Tensor; targets: Float32Array} {
  const each = shape.reduce((product, axis) => product * axis, 1);
  const data = new Float32Array(indices.length * each);
  const wanted = new Float32Array(indices.length * width);
  indices.forEach((index, i) => {
    const from = index * each;
    for (let k = 0; k < each; k++) data[i * each + k] = times * values[from + k]! + plus;
    wanted.set(targets.subarray(index * width, (index + 1) * width), i * width);
  });
  return {inputs: tf.tensor(data, [indices.length, ...shape]), targets: wanted};
}

/** The examples at some places. */
export function pick(examples: Examples, indices: Int32Array): Examples {
  const each = examples.shape.reduce((product, axis) => product * axis, 1);
  const {width} = examples;
  const values = new (examples.values.constructor as Float32ArrayConstructor)(indices.length * each);
  const targets = new Float32Array(indices.length * width);
  indices.forEach((index, i) => {
    values.set(examples.values.subarray(index * each, (index + 1) * each), i * each);
    targets.set(examples.targets.subarray(index * width, (index + 1) * width), i * width);
  });
  return {...examples, size: indices.length, values, targets};
}
