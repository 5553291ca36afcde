// Graph models of small grey images: made from a small layers model, read from a folder, kept in one.
import {readdirSync, readFileSync, statSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {loadAdapter, nodeFiles, saveAdapter} from 'tfjs-lora/adapter';

const text = value => ({s: Buffer.from(value).toString('base64')});
const ints = (...values) => ({list: {i: values}});
const strings = (...values) => ({list: {s: values.map(value => text(value).s)}});

/**
 * A net of convolutions, max poolings and dense layers as a frozen graph, as tensorflowjs_converter would write it: the
 * weights are constants, an activation is part of its convolution, and `logits` stands before the softmax.
 * @param {tf.Sequential} model with relu behind its convolutions and softmax at the end
 * @returns artifacts for tf.loadGraphModel
 */
export function asGraph(model) {
  const nodes = [];
  const weights = [];
  const add = (op, name, input, attr = {}) => nodes.push({name, op, input, attr}) && name;
  const constant = (name, tensor) => {
    weights.push({name, tensor});
    return add('Const', name, [], {dtype: {type: tensor.dtype === 'int32' ? 'DT_INT32' : 'DT_FLOAT'}});
  };
  const side = model.inputs[0].shape[1];
  const shape = {dim: [-1, side, side, 1].map(size => ({size}))};
  let last = add('Placeholder', 'image', [], {dtype: {type: 'DT_FLOAT'}, shape: {shape}});
  for (const layer of model.layers) {
    const {name} = layer;
    const own = layer.weights.map((weight, i) => constant(`${name}/${['kernel', 'bias'][i]}`, weight.read()));
    const window = {data_format: text('NHWC'), padding: text(layer.padding === 'same' ? 'SAME' : 'VALID')};
    const fused = activation => ({fused_ops: strings('BiasAdd', ...activation), num_args: {i: 1}});
    switch (layer.getClassName()) {
      case 'Conv2D': {
        const [strides, dilations] = [ints(1, ...layer.strides, 1), ints(1, 1, 1, 1)];
        last = add('_FusedConv2D', name, [last, ...own], {...window, strides, dilations, ...fused(['Relu'])});
        break;
      }
      case 'MaxPooling2D': {
        const [ksize, strides] = [layer.poolSize, layer.strides].map(([h, w]) => ints(1, h, w, 1));
        last = add('MaxPool', name, [last], {...window, ksize, strides});
        break;
      }
      case 'Flatten': {
        const size = layer.outputShape[1];
        last = add('Reshape', name, [last, constant(`${name}/shape`, tf.tensor1d([-1, size], 'int32'))]);
        break;
      }
      case 'Dense': {
        const {activation} = layer.getConfig();
        last = add('_FusedMatMul', activation === 'softmax' ? 'logits' : name, [last, ...own], fused([]));
        if (activation === 'tanh') last = add('Tanh', `${name}/Tanh`, [last]);
        break;
      }
      default:
        throw new Error(`${name}: a layer of ${layer.getClassName()} is not made into a graph here`);
    }
  }
  add('Softmax', 'probabilities', [last]);
  const values = weights.map(({tensor}) => tensor.dataSync().slice().buffer);
  return {
    format: 'graph-model',
    generatedBy: 'examples/graph-model.mjs',
    modelTopology: {node: nodes, versions: {producer: 440}},
    weightSpecs: weights.map(({name, tensor: {dtype, shape}}) => ({name, dtype, shape})),
    weightData: tf.io.CompositeArrayBuffer.join(values),
  };
}

/** The artifacts of NAME.json in a folder, with the weights that it names. */
export function readGraph(folder, name) {
  const {weightsManifest, ...rest} = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  const paths = weightsManifest.flatMap(group => group.paths);
  const bytes = Buffer.concat(paths.map(path => readFileSync(join(folder, path))));
  const weightSpecs = weightsManifest.flatMap(({weights}) => weights);
  return {...rest, weightSpecs, weightData: Uint8Array.from(bytes).buffer};
}

/** Writes adapter.safetensors and model/, a GraphModel with the adapter merged. @returns their sizes in bytes */
export async function keepGraph(folder, trainable, optimizer) {
  await saveAdapter(optimizer, address(folder), {model: trainable.variables});
  await trainable.save(nodeFiles(join(folder, 'model')));
  const size = path => statSync(path).size;
  const files = readdirSync(join(folder, 'model')).map(name => size(join(folder, 'model', name)));
  return {
    adapter: size(join(folder, 'adapter.safetensors')),
    model: files.reduce((sum, each) => sum + each, 0),
  };
}

/** Merges the adapter in a folder into a trainable GraphModel that is as it was before the training. */
export const readBackGraph = (folder, trainable) => loadAdapter(trainable.variables, address(folder));

const address = folder => `file://${join(folder, 'adapter.safetensors')}`;
