import * as tf from '@tensorflow/tfjs';
import {expect} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {adapterOf} from '../../src/adapter/adapter-of.js';
import {namedWeights, type WeightsOf} from '../../src/adapter/paths.js';
import {
  lora,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptimizer,
  type ProjectedOptions,
} from '../../src/index.js';
import {relativeError} from '../helpers.js';

export const adam = (rate = 0.02) => tf.train.adam(rate, 0.9, 0.999, 1e-7);

/** The numbers of every weight, by path. */
export const numbers = (model: WeightsOf): Record<string, number[]> =>
  Object.fromEntries([...namedWeights(model)].map(([path, w]) => [path, Array.from(w.dataSync())]));

/** Puts every weight where `numbers` found it. */
export function restore(model: WeightsOf, from: Record<string, number[]>): void {
  for (const [path, variable] of namedWeights(model)) {
    tf.tidy(() => variable.assign(tf.tensor(from[path]!, variable.shape)));
  }
}

/** The largest relative error of any weight. */
export function worst(got: Record<string, number[]>, want: Record<string, number[]>): number {
  expect(Object.keys(got)).toEqual(Object.keys(want));
  return Math.max(...Object.keys(want).map(path => relativeError(got[path]!, want[path]!)));
}

/** A few steps along random gradients; the optimizer. */
export function train(
  model: WeightsOf,
  p: Parametrization = lora({rank: 2}),
  options: ProjectedOptions = {},
  steps = 4,
  seed = 1,
): ProjectedOptimizer {
  const optimizer = projected(adam(), p, options);
  const weights = [...namedWeights(model).values()].filter(w => w.trainable);
  for (let step = 0; step < steps; step++) {
    tf.tidy(() =>
      optimizer.applyGradients(
        weights.map((w, i) => ({name: w.name, tensor: normal(w.shape, 1000 * seed + 10 * step + i)})),
      ),
    );
  }
  return optimizer;
}

/** An adapter of this model, which is left as it was. */
export async function learned(
  model: WeightsOf,
  p?: Parametrization,
  options: ProjectedOptions = {},
  seed = 1,
): Promise<{adapter: Adapter; base: Record<string, number[]>; trained: Record<string, number[]>}> {
  const base = numbers(model);
  const optimizer = train(model, p, options, 4, seed);
  const adapter = await adapterOf(optimizer, model);
  optimizer.dispose();
  const trained = numbers(model);
  restore(model, base);
  return {adapter, base, trained};
}

const init = (seed: number) => tf.initializers.glorotNormal({seed});

/** 6 -> 8 -> 8 -> 3, names of our own or, without, those of tfjs. */
export function mlp(names: readonly string[] = ['hidden', 'middle', 'out'], seed = 1): tf.Sequential {
  const name = (i: number) => (names[i] === undefined ? {} : {name: names[i]});
  return tf.sequential({
    layers: [
      tf.layers.dense({...name(0), inputShape: [6], units: 8, kernelInitializer: init(seed)}),
      tf.layers.dense({...name(1), units: 8, kernelInitializer: init(seed + 10)}),
      tf.layers.dense({...name(2), units: 3, kernelInitializer: init(seed + 20)}),
    ],
  });
}

/** Convolution, batch normalisation, a nested model that is used twice, an LSTM both ways. */
export function zoo(seed = 1): tf.LayersModel {
  const inner = tf.sequential({
    name: 'block',
    layers: [
      tf.layers.dense({name: 'mix', inputShape: [8], units: 8, kernelInitializer: init(seed)}),
      tf.layers.dense({name: 'shape', units: 8, kernelInitializer: init(seed + 1)}),
    ],
  });
  const image = tf.input({shape: [6, 6, 2]});
  const tokens = tf.input({shape: [4]});
  const conv = tf.layers
    .conv2d({name: 'conv', filters: 8, kernelSize: 3, kernelInitializer: init(seed + 2)})
    .apply(image) as tf.SymbolicTensor;
  const normed = tf.layers.batchNormalization({name: 'norm'}).apply(conv) as tf.SymbolicTensor;
  const pooled = tf.layers.globalAveragePooling2d({name: 'pool'} as never).apply(normed) as tf.SymbolicTensor;
  const embedded = tf.layers
    .embedding({name: 'embed', inputDim: 20, outputDim: 8, embeddingsInitializer: init(seed + 3)})
    .apply(tokens) as tf.SymbolicTensor;
  const read = tf.layers
    .bidirectional({
      name: 'both',
      layer: tf.layers.lstm({
        name: 'lstm',
        units: 4,
        kernelInitializer: init(seed + 4),
        recurrentInitializer: init(seed + 5),
      }) as tf.RNN,
      mergeMode: 'concat',
    })
    .apply(embedded) as tf.SymbolicTensor;
  const once = inner.apply(pooled) as tf.SymbolicTensor;
  const twice = inner.apply(read) as tf.SymbolicTensor;
  const sum = tf.layers.add({name: 'sum'}).apply([once, twice]) as tf.SymbolicTensor;
  const out = tf.layers
    .dense({name: 'head', units: 5, kernelInitializer: init(seed + 6)})
    .apply(sum) as tf.SymbolicTensor;
  return tf.model({name: 'zoo', inputs: [image, tokens], outputs: out});
}

export const zooInput = (seed = 1): tf.Tensor[] => [
  normal([3, 6, 6, 2], seed),
  tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 19], [3, 4]),
];

/** Saves and loads again, as a file would. */
export async function reloaded(model: tf.LayersModel): Promise<tf.LayersModel> {
  let saved: tf.io.ModelArtifacts | undefined;
  await model.save(
    tf.io.withSaveHandler(async artifacts => {
      saved = artifacts;
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  return tf.loadLayersModel(tf.io.fromMemory(saved!));
}
