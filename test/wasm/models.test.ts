/** Whole models train on wasm as on cpu. */
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {installWasmKernels} from '../../src/wasm/install.js';
import {expectClose, filled} from './agreement.js';

let undo: () => void;
beforeAll(async () => {
  undo = installWasmKernels();
  await tf.setBackend('wasm');
});
afterAll(() => undo());

const start = (seed: number) => tf.initializers.glorotNormal({seed});
const head = (units: number) => tf.layers.dense({units, kernelInitializer: start(9)});

const models: Record<string, {layers: () => tf.layers.Layer[]; x: () => tf.Tensor}> = {
  'convolution, pooling': {
    layers: () => [
      tf.layers.conv2d({
        filters: 6,
        kernelSize: 3,
        activation: 'relu',
        padding: 'same',
        inputShape: [9, 8, 2],
        kernelInitializer: start(1),
      }),
      tf.layers.maxPooling2d({poolSize: 2}),
      tf.layers.conv2d({filters: 4, kernelSize: [3, 2], strides: 2, kernelInitializer: start(2)}),
      tf.layers.flatten(),
      head(3),
    ],
    x: () => filled([4, 9, 8, 2], 1),
  },
  'depthwise and separable convolution': {
    layers: () => [
      tf.layers.depthwiseConv2d({
        kernelSize: 3,
        depthMultiplier: 2,
        activation: 'tanh',
        padding: 'same',
        inputShape: [7, 8, 3],
        depthwiseInitializer: start(3),
      }),
      tf.layers.separableConv2d({
        filters: 4,
        kernelSize: 3,
        strides: 2,
        depthwiseInitializer: start(4),
        pointwiseInitializer: start(5),
      }),
      tf.layers.globalAveragePooling2d({}),
      head(3),
    ],
    x: () => filled([4, 7, 8, 3], 2),
  },
  'embedding, LSTM': {
    layers: () => [
      tf.layers.embedding({inputDim: 11, outputDim: 6, inputLength: 5, embeddingsInitializer: start(6)}),
      tf.layers.lstm({
        units: 4,
        kernelInitializer: start(7),
        recurrentInitializer: tf.initializers.glorotNormal({seed: 8}),
      }),
      head(3),
    ],
    x: () => tf.tensor2d([1, 2, 2, 0, 10, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 0, 1, 0, 1, 0], [4, 5]),
  },
  'max pooling of negative inputs': {
    layers: () => [
      tf.layers.conv1d({filters: 5, kernelSize: 2, inputShape: [9, 3], kernelInitializer: start(10)}),
      tf.layers.dense({
        units: 5,
        kernelInitializer: start(11),
        biasInitializer: tf.initializers.constant({value: -9}),
      }),
      tf.layers.maxPooling1d({poolSize: 3, strides: 2}),
      tf.layers.flatten(),
      head(3),
    ],
    x: () => filled([4, 9, 3], 3),
  },
};

/** The weights after a few steps on a backend, and how many tensors and data ids the last steps left behind. */
async function train(backend: string, name: string) {
  await tf.setBackend(backend);
  const {layers, x: make} = models[name]!;
  const model = tf.sequential({layers: layers()});
  const optimizer = tf.train.momentum(0.1, 0.9);
  const x = make();
  const y = tf.oneHot(tf.tensor1d([0, 1, 2, 1], 'int32'), 3);
  const step = () =>
    optimizer.minimize(
      () => tf.losses.softmaxCrossEntropy(y, model.apply(x, {training: true}) as tf.Tensor) as tf.Scalar,
    );
  step();
  const [tensors, ids] = [tf.memory().numTensors, tf.backend().numDataIds()];
  for (let i = 0; i < 3; i++) step();
  const left = [tf.memory().numTensors - tensors, tf.backend().numDataIds() - ids];
  const weights = model.getWeights().map(weight => [...weight.dataSync()]);
  model.dispose();
  tf.dispose([x, y]);
  await tf.setBackend('wasm');
  return {weights, left};
}

test.each(Object.keys(models))('%s', async name => {
  const expected = await train('cpu', name);
  const actual = await train('wasm', name);
  expectClose(actual.weights, expected.weights, 1e-5);
  expect(actual.left).toEqual([0, 0]);
});
