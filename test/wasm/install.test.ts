import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterAll, expect, test} from 'vitest';

const names = [
  ...['BatchMatMul', '_FusedMatMul', 'UnsortedSegmentSum', 'Conv2DBackpropFilter', 'Conv2DBackpropInput'],
  ...['DepthwiseConv2dNativeBackpropFilter', 'DepthwiseConv2dNativeBackpropInput', 'Einsum', 'MaxPoolGrad'],
];
const registered = () => names.map(name => tf.getKernel(name, 'wasm'));
const stock = registered();

const {installWasmKernels} = await import('../../src/wasm/index.js');
afterAll(() => installWasmKernels()());

/** The gradient of an embedding, which the stock backend cannot do. */
const embeddingGradient = () =>
  tf.tidy(
    () =>
      [
        ...tf
          .grad(w => tf.gather(w, tf.tensor1d([1, 1], 'int32')).sum())(tf.ones([3, 1]))
          .dataSync(),
      ] as never,
  ) as unknown as number[];

test('the import replaced every kernel, before the backend was started', async () => {
  registered().forEach((kernel, i) => expect(kernel, names[i]).not.toBe(stock[i]));
  await tf.setBackend('wasm');
  expect(embeddingGradient()).toEqual([0, 2, 0]);
});

test('undo puts back what was there; a kernel there was not is gone', () => {
  expect(tf.getGradient('Einsum')).toBeDefined();
  const undo = installWasmKernels();
  expect(installWasmKernels()).toBe(undo);
  undo();
  expect(registered()).toEqual(stock);
  registered().forEach((kernel, i) => expect(kernel, names[i]).toBe(stock[i]));
  expect(tf.getGradient('Einsum')).toBeUndefined();
  expect(embeddingGradient).toThrow(/UnsortedSegmentSum/);
  undo();
  expect(registered()).toEqual(stock);
});

test('stock kernels replaced before the start work after undo: their set-up ran', () => {
  const product = tf.tidy(
    () => [...tf.matMul(tf.ones([1, 2]), tf.ones([1, 2]), false, true).dataSync()] as never,
  );
  expect(product).toEqual([2]);
  const dx = tf.tidy(
    () =>
      [
        ...tf
          .grad(x => tf.maxPool(x as tf.Tensor3D, 2, 2, 'valid').sum())(tf.tensor3d([1, 2, 3, 4], [2, 2, 1]))
          .dataSync(),
      ] as never,
  );
  expect(dx).toEqual([0, 0, 0, 1]);
});

test('installed again, with the backend running', () => {
  const undo = installWasmKernels();
  expect(embeddingGradient()).toEqual([0, 2, 0]);
  undo();
  expect(installWasmKernels()).not.toBe(undo);
});

test('a stale undo undoes nothing', () => {
  const stale = installWasmKernels();
  stale();
  const current = installWasmKernels();
  const ours = registered();
  stale();
  expect(installWasmKernels()).toBe(current);
  expect(registered()).toEqual(ours);
  expect(embeddingGradient()).toEqual([0, 2, 0]);
});

test('a gradient of einsum that was there stays', () => {
  installWasmKernels()();
  const own = {kernelName: 'Einsum', gradFunc: () => ({})};
  tf.registerGradient(own);
  installWasmKernels()();
  expect(tf.getGradient('Einsum')).toBe(own);
  tf.unregisterGradient('Einsum');
});
