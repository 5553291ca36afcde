import * as tf from '@tensorflow/tfjs';
import * as calculus from '../../src/calculus.js';
import type {Adapter, AdapterWeight, HostTensor} from '../../src/adapter/adapter.js';
import {normal, projected, type ProjectedOptions} from '../../src/index.js';
import {tidied} from '../../src/tensors.js';
import type {Additive, Parametrization} from '../../src/parametrization.js';

/** A weight before training. */
export interface Before {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Trains weights of these shapes for a few steps, and gives what they were and what was learned. */
export function learned(
  shapes: Readonly<Record<string, readonly number[]>>,
  parametrization: Parametrization,
  options: ProjectedOptions = {},
): {adapter: Adapter; before: Map<string, Before>} {
  const paths = Object.keys(shapes);
  const variables = paths.map((path, i) => tf.variable(normal([...shapes[path]!], i + 1), true, path));
  const before = new Map(
    paths.map((path, i) => [
      path,
      {shape: shapes[path]!, values: variables[i]!.dataSync().slice() as Float32Array},
    ]),
  );
  const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), parametrization, {
    targets: [[() => true, parametrization]],
    ...options,
  });
  for (let step = 0; step < 3; step++) {
    optimizer.applyGradients(
      variables.map((v, i) => ({name: v.name, tensor: normal(v.shape, 100 * step + i + 50)})),
    );
  }
  const host = (named: Readonly<Record<string, tf.Tensor>>): Record<string, HostTensor> =>
    Object.fromEntries(
      Object.entries(named).map(([key, tensor]) => [
        key,
        {shape: tensor.shape, values: tensor.dataSync().slice() as Float32Array},
      ]),
    );
  const weights = optimizer.attached.map(({weight, parametrization, factors, frozen}): AdapterWeight => {
    const path = paths[variables.findIndex(v => v === weight)]!;
    return {
      path,
      shape: weight.shape,
      parametrization,
      factors: host(factors),
      frozen: host(frozen),
      base: null,
    };
  });
  optimizer.dispose();
  tf.dispose(variables);
  return {adapter: {weights, generatedBy: 'a test', metadata: {}}, before};
}

/** The weight that an adapter makes of W0, by the parametrization itself; W0 + delta in float64. */
export function applied(
  {shape, parametrization, factors, frozen}: AdapterWeight,
  base: Before,
): ArrayLike<number> {
  if (parametrization === null) return factors['weight']!.values;
  return tidied((): ArrayLike<number> => {
    const tensors = (named: Readonly<Record<string, HostTensor>>) =>
      Object.fromEntries(
        Object.entries(named).map(([key, {shape, values}]) => [
          key,
          tf.tensor(values, [...shape], values instanceof Int32Array ? 'int32' : 'float32'),
        ]),
      );
    const [n, m] = [shape.at(-1)!, base.values.length / shape.at(-1)!];
    const state = {
      factors: tensors(factors),
      frozen: tensors(frozen),
      base: tf.tensor2d(base.values, [m, n]),
    };
    if (calculus.isComposed(parametrization)) return parametrization.compose(state).dataSync().slice();
    const delta = (parametrization as Additive).delta(state).dataSync();
    return Float64Array.from(base.values, (value, i) => value + delta[i]!);
  });
}
