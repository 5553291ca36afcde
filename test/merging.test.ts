import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, describe, expect, test} from 'vitest';
import {
  type Additive,
  loraAdam,
  loraFA,
  loraSB,
  lora,
  osf,
  type Parametrization,
  projected,
} from '../src/index.js';
import {relativeError, values} from './helpers.js';

afterEach(() => tf.disposeVariables());

const network = () =>
  tf.sequential({
    layers: [
      tf.layers.dense({units: 24, inputShape: [16], activation: 'tanh', name: 'up'}),
      tf.layers.dense({units: 20, name: 'down'}),
    ],
  });
const data = () => ({
  x: tf.randomNormal([32, 16], 0, 1, 'float32', 1),
  y: tf.randomNormal([32, 20], 0, 1, 'float32', 2),
});

/** What the network would give with these kernels. */
const forward = (x: tf.Tensor, [up, down]: readonly tf.Tensor[], [p, q]: readonly tf.Tensor[]) =>
  tf.add(
    tf.matMul(tf.tanh(tf.add(tf.matMul(x as tf.Tensor2D, up as tf.Tensor2D), p!)), down as tf.Tensor2D),
    q!,
  );

describe.each(['cpu', 'wasm'])('merged weights on %s', backend => {
  test.each([
    ['lora', lora({rank: 2, alpha: 6}), {}],
    ['lora, base kept', lora({rank: 2, alpha: 6}), {keepBase: true}],
    ['loraFA', loraFA({rank: 3}), {}],
    ['osf', osf({rank: 2, protect: 3}), {}],
    ['loraSB', loraSB({rank: 4}), {}],
  ] as const)('predict = the network with base + delta, %s', async (_, p, options) => {
    expect(await tf.setBackend(backend)).toBe(true);
    const model = network();
    const {x, y} = data();
    const before = model.weights.map(weight => values(weight.read()));
    const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), p as Parametrization, options);
    model.compile({optimizer, loss: 'meanSquaredError'});
    const untouched = values(model.predict(x) as tf.Tensor);
    await model.fit(x, y, {epochs: 6, batchSize: 16, verbose: 0});

    const kernels = ['up/kernel', 'down/kernel'].map(name => optimizer.attached.find(a => a.name === name)!);
    const merged = kernels.map(({weight, factors, frozen}) =>
      tf.add(optimizer.base(weight), (p as Additive).delta({factors, frozen})),
    );
    const biases = model.weights.filter(weight => /bias/.test(weight.name)).map(weight => weight.read());
    const got = values(model.predict(x) as tf.Tensor);
    expect(relativeError(got, values(forward(x, merged, biases)))).toBeLessThan(1e-5);
    expect(relativeError(got, untouched)).toBeGreaterThan(0.05);
    const bases = kernels.map(({weight}) => values(optimizer.base(weight)));
    [before[0]!, before[2]!].forEach((w, i) =>
      expect(relativeError(bases[i]!, w)).toBeLessThanOrEqual('keepBase' in options ? 0 : 1e-5),
    );

    // Assigning the base takes what was learned away again.
    for (const {weight} of kernels) weight.assign(optimizer.base(weight) as tf.Tensor2D);
    expect(relativeError(values(model.predict(x) as tf.Tensor), untouched)).toBeLessThan(1e-5);
    optimizer.dispose();
  });

  test('a saved model is merged, and holds nothing of this library', async () => {
    expect(await tf.setBackend(backend)).toBe(true);
    const model = network();
    const {x, y} = data();
    model.compile({optimizer: loraAdam(0.02, {rank: 2}), loss: 'meanSquaredError'});
    await model.fit(x, y, {epochs: 3, verbose: 0});
    let saved: tf.io.ModelArtifacts | undefined;
    await model.save(
      tf.io.withSaveHandler(
        async artifacts => (
          (saved = artifacts),
          {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}}
        ),
      ),
    );
    expect(saved!.weightSpecs!.map(({name}) => name)).toEqual(
      model.weights.map(({originalName}) => originalName),
    );
    expect(JSON.stringify({...saved, weightData: null})).not.toMatch(/tfjs-lora|Projected/);
    const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved!));
    const wanted = values(model.predict(x) as tf.Tensor);
    expect(values(loaded.predict(x) as tf.Tensor)).toEqual(wanted);
    (model.optimizer as unknown as {dispose(): void}).dispose();
    expect(values(model.predict(x) as tf.Tensor)).toEqual(wanted);
  });
});
