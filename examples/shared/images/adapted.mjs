// A trained image classifier for new classes: a new head, and three ways to train it. Runs in Node and in a browser.
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, projected} from 'tfjs-lora';
import {accuracy, fineTune} from './finetune.mjs';

/** A model from its files. */
export async function loadModel({modelTopology, weightSpecs, weightData}) {
  return tf.loadLayersModel(
    tf.io.fromMemory({modelTopology: withoutInputShapes(modelTopology), weightSpecs, weightData}),
  );
}

/** Some files, doodlenet's too, name an input shape for layers that come later, and a wrong one: tfjs warns of it. */
function withoutInputShapes(topology) {
  const copy = structuredClone(topology);
  const {config} = copy.model_config ?? {};
  for (const layer of (config?.layers ?? config ?? []).slice(1)) delete layer.config.batch_input_shape;
  return copy;
}

/**
 * The model up to the layer before its last, and a new last layer for `classes` classes, random from the seed. The
 * old last layer is freed.
 */
export function withNewHead(model, classes, seed) {
  const last = model.layers.at(-1);
  const head = tf.layers.dense({
    units: classes,
    activation: 'softmax',
    name: 'head',
    kernelInitializer: tf.initializers.glorotUniform({seed: seed + 1}),
  });
  const adapted = tf.model({inputs: model.inputs, outputs: head.apply(last.input)});
  last.dispose();
  return adapted;
}

/** A tenth of the steps up to the peak, then down to zero along a cosine. */
const falling = (peak, steps) => cosine(peak, {steps, warmup: Math.ceil(steps / 10)});

const adam = rate => tf.train.adam(rate, 0.9, 0.999, 1e-7);

/** LoRA on every kernel, the biases of the convolutions and the new head in full. */
const targets = [
  ['head', 'train'],
  [/conv.*bias/, 'train'],
  [/kernel/, lora({rank: 2})],
];

/**
 * Three ways to train, each with Adam and the same course of the rate. The peak of the rate, by task, is what was best
 * for each on validation images, never on the test images: bench/doodlenet.mjs searches for it.
 */
export const ways = {
  lora: {
    title: 'LoRA of rank 2, new head',
    peak: {digits: 5e-3, fashion: 1e-2},
    start: (model, peak, steps, seed) => ({
      optimizer: projected(adam(peak), lora({rank: 2}), {targets, learningRate: falling(peak, steps), seed}),
    }),
  },
  full: {
    title: 'every weight',
    peak: {digits: 2.5e-3, fashion: 5e-3},
    start: (model, peak, steps) => ({optimizer: adam(peak), rate: falling(peak, steps)}),
  },
  head: {
    title: 'new head only',
    peak: {digits: 2.5e-2, fashion: 5e-2},
    start: (model, peak, steps) => {
      for (const layer of model.layers) layer.trainable = layer.name === 'head';
      return {optimizer: adam(peak), rate: falling(peak, steps)};
    },
  },
};

/** The numbers that an optimizer trains of a model. */
export function trainedNumbers(model, optimizer) {
  if ('explain' in optimizer) {
    return optimizer.explain(model, null).reduce((sum, {trained}) => sum + trained, 0);
  }
  return model.trainableWeights.reduce((sum, {shape}) => sum + tf.util.sizeFromShape(shape), 0);
}

/**
 * Trains one model in one way and measures it.
 * @param make gives a new model with a new head
 * @param data.train the images to learn; data.check looked at while it trains; data.test measured at the end, and
 *   before too with options.before
 * @returns the result, and the model and optimizer, for the caller to keep or dispose
 */
export async function trainOnce(make, wayName, data, options) {
  const {peak, steps, batch, seed, classes, looks = 8, onStep} = options;
  const way = ways[wayName];
  const model = await make();
  const {optimizer, rate} = way.start(model, peak, steps, seed);
  const before = options.before ? await accuracy(model, data.test) : null;
  const checks = [];
  const look = async step => checks.push([step, await accuracy(model, data.check)]);
  await look(0);
  const lookEvery = Math.ceil(steps / looks);
  const start = performance.now();
  const losses = await fineTune(model, optimizer, data.train, {
    ...{steps, batch, seed, classes, rate, onStep, look, lookEvery},
  });
  const seconds = (performance.now() - start) / 1000;
  const result = {
    way: wayName,
    ...{seed, peak, steps, batch},
    backend: tf.getBackend(),
    trained: trainedNumbers(model, optimizer),
    of: model.countParams(),
    before,
    checked: checks.at(-1)[1],
    test: data.test ? await accuracy(model, data.test) : null,
    seconds: Math.round(seconds),
    losses: losses.map(loss => Number(loss.toFixed(4))),
    checks: checks.map(([step, share]) => [step, Number(share.toFixed(4))]),
  };
  return {result, model, optimizer};
}

/** What stock tfjs says to one step of training every weight; undefined where it trains. */
export async function stockError(make, images, classes) {
  const model = await make();
  const optimizer = adam(1e-3);
  try {
    await fineTune(model, optimizer, images, {steps: 1, batch: 2, seed: 0, classes});
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    optimizer.dispose();
    model.dispose();
  }
}
