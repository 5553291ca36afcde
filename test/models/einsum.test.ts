import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {expect, test} from 'vitest';
import {loraSgd} from '../../src/index.js';
import {trainableGraphModel} from '../../src/models/trainable-graph-model.js';
import {installWasmKernels} from '../../src/wasm/install.js';
import {values} from '../helpers.js';
import {attention} from './graph.js';

test('a gradient that was registered opens the way: Einsum, with the kernels of tfjs-lora/wasm', async () => {
  await tf.setBackend('wasm');
  const undo = installWasmKernels();
  const ids = tf.tensor2d([1, 2, 3, 3, 8, 0, 1, 7], [2, 4], 'int32');
  const steps = await Promise.all(
    (['Einsum', 'BatchMatMulV2'] as const).map(async scores => {
      const trainable = trainableGraphModel(await attention(scores).load());
      expect(trainable.blocked).toEqual([]);
      const optimizer = loraSgd(0.1, {rank: 1});
      const variables = Object.values(trainable.variables);
      optimizer.minimize(() => tf.sum(tf.square(trainable.apply(ids))), false, variables);
      const after = variables.map(values);
      optimizer.dispose();
      trainable.restore();
      return after;
    }),
  );
  steps[0]!.forEach((w, i) => w.forEach((x, j) => expect(x).toBeCloseTo(steps[1]![i]![j]!, 5)));
  undo();
});
