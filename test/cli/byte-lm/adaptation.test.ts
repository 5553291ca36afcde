import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {adapterOf} from '../../../src/adapter/adapter-of.js';
import {mergeAdapter} from '../../../src/adapter/merge.js';
import {chooseBackend} from '../../../src/cli/backend.js';
import {adaptation} from '../../../src/cli/byte-lm/adaptation.js';
import {byteTransformer} from '../../../src/cli/byte-lm/model.js';
import {innerNames, innerOptimizer} from '../../../src/cli/inner.js';
import {UsageError} from '../../../src/cli/usage-error.js';
import {loraAdam} from '../../../src/index.js';

beforeAll(async () => {
  await chooseBackend('wasm');
});

const text = new TextEncoder().encode('the same few words again and '.repeat(40));
const small = {context: 16, width: 16, blocks: 1, heads: 2, seed: 2};
const run = {steps: 30, seed: 0, batch: 4, context: 16};
const lora = {rank: 2, alpha: 4, seed: 0};

const weightsOf = (model: tf.LayersModel) => model.getWeights().map(weight => [...weight.dataSync()]);

describe('adaptation', () => {
  test('lowers the loss, follows from the seed, reports every step and leaves nothing behind', async () => {
    const losses: number[][] = [];
    for (let i = 0; i < 2; i++) {
      const model = byteTransformer(small);
      const tensors = tf.memory().numTensors;
      const optimizer = loraAdam(0.02, {...lora, targets: modelKernels(model)});
      const steps: number[] = [];
      const {loss, msPerStep} = await adaptation(model, optimizer, text, {
        ...run,
        onStep: ({step}) => steps.push(step),
      });
      expect(steps).toEqual(Array.from({length: run.steps}, (_, step) => step + 1));
      expect(loss.length).toBe(run.steps);
      expect(loss.at(-1)!).toBeLessThan(loss[0]! - 1);
      expect(msPerStep).toBeGreaterThan(0);
      losses.push(loss);
      optimizer.dispose();
      expect(tf.memory().numTensors).toBe(tensors);
      model.dispose();
    }
    expect(losses[0]).toEqual(losses[1]);
  });

  test('stopped early, it leaves an adapter that makes the same model out of the base', async () => {
    const model = byteTransformer(small);
    const optimizer = loraAdam(0.02, {...lora, targets: modelKernels(model)});
    const stop = new AbortController();
    const onStep = ({step}: {step: number}) => {
      if (step === 5) process.emit('SIGINT');
    };
    process.once('SIGINT', () => stop.abort());
    const {loss} = await adaptation(model, optimizer, text, {...run, onStep, signal: stop.signal});
    expect(loss.length).toBe(5);

    const adapter = await adapterOf(optimizer, model);
    const base = byteTransformer(small);
    expect(weightsOf(base)).not.toEqual(weightsOf(model));
    await mergeAdapter(base, adapter);
    const [expected, actual] = [weightsOf(model), weightsOf(base)];
    expected.forEach((values, i) =>
      values.forEach((value, j) => expect(actual[i]![j]).toBeCloseTo(value, 5)),
    );
    const other = byteTransformer({...small, blocks: 0});
    await expect(mergeAdapter(other, adapter)).rejects.toThrow(/the adapter is for another model: it has no/);
    optimizer.dispose();
    for (const m of [model, base, other]) m.dispose();
  });
});

/** The kernels by their present names: a second model in one process has numbered ones. */
function modelKernels(model: tf.LayersModel): string[] {
  return model.weights.filter(weight => weight.shape.length === 2).map(weight => weight.name);
}

test('every inner optimizer can be built by name', () => {
  for (const name of innerNames) innerOptimizer(name, 0.01).dispose();
  expect(() => innerOptimizer('newton', 0.01)).toThrow(UsageError);
});
