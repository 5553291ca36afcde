import * as tf from '@tensorflow/tfjs';
import type {Adapter, AdapterWeight, HostTensor} from '../../src/adapter/adapter.js';
import {printOf} from '../../src/adapter/print.js';
import type {Parametrization} from '../../src/index.js';
import {mapValues, tidied} from '../../src/tensors.js';
import {type Shape, situation} from '../parametrizations/exercise.js';

/** Adapters as training would leave them, without the training. */

export const hostOf = (tensor: tf.Tensor): HostTensor => ({
  shape: [...tensor.shape],
  values: tensor.dataSync().slice() as Float32Array | Int32Array,
});

/** One weight away from its start. */
export function weightOf(p: Parametrization, shape: Shape, path: string, seed = 1): AdapterWeight {
  return tidied(() => {
    const {state} = situation(p, shape, seed);
    return {
      path,
      shape: [...shape],
      parametrization: p,
      factors: mapValues(state.factors, hostOf),
      frozen: mapValues(state.frozen, hostOf),
      base: printOf(state.base.dataSync()),
    };
  });
}

/** A weight that was trained as it is. */
export const wholeWeight = (path: string, values: readonly number[]): AdapterWeight => ({
  path,
  shape: [values.length],
  parametrization: null,
  factors: {weight: {shape: [values.length], values: Float32Array.from(values)}},
  frozen: {},
  base: null,
});

export const adapterWith = (...weights: AdapterWeight[]): Adapter => ({
  weights,
  generatedBy: 'tfjs-lora 0.1.0, tfjs-core 4.22.0',
  metadata: {task: 'prüfen\n', constructor: 'plain data'},
});

/** What two adapters must agree in: everything, and the parametrizations by how they are made. */
export const comparable = ({weights, ...rest}: Adapter, toJson: (value: unknown) => unknown) => ({
  ...rest,
  weights: weights.map(({parametrization, ...weight}) => ({
    ...weight,
    parametrization: toJson(parametrization),
  })),
});
