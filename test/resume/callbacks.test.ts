import {mkdtempSync, readdirSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeAll, beforeEach, describe, expect, test, vi} from 'vitest';
import {type Checkpoints, checkpoints, latestCheckpoint, loadCheckpoint} from '../../src/adapter/index.js';
import {loraAdam} from '../../src/index.js';

let path: string;
let folder: string;
beforeAll(() => tf.setBackend('cpu'));
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'tfjs-lora-callbacks-'));
  folder = `file://${path}/run`;
});
afterEach(() => {
  rmSync(path, {recursive: true});
  tf.disposeVariables();
  vi.restoreAllMocks();
});

function compiled(isFunctional = false) {
  const dense = (units: number, name: string, seed: number) =>
    tf.layers.dense({units, name, kernelInitializer: tf.initializers.glorotUniform({seed})});
  const input = tf.input({shape: [4]});
  const model: tf.LayersModel = isFunctional
    ? tf.model({
        inputs: input,
        outputs: dense(3, 'two', 2).apply(dense(6, 'one', 1).apply(input)) as tf.SymbolicTensor,
      })
    : tf.sequential({
        layers: [tf.layers.inputLayer({inputShape: [4]}), dense(6, 'one', 1), dense(3, 'two', 2)],
      });
  model.compile({optimizer: loraAdam(0.02, {rank: 1}), loss: 'meanSquaredError'});
  return model;
}

const data = () => ({
  x: tf.randomNormal([8, 4], 0, 1, 'float32', 1),
  y: tf.randomNormal([8, 3], 0, 1, 'float32', 2),
});

describe('in a list of callbacks', () => {
  const stops = () => tf.callbacks.earlyStopping({monitor: 'loss'});
  const seen = vi.fn();
  const plain = () => ({onEpochEnd: (epoch: number) => seen('plain', epoch)});
  const custom = () => new tf.CustomCallback({onEpochEnd: epoch => void seen('custom', epoch)});
  /** What tfjs's fit takes; TypeScript has to agree without a cast. */
  type Callbacks = NonNullable<tf.ModelFitArgs['callbacks']>;
  const lists: Record<string, [make: (keeper: Checkpoints) => Callbacks, hears: string[]]> = {
    alone: [keeper => keeper, []],
    'alone in a list': [keeper => [keeper], []],
    'before earlyStopping': [keeper => [keeper, stops()], []],
    'after earlyStopping': [keeper => [stops(), keeper], []],
    'before a CustomCallback': [keeper => [keeper, custom()], ['custom']],
    'after a CustomCallback': [keeper => [custom(), keeper], ['custom']],
    'before a plain object': [keeper => [keeper, plain()], ['plain']],
    'after a plain object': [keeper => [plain(), keeper], ['plain']],
    'between two BaseCallbacks': [keeper => [stops(), keeper, custom()], ['custom']],
    wrapped: [keeper => [stops(), new tf.CustomCallback(keeper)], []],
    spread: [keeper => ({...keeper, ...plain()}), ['plain']],
  };
  for (const isFunctional of [false, true]) {
    test.each(Object.entries(lists))(
      `%s, of a ${isFunctional ? 'functional' : 'sequential'} model`,
      async (_, [make, hears]) => {
        seen.mockClear();
        const model = compiled(isFunctional);
        const {x, y} = data();
        const keeper = checkpoints(model, folder, {every: {steps: 3}});
        const history = await model.fit(x, y, {batchSize: 2, epochs: 2, verbose: 0, callbacks: make(keeper)});
        expect(history.history['loss']).toHaveLength(2);
        expect(readdirSync(join(path, 'run')).sort()).toEqual([
          '000001-step-3',
          '000002-step-6',
          '000003-step-8',
        ]);
        expect(seen.mock.calls).toEqual(hears.flatMap(name => [0, 1].map(epoch => [name, epoch])));
      },
    );
  }

  test('one keeper, in lists of either kind after another, and of optimizer and model', async () => {
    const model = compiled();
    const {x, y} = data();
    const keeper = checkpoints({optimizer: model.optimizer, model}, folder, {every: {steps: 4}, keep: 9});
    for (const callbacks of [
      [keeper, plain()],
      keeper,
      [keeper, stops()],
      [keeper, plain()],
    ] as Callbacks[]) {
      await model.fit(x, y, {batchSize: 2, verbose: 0, callbacks});
    }
    expect(readdirSync(join(path, 'run'))).toHaveLength(4);
  });

  test('by fitDataset', async () => {
    const model = compiled();
    const {x, y} = data();
    const rows = (of: tf.Tensor) => tf.data.array(of.arraySync() as number[][]);
    const dataset = tf.data.zip({xs: rows(x), ys: rows(y)} as never);
    const keeper = checkpoints(model, folder, {every: {steps: 3}});
    await model.fitDataset(dataset.batch(2), {epochs: 1, verbose: 0, callbacks: [keeper, stops()]});
    expect(readdirSync(join(path, 'run')).sort()).toEqual(['000001-step-3', '000002-step-4']);
  });

  test('nothing else is taken for a callback, and the model is left as it was', () => {
    const model = compiled();
    const before = Object.keys(model);
    const {numTensors} = tf.memory();
    const keeper = checkpoints(model, folder, {every: {steps: 3}});
    expect(keeper instanceof tf.Callback).toBe(false);
    expect({} instanceof tf.Callback).toBe(false);
    expect(stops() instanceof tf.Callback).toBe(true);
    expect(custom() instanceof tf.Callback).toBe(false);
    expect(Object.keys(model)).toEqual(before);
    expect(tf.memory().numTensors).toBe(numTensors);
  });
});

describe('every so many epochs', () => {
  test('a run goes on at initialEpoch to the weights of one that did not stop', async () => {
    const {x, y} = data();
    const fit = {batchSize: 2, shuffle: false, verbose: 0} as const;
    const weights = (model: tf.LayersModel) => model.getWeights().map(weight => [...weight.dataSync()]);
    const whole = compiled();
    await whole.fit(x, y, {...fit, epochs: 5});

    const first = compiled();
    const keeper = checkpoints(first, folder, {
      every: {epochs: 2},
      data: ({step, epochs}) => ({step, epochs}),
    });
    await first.fit(x, y, {
      ...fit,
      epochs: 4,
      callbacks: [keeper, tf.callbacks.earlyStopping({monitor: 'loss'})],
    });
    expect(readdirSync(join(path, 'run')).sort()).toEqual(['000001-step-8', '000002-step-16']);
    rmSync(join(path, 'run/000002-step-16'), {recursive: true});

    const second = compiled();
    const {data: at} = await loadCheckpoint(second, (await latestCheckpoint(folder))!);
    expect(at).toEqual({step: 8, epochs: 2});
    const keeper2 = checkpoints(second, folder, {every: {epochs: 2}, data: ({epochs}) => ({epochs})});
    const {epochs: initialEpoch} = at as {epochs: number};
    await second.fit(x, y, {...fit, epochs: 5, initialEpoch, callbacks: keeper2});
    expect(weights(second)).toEqual(weights(whole));
    expect(readdirSync(join(path, 'run')).sort()).toEqual([
      '000001-step-8',
      '000002-step-16',
      '000003-step-20',
    ]);
    expect((await loadCheckpoint(second, `${folder}/000003-step-20`)).data).toEqual({epochs: 5});
  });

  test('step() by hand never saves then', async () => {
    const model = compiled();
    const {x, y} = data();
    const keeper = checkpoints(model, folder, {every: {epochs: 1}});
    await model.trainOnBatch(x, y);
    expect(await keeper.step()).toBe(null);
  });
});
