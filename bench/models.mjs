// The same ways to train on two layers models: the shipped byte-level transformer, and a small conv net.
import {readFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {normal} from '../dist/index.js';
import {crossEntropy} from '../dist/cli/byte-lm/model.js';
import {loadModel} from '../dist/cli/files.js';
import {adam, allCandidates, alphaOverRank, factors, ours, stepOf} from './candidates.mjs';

const inRepository = path => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The model of examples/byte-lm, on windows of the license's text. */
function byteTransformer({batch, time}) {
  const text = readFileSync(inRepository('LICENSE'));
  const windows = shift =>
    Array.from({length: batch}, (_, i) =>
      Array.from(text.subarray(i * 300 + shift, i * 300 + shift + time), Number),
    );
  return {
    build: () => loadModel(inRepository('examples/byte-lm')),
    x: tf.tensor2d(windows(0), [batch, time], 'int32'),
    goal: tf.tensor2d(windows(1), [batch, time], 'int32'),
    loss: crossEntropy,
  };
}

/** Three 3 x 3 convolutions, the second and third with stride 2, and a dense layer on the mean over all places. */
function convNet({batch, side}) {
  const seeded = seed => tf.initializers.heNormal({seed});
  const conv = (filters, strides, seed, rest = {}) =>
    tf.layers.conv2d({
      filters,
      strides,
      kernelSize: 3,
      padding: 'same',
      kernelInitializer: seeded(seed),
      ...rest,
    });
  const build = () =>
    tf.sequential({
      layers: [
        conv(32, 1, 1, {inputShape: [side, side, 3]}),
        tf.layers.reLU(),
        conv(64, 2, 2),
        tf.layers.reLU(),
        conv(128, 2, 3),
        tf.layers.reLU(),
        tf.layers.globalAveragePooling2d({dataFormat: 'channelsLast'}),
        tf.layers.dense({units: 10, kernelInitializer: seeded(4)}),
      ],
    });
  const classes = Array.from({length: batch}, (_, i) => i % 10);
  return {
    build,
    x: normal([batch, side, side, 3], 1),
    goal: tf.oneHot(tf.tensor1d(classes, 'int32'), 10).toFloat(),
    loss: tf.losses.softmaxCrossEntropy,
  };
}

export const models = {transformer: byteTransformer, conv: convNet};

/** Dense and convolution layers: the ones that LoRA is put on. */
const targets = model => model.layers.filter(layer => ['Dense', 'Conv2D'].includes(layer.getClassName()));

const kernelOf = layer => layer.weights[0].read();

/** Puts LoRA beside a layer without activation: its call returns x W + s (x A) B. */
function writeByHand(layer, name, rank) {
  const {shape} = kernelOf(layer);
  const n = shape.at(-1);
  const [a, b] = factors(name, tf.util.sizeFromShape(shape) / n, n, rank);
  const call = layer.call.bind(layer);
  layer.call = (inputs, options) =>
    tf.tidy(() => {
      const x = Array.isArray(inputs) ? inputs[0] : inputs;
      const y = call(inputs, options);
      const change =
        shape.length === 4
          ? tf.conv2d(
              tf.conv2d(x, a.reshape([...shape.slice(0, 3), rank]), layer.strides, layer.padding),
              b.reshape([1, 1, rank, n]),
              1,
              'valid',
            )
          : tf.matMul(tf.matMul(x.reshape([-1, shape[0]]), a), b).reshape(y.shape);
      return tf.add(y, tf.mul(change, alphaOverRank));
    });
  return [a, b];
}

/** What each method trains, and with what. */
const methods = {
  adam: model => ({optimizer: adam(), variables: model.trainableWeights.map(weight => weight.read())}),
  layers: (model, id, rank) => ({
    optimizer: adam(),
    variables: targets(model).flatMap((layer, i) => writeByHand(layer, `${id}/${i}`, rank)),
  }),
  dense: (model, _, rank) => ({optimizer: ours(rank, 'dense'), variables: targets(model).map(kernelOf)}),
  tapped: (model, _, rank) => ({optimizer: ours(rank, 'auto'), variables: targets(model).map(kernelOf)}),
};

export const modelCandidates = (problem, rank) =>
  allCandidates
    .filter(([method]) => method in methods)
    .map(([method, kernels]) => ({
      method,
      kernels,
      make: async id => {
        const model = await problem.build();
        const {optimizer, variables} = methods[method](model, id, rank);
        const loss = () => problem.loss(problem.goal, model.apply(problem.x, {training: true}));
        return () => stepOf(optimizer, loss, variables);
      },
    }));
