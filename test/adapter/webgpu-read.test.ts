import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeEach, expect, test, vi} from 'vitest';
import {fromPeft} from '../../src/adapter/peft/from-peft.js';
import {toPeft} from '../../src/adapter/peft/to-peft.js';
import {encodeSafetensors} from '../../src/adapter/safetensors.js';
import {lora} from '../../src/index.js';
import {learned} from './learned.js';

// A backend that says it is webgpu; test/places runs the real one.
tf.copyRegisteredKernels('cpu', 'webgpu');
const engine = tf.engine() as unknown as {backendName: string};

beforeEach(() => tf.setBackend('cpu'));
afterEach(() => {
  engine.backendName = 'cpu';
  tf.disposeVariables();
  vi.restoreAllMocks();
});

test('toPeft reads no frozen weight there, and says which it needs', () => {
  const {adapter} = learned({'a/kernel': [3, 4], 'norm/gamma': [4], 'norm/beta': [4]}, lora({rank: 1}), {
    targets: 'a/kernel',
    rest: 'train',
  });
  const model = {
    'a/kernel': tf.variable(tf.ones([3, 4])),
    'norm/gamma': tf.variable(tf.ones([4])),
    'norm/beta': tf.variable(tf.ones([4])),
    'norm/moving_mean': tf.variable(tf.zeros([4])),
    'norm/moving_variance': tf.variable(tf.ones([4])),
  };
  expect(() => toPeft(adapter, {model})).not.toThrow();
  engine.backendName = 'webgpu';
  const readSync = vi.spyOn(tf.backend(), 'readSync');
  expect(() => toPeft(adapter, {model})).toThrow(
    /^toPeft: norm\/moving_mean \[4\] must be read here, and the webgpu backend cannot/,
  );
  expect(() => toPeft(adapter, {names: path => (path === 'a/kernel' ? 'a' : null)})).not.toThrow();
  expect(readSync).not.toHaveBeenCalled();
});

test('fromPeft reads no base there, and says which it needs', () => {
  const values = (size: number) => new Float32Array(size).fill(1);
  const tensors = {
    'base_model.model.e.lora_embedding_A': {shape: [1, 3], values: values(3)},
    'base_model.model.e.lora_embedding_B': {shape: [4, 1], values: values(4)},
    'base_model.model.e.base_layer.weight': {shape: [3, 4], values: values(12)},
  };
  const weights = encodeSafetensors({tensors: new Map(Object.entries(tensors)), metadata: {}});
  const config = {peft_type: 'LORA', r: 1, lora_alpha: 1, target_modules: ['e']};
  const model = {'e/embeddings': tf.variable(tf.ones([3, 4]))};
  expect(() => fromPeft({config, weights}, {model})).not.toThrow();
  engine.backendName = 'webgpu';
  const readSync = vi.spyOn(tf.backend(), 'readSync');
  expect(() => fromPeft({config, weights}, {model})).toThrow(
    /^fromPeft: e\/embeddings \[3,4\] must be read here, and the webgpu backend cannot/,
  );
  expect(readSync).not.toHaveBeenCalled();
});
