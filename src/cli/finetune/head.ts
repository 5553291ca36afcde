/** The last layer of a model, which says what its numbers mean. */
import * as tf from '@tensorflow/tfjs';
import {UsageError} from '../usage-error.js';

type Layer = tf.layers.Layer;

export interface Head {
  /** Numbers for an example. */
  readonly units: number;
  /** In the words of tfjs: softmax, sigmoid, linear, relu … */
  readonly activation: string;
  /** The layer of the weights. */
  readonly layer: Layer;
}

/** A model without a head: why, for people. */
interface Headless {
  readonly why: string;
}

/** What a model ends in. */
function findHead(model: tf.LayersModel): Head | Headless {
  if (model.outputs.length !== 1) {
    const names = model.outputs.map(({name}) => name).join(', ');
    return {why: `it has ${model.outputs.length} outputs (${names}), and one is needed`};
  }
  const {shape} = model.outputs[0]!;
  let last = lastOf(model);
  const end = `it ends in ${last.name} (${last.getClassName()})`;
  const units = shape[1];
  if (shape.length !== 2 || typeof units !== 'number') {
    const sizes = shape.slice(1).map(axis => axis ?? '?');
    return {why: `${end}, which gives ${sizes.join(' x ')} numbers for an example, and a head gives one row`};
  }
  let activation: string | undefined;
  if (last.getClassName() === 'Softmax') activation = 'softmax';
  if (last.getClassName() === 'Activation') activation = activationOf(last);
  if (activation !== undefined) {
    last = (last.input as tf.SymbolicTensor).sourceLayer;
    if (last.getClassName() === 'Dense' && activationOf(last) !== 'linear') last = lastOf(model);
  }
  if (last.getClassName() !== 'Dense')
    return {why: `${end}, and no dense layer that could be trained as a head`};
  return {units, activation: activation ?? activationOf(last), layer: last};
}

/**
 * The head of a model.
 * @throws UsageError for a model without
 */
export function headOf(model: tf.LayersModel): Head {
  const found = findHead(model);
  if ('units' in found) return found;
  const isOneRow = model.outputs.length === 1 && model.outputs[0]!.shape.length === 2;
  const help = isOneRow ? ': --new-head puts one behind it' : '';
  throw new UsageError(`the model has no usable head: ${found.why}${help}`);
}

/**
 * The model with a new dense layer in place of its head or, where it has none, behind its last layer. All else is the same
 * layers with the same weights.
 *
 * @throws UsageError where there is no place for one
 */
export function withNewHead(
  model: tf.LayersModel,
  units: number,
  activation: 'softmax' | 'linear',
  seed: number,
): tf.LayersModel {
  const found = findHead(model);
  const isFlat = model.outputs.length === 1 && model.outputs[0]!.shape.length === 2;
  if (!('units' in found) && !isFlat) throw new UsageError(`there is no place for a new head: ${found.why}`);
  if ('units' in found && !model.layers.includes(found.layer)) {
    throw new UsageError(
      `the head ${found.layer.name} lies in a model within the model, where --new-head does not reach: save it flat`,
    );
  }
  const below = ('units' in found ? found.layer.input : model.outputs[0]) as tf.SymbolicTensor;
  const taken = new Set(model.layers.map(({name}) => name));
  let name = 'new_head';
  for (let i = 2; taken.has(name); i++) name = `new_head_${i}`;
  const kernelInitializer = tf.initializers.glorotUniform({seed: seed + 1});
  const head = tf.layers.dense({units, activation, name, kernelInitializer});
  return tf.model({name: model.name, inputs: model.inputs, outputs: head.apply(below) as tf.SymbolicTensor});
}

/** What its activation is, if it has a head. */
export const oldActivation = (model: tf.LayersModel): string | undefined => {
  const found = findHead(model);
  return 'units' in found ? found.activation : undefined;
};

/** The layer that gives the output, also within models in the model. */
function lastOf(model: tf.LayersModel): Layer {
  const layer = model.outputs[0]!.sourceLayer as Layer;
  return 'layers' in layer ? lastOf(layer as unknown as tf.LayersModel) : layer;
}

function activationOf(layer: Layer): string {
  const {activation} = layer.getConfig();
  return typeof activation === 'string' ? activation : 'linear';
}
