import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import type {Gradient} from '../../src/capture/gradient.js';
import {denseGradients, tapGradients} from '../../src/capture/tape.js';
import {normal} from '../../src/index.js';
import {expectClose, numTensors, values} from '../helpers.js';

/** Fused ops as GraphModels have them, most of them frozen: conv (trained) -> conv -> matMul -> matMul of a product. */
function network() {
  const tensor = (shape: number[], seed: number) =>
    tf.tidy(() => normal([1, tf.util.sizeFromShape(shape)], seed).reshape(shape));
  const x = tensor([2, 5, 5, 3], 1) as tf.Tensor4D;
  const trained = tf.variable(tensor([3, 3, 3, 4], 2)) as tf.Variable<tf.Rank.R4>;
  const frozen = tf.variable(tensor([3, 3, 4, 2], 3)) as tf.Variable<tf.Rank.R4>;
  const dense = tf.variable(tensor([50, 6], 4)) as tf.Variable<tf.Rank.R2>;
  const made = tf.variable(tensor([6, 3], 5)) as tf.Variable<tf.Rank.R2>;
  // Not a view: wasm looks at the shape that its data came with.
  const bias = tf.variable(tf.tensor1d(values(tensor([6], 6)))) as tf.Variable<tf.Rank.R1>;
  const loss = (): tf.Scalar => {
    const conv = (input: tf.Tensor4D, filter: tf.Tensor4D) =>
      tf.fused.conv2d({x: input, filter, strides: 1, pad: 'same', activation: 'linear'});
    const flat = conv(conv(x, trained), frozen).reshape([2, 50]) as tf.Tensor2D;
    const hidden = tf.fused.matMul({a: flat, b: dense, bias, activation: 'linear'});
    // The matrix of the last one is computed: its gradient is asked for.
    const last = tf.fused.matMul({a: hidden as tf.Tensor2D, b: tf.mul(made, 2), activation: 'linear'});
    return tf.mean(tf.square(last));
  };
  return {loss, trained, made, bias, frozen, dense, x};
}

describe.each(['cpu', 'wasm'])('fused ops of frozen weights, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test('give what lies before them the gradients that tfjs gives', async () => {
    const {loss, trained, made, bias, ...rest} = network();
    const tensors = numTensors();
    const collect = (weights: readonly tf.Variable[]) => {
      const found = new Map<tf.Variable, number[]>();
      const take = (weight: tf.Variable, gradient: Gradient) =>
        found.set(
          weight,
          tf.tidy(() => values(gradient.dense())),
        );
      return {found, take, weights};
    };
    const ours = collect([trained, made, bias]);
    tf.dispose(tapGradients(loss, ours.weights, ours.take));
    // On wasm tfjs has no gradient of a filter: there it is asked on the cpu backend.
    await tf.setBackend('cpu');
    const theirs = collect([trained, made, bias]);
    tf.dispose(denseGradients(loss, theirs.weights, theirs.take));
    await tf.setBackend(backend);
    for (const weight of [trained, made, bias])
      expectClose(ours.found.get(weight)!, theirs.found.get(weight)!, 1e-5);
    expect(numTensors()).toBe(tensors);
    tf.dispose([trained, made, bias, ...Object.values(rest)]);
  });

  test('form no gradient that nobody asked for', async () => {
    const {loss, trained, made, ...rest} = network();
    const {kernelNames} = await tf.profile(() => {
      tf.dispose(tapGradients(loss, [trained], gradient => void gradient));
      return [];
    });
    expect(kernelNames.filter(name => /Conv2DBackpropFilter/.test(name))).toEqual([]);
    tf.dispose([trained, made, ...Object.values(rest)]);
  });
});
