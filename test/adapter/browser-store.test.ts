import {expect, test} from 'vitest';
import type * as TF from '@tensorflow/tfjs-core';

// tfjs registers its stores for browsers as it is imported, so what they look for has to be there before.
const kept = new Map<string, string>();
const localStorage = {
  get length() {
    return kept.size;
  },
  key: (i: number) => [...kept.keys()][i] ?? null,
  getItem: (key: string) => kept.get(key) ?? null,
  setItem: (key: string, value: string) => void kept.set(key, value),
  removeItem: (key: string) => void kept.delete(key),
};
Object.assign(globalThis, {window: {document: {}, localStorage, fetch}});

test('localstorage:// keeps an adapter, and tfjs lists, copies and removes it', async () => {
  const tf = (await import('@tensorflow/tfjs-core')) as typeof TF;
  await import('@tensorflow/tfjs-backend-cpu');
  await tf.setBackend('cpu');
  const {readAdapter, saveAdapter} = await import('../../src/adapter/save.js');
  const {lora} = await import('../../src/index.js');
  const adapter = {
    weights: [
      {
        path: 'k',
        shape: [2, 3],
        parametrization: lora({rank: 1}),
        factors: {
          a: {shape: [2, 1], values: Float32Array.of(0.1, 2)},
          b: {shape: [1, 3], values: Float32Array.of(3, 4, 1e-40)},
        },
        frozen: {},
        base: null,
      },
    ],
    generatedBy: 'test',
    metadata: {},
  };
  await saveAdapter(adapter, 'localstorage://mine');
  expect(Object.keys(await tf.io.listModels())).toEqual(['localstorage://mine']);
  await tf.io.copyModel('localstorage://mine', 'localstorage://copy');
  await tf.io.removeModel('localstorage://mine');
  expect(Object.keys(await tf.io.listModels())).toEqual(['localstorage://copy']);
  const read = await readAdapter('localstorage://copy');
  expect(read.weights[0]!.factors).toEqual(adapter.weights[0]!.factors);
  await expect(readAdapter('localstorage://mine')).rejects.toThrow(/no model with name 'mine'/);
});
