import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {loraAdam, normal} from '../../src/index.js';
import {freezeBatchNorm} from '../../src/models/freeze-batch-norm.js';
import {numTensors, values} from '../helpers.js';
import {onEachBackend} from '../host/backends.js';

/** 4 steps of 5 -> dense 6, norm -> a model with a norm -> a norm in a wrapper -> 1. */
function build(): tf.LayersModel {
  const inner = tf.sequential({
    name: 'inner',
    layers: [tf.layers.batchNormalization({name: 'nested', inputShape: [4, 6]})],
  });
  return tf.sequential({
    layers: [
      tf.layers.dense({
        units: 6,
        inputShape: [4, 5],
        kernelInitializer: tf.initializers.glorotNormal({seed: 1}),
      }),
      tf.layers.batchNormalization({name: 'plain'}),
      inner,
      tf.layers.timeDistributed({name: 'wrapper', layer: tf.layers.batchNormalization({name: 'wrapped'})}),
      tf.layers.flatten(),
      tf.layers.dense({units: 1, kernelInitializer: tf.initializers.glorotNormal({seed: 2})}),
    ],
  });
}

/** Numbers by the names of weights that match. */
const numbers = (model: tf.LayersModel, pattern: RegExp) =>
  model.weights
    .filter(({originalName}) => pattern.test(originalName))
    .map(weight => values(weight.read() as tf.Tensor));
const statistics = (model: tf.LayersModel) => numbers(model, /moving_(mean|variance)$/);
const gains = (model: tf.LayersModel) => numbers(model, /(gamma|beta)$/);

const data = () =>
  [
    normal([8 * 4, 5], 3)
      .add(2)
      .reshape([8, 4, 5]),
    normal([8, 1], 4),
  ] as const;

async function fit(model: tf.LayersModel, optimizer: tf.Optimizer = tf.train.sgd(0.001)): Promise<number[]> {
  const [x, y] = data();
  model.compile({optimizer, loss: 'meanSquaredError'});
  const {history} = await model.fit(x, y, {epochs: 3, batchSize: 4, shuffle: false, verbose: 0});
  return history['loss'] as number[];
}

onEachBackend('freezeBatchNorm', () => {
  test('tfjs moves the statistics of layers that are not trainable', async () => {
    const model = build();
    model.getLayer('plain').trainable = false;
    const before = statistics(model);
    await fit(model);
    expect(before).toHaveLength(6);
    statistics(model).forEach((now, i) => expect(now).not.toEqual(before[i]));
    model.dispose();
  });

  test('frozen they stay bit by bit, in the model, in models within and in wrappers, and the rest trains', async () => {
    const model = build();
    const thaw = freezeBatchNorm(model);
    const [before, gainsBefore] = [statistics(model), gains(model)];
    const losses = await fit(model);
    expect(gains(model).flat().every(Number.isFinite)).toBe(true);
    expect(statistics(model)).toEqual(before);
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    expect(gainsBefore).toHaveLength(6);
    gains(model).forEach((now, i) => expect(now).not.toEqual(gainsBefore[i]));
    thaw();
    thaw();
    await fit(model);
    statistics(model).forEach((now, i) => expect(now).not.toEqual(before[i]));
    model.dispose();
  });

  test('gains of a layer that is not trainable stay too', async () => {
    const model = build();
    const layer = model.getLayer('plain');
    layer.trainable = false;
    freezeBatchNorm(model);
    const before = layer.getWeights().map(values);
    await fit(model);
    expect(layer.getWeights().map(values)).toEqual(before);
    model.dispose();
  });

  test('a step is that of the model as it predicts', async () => {
    const [model, other] = [build(), build()];
    freezeBatchNorm(model);
    const [x, y] = data();
    const sgd = tf.train.sgd(0.001);
    model.compile({optimizer: tf.train.sgd(0.001), loss: 'meanSquaredError'});
    await model.trainOnBatch(x, y);
    const trained = other.trainableWeights.map(weight => weight.read() as tf.Variable);
    sgd.minimize(
      () => tf.mean(tf.square(tf.sub(other.apply(x) as tf.Tensor, y))) as tf.Scalar,
      false,
      trained,
    );
    expect(model.getWeights().map(values)).toEqual(other.getWeights().map(values));
    model.dispose();
    other.dispose();
  });

  test('with LoRA, and no more tensors are left than without', async () => {
    // For this model fit leaves some without freezing too.
    const left = async (isFrozen: boolean) => {
      const model = build();
      if (isFrozen) freezeBatchNorm(model);
      const before = statistics(model);
      const optimizer = loraAdam(0.002, {rank: 1, rest: 'train'});
      await fit(model, optimizer);
      const tensors = numTensors();
      const [x, y] = data();
      await model.fit(x, y, {epochs: 2, batchSize: 4, verbose: 0});
      tf.dispose([x, y]);
      const more = numTensors() - tensors;
      if (isFrozen) expect(statistics(model)).toEqual(before);
      optimizer.dispose();
      model.dispose();
      return more;
    };
    expect(await left(true)).toBeLessThanOrEqual(await left(false));
  });

  test('undoing leaves the layers as they were, whoever came before or since', () => {
    const model = build();
    const layer = model.getLayer('plain');
    const [first, second] = [freezeBatchNorm(model), freezeBatchNorm(model)];
    first();
    expect(Object.hasOwn(layer, 'call')).toBe(true);
    second();
    first();
    expect(Object.hasOwn(layer, 'call')).toBe(false);
    model.dispose();
  });

  test('a model without one is refused', () => {
    const model = tf.sequential({name: 'bare', layers: [tf.layers.dense({units: 1, inputShape: [2]})]});
    expect(() => freezeBatchNorm(model)).toThrow('the model bare has no BatchNormalization layer');
    model.dispose();
  });

  test('a class made from BatchNormalization is one, under a name of its own; one that is alike is not', async () => {
    const Norm = tf.layers.batchNormalization().constructor as new (config: object) => tf.layers.Layer;
    class Own extends Norm {
      static className = 'OwnNorm';
    }
    class Alike extends tf.layers.Layer {
      static className = 'BatchNormalizationLike';
      override call = (x: tf.Tensor | tf.Tensor[]) => [x].flat()[0]!;
    }
    const model = tf.sequential({
      layers: [tf.layers.dense({units: 6, inputShape: [4, 5]}), new Own({}), tf.layers.flatten()],
    });
    model.add(tf.layers.dense({units: 1}));
    const before = statistics(model);
    expect(before).toHaveLength(2);
    const thaw = freezeBatchNorm(model);
    await fit(model);
    expect(statistics(model)).toEqual(before);
    thaw();
    await fit(model);
    expect(statistics(model)).not.toEqual(before);
    const none = tf.sequential({layers: [new Alike({inputShape: [2]})]});
    expect(() => freezeBatchNorm(none)).toThrow('has no BatchNormalization layer');
  });
});
