import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {chooseBackend} from '../../src/cli/backend.js';

test('the fastest installed backend is taken', async () => {
  const {name, note} = await chooseBackend();
  expect(['tensorflow-gpu', 'tensorflow', 'webgpu', 'wasm']).toContain(name);
  expect(note).toContain(`${name}: the fastest`);
  if (name === 'wasm') expect(note).toMatch(/tensorflow-gpu, tensorflow not installed/);
});

test('a backend can be asked for', async () => {
  expect(await chooseBackend('cpu')).toMatchObject({name: 'cpu', version: tf.version.tfjs});
  expect((await chooseBackend('cpu')).advice).toBe('the cpu backend is slow; faster: --backend wasm');
  expect(tf.getBackend()).toBe('cpu');
  expect(await chooseBackend('wasm')).toMatchObject({name: 'wasm', version: '4.22.0', advice: undefined});
  expect(tf.getBackend()).toBe('wasm');
});

test('an unknown or missing backend is an error that lists the others', async () => {
  await expect(chooseBackend('abacus')).rejects.toThrow(/unknown backend "abacus".*wasm, cpu/);
  const native = await chooseBackend('tensorflow-gpu').catch((error: Error) => error);
  if (native instanceof Error) expect(native.message).toMatch(/not installed; there is .*wasm, cpu/);
});
