import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {chooseBackend} from '../../../src/cli/backend.js';
import {bitsPerByte} from '../../../src/cli/byte-lm/evaluate.js';
import {byteTransformer, crossEntropy, generate, trainableVariables} from '../../../src/cli/byte-lm/model.js';
import {learningRate} from '../../../src/cli/byte-lm/pretrain.js';

const small = {context: 16, width: 16, blocks: 2, heads: 2};
let model: tf.LayersModel;
beforeAll(async () => {
  await chooseBackend('wasm');
  model = byteTransformer({...small, seed: 3});
});
afterAll(() => model.dispose());

const logitsOf = (m: tf.LayersModel, bytes: number[]) =>
  tf.tidy(() => (m.apply(tf.tensor2d([bytes], [1, bytes.length], 'int32')) as tf.Tensor).dataSync());

describe('the model', () => {
  test('has the size that ships and readable weight names', () => {
    const full = byteTransformer();
    expect(full.countParams()).toBe(875_520);
    const kernels = full.weights
      .map(weight => weight.originalName)
      .filter(name => name.startsWith('block3/'));
    expect(kernels).toEqual(
      [
        ...['attention/norm/gamma', 'attention/norm/beta'],
        ...['query', 'key', 'value', 'out'].flatMap(n => [`attention/${n}/kernel`, `attention/${n}/bias`]),
        ...['mlp/norm/gamma', 'mlp/norm/beta'],
        ...['mlp/up/kernel', 'mlp/up/bias', 'mlp/down/kernel', 'mlp/down/bias'],
      ].map(name => `block3/${name}`),
    );
    full.dispose();
  });

  test('its first weights follow from the seed', () => {
    const [same, other] = [3, 4].map(seed => byteTransformer({...small, seed}));
    const values = (m: tf.LayersModel) => m.getWeights().map(weight => [...weight.dataSync()]);
    expect(values(same!)).toEqual(values(model));
    expect(values(other!)).not.toEqual(values(model));
    tf.dispose([same!, other!].flatMap(m => trainableVariables(m)));
  });

  test('a byte never sees those after it', () => {
    const bytes = [5, 80, 200, 7, 7, 9];
    const whole = logitsOf(model, bytes);
    for (let length = 1; length < bytes.length; length++) {
      const start = logitsOf(model, bytes.slice(0, length));
      start.forEach((value, i) => expect(value).toBeCloseTo(whole[i]!, 5));
    }
    const other = logitsOf(model, [6, ...bytes.slice(1)]);
    expect(Math.abs(other.at(-1)! - whole.at(-1)!)).toBeGreaterThan(1e-6);
  });

  test('every weight has the same gradient on cpu and wasm', async () => {
    const gradients: number[][][] = [];
    for (const backend of ['cpu', 'wasm']) {
      await chooseBackend(backend);
      const own = byteTransformer({...small, seed: 3});
      const bytes = tf.tensor2d([1, 2, 3, 4, 5, 6, 250, 8], [2, 4], 'int32');
      const {value, grads} = tf.variableGrads(
        () => crossEntropy(bytes, own.apply(bytes) as tf.Tensor),
        trainableVariables(own),
      );
      gradients.push(trainableVariables(own).map(variable => [...grads[variable.name]!.dataSync()]));
      tf.dispose([bytes, value, grads]);
      own.dispose();
    }
    const [expected, actual] = gradients as [number[][], number[][]];
    expected.forEach((values, i) => {
      const largest = Math.max(1e-3, ...values.map(Math.abs));
      values.forEach((value, j) => expect(Math.abs(value - actual[i]![j]!)).toBeLessThan(1e-4 * largest));
    });
  });
});

describe('the loss', () => {
  test('is the mean cross-entropy in nats, also for large logits', () => {
    const logits = new Float32Array(2 * 256);
    logits[65] = 1000;
    const loss = tf.tidy(() =>
      crossEntropy(tf.tensor2d([65, 0], [1, 2], 'int32'), tf.tensor3d(logits, [1, 2, 256])).dataSync(),
    );
    expect(loss[0]).toBeCloseTo(Math.log(256) / 2, 5);
  });

  test('bits per byte weighs every window alike and leaves nothing behind', async () => {
    const bytes = Uint8Array.from({length: 101}, (_, i) => (i * 37) % 256);
    const tensors = tf.memory().numTensors;
    const batched = await bitsPerByte(model, bytes, {context: 10, batch: 3});
    const single = await bitsPerByte(model, bytes, {context: 10, batch: 1});
    expect(tf.memory().numTensors).toBe(tensors);
    expect(batched).toBeCloseTo(single, 5);
    expect(batched).toBeCloseTo(8, 0);
    expect(await bitsPerByte(model, bytes.subarray(0, 3))).toBeGreaterThan(0);
    await expect(bitsPerByte(model, bytes.subarray(0, 1))).rejects.toThrow(RangeError);
  });
});

test('generated text follows from the seed and begins with the prompt', async () => {
  const tensors = tf.memory().numTensors;
  const options = {bytes: 30, seed: 1, context: small.context};
  const text = await generate(model, 'The ', options);
  expect(text.startsWith('The ')).toBe(true);
  expect(await generate(model, 'The ', options)).toBe(text);
  expect(await generate(model, 'The ', {...options, seed: 2})).not.toBe(text);
  const greedy = await generate(model, '', {...options, temperature: 0});
  expect(await generate(model, '', {...options, temperature: 0, seed: 9})).toBe(greedy);
  expect(tf.memory().numTensors).toBe(tensors);
});

test('the learning rate rises, then falls', () => {
  const rates = [1, 50, 100, 1000, 3000].map(step => learningRate(step, 3000));
  expect(rates[0]).toBeCloseTo(rates[2]! / 100, 10);
  expect(rates[1]).toBeCloseTo(rates[2]! / 2, 10);
  expect(rates[3]).toBeLessThan(rates[2]!);
  expect(rates[4]).toBeCloseTo(1e-4, 10);
});
