import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {installWasmKernels} from '../../src/wasm/install.js';

test('without the wasm backend the error says what to import, and nothing is registered', () => {
  expect(installWasmKernels).toThrow(/import @tensorflow\/tfjs-backend-wasm first/);
  expect(tf.getGradient('Einsum')).toBeUndefined();
  expect(tf.getKernel('UnsortedSegmentSum', 'wasm')).toBeUndefined();
});
