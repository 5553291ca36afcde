import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeAll, beforeEach, describe, expect, test} from 'vitest';
import {
  adapterOf,
  checkpoints,
  loadAdapter,
  loadCheckpoint,
  readAdapter,
  saveAdapter,
  saveCheckpoint,
} from '../../src/adapter/index.js';
import {dora, loraAdam, lora, projected, type ProjectedOptimizer} from '../../src/index.js';

let folder: string;
beforeAll(() => tf.setBackend('cpu'));
beforeEach(() => {
  folder = `file://${mkdtempSync(join(tmpdir(), 'tfjs-lora-bound-'))}`;
});
afterEach(() => {
  rmSync(folder.slice(7), {recursive: true});
  tf.disposeVariables();
});

const ADAM = () => loraAdam(0.02, {rank: 2});

function compiled(optimizer: tf.Optimizer = ADAM(), names: (string | undefined)[] = ['one', 'two']) {
  const dense = (units: number, i: number) =>
    tf.layers.dense({
      units,
      ...(names[i] && {name: names[i]}),
      kernelInitializer: tf.initializers.glorotUniform({seed: i + 1}),
      ...(i === 0 && {inputShape: [6]}),
    });
  const model = tf.sequential({layers: [dense(8, 0), dense(5, 1)]});
  model.compile({optimizer, loss: 'meanSquaredError'});
  return model;
}

const x = tf.randomNormal([12, 6], 0, 1, 'float32', 1);
const y = tf.randomNormal([12, 5], 0, 1, 'float32', 2);
const fit = (model: tf.LayersModel, epochs = 2) =>
  model.fit(x, y, {epochs, batchSize: 4, shuffle: false, verbose: 0});
const weights = (model: tf.LayersModel) => model.getWeights().map(weight => [...weight.dataSync()]);
const ours = (model: tf.LayersModel) => model.optimizer as ProjectedOptimizer;

/** Saved with its optimizer and loaded again: tfjs calls the weights otherwise now. */
async function reloaded(model: tf.LayersModel): Promise<tf.LayersModel> {
  let artifacts: tf.io.ModelArtifacts;
  const handler = tf.io.withSaveHandler(async given => {
    artifacts = given;
    return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
  });
  await model.save(handler, {includeOptimizer: true});
  return tf.loadLayersModel(tf.io.fromMemory(artifacts!));
}

describe('a run that was loaded with its model, before its first step', () => {
  const ways: Record<string, (model: tf.LayersModel) => Promise<unknown>> = {
    'saveCheckpoint of the model': model => saveCheckpoint(model, folder),
    'saveCheckpoint of the optimizer and the model': model =>
      saveCheckpoint(model.optimizer, folder, {model}),
    'checkpoints().save()': async model => {
      folder = await checkpoints(model, folder, {every: {steps: 1}}).save();
    },
  };
  test.each(Object.entries(ways))('%s: another goes on from it, bit for bit', async (_, save) => {
    const root = folder;
    const whole = compiled();
    await fit(whole);
    const model = await reloaded(whole);
    await save(model);
    const next = compiled();
    expect(await loadCheckpoint(next, folder)).toMatchObject({step: 6});
    folder = root;
    expect(weights(next)).toEqual(weights(whole));
    await Promise.all([await fit(next), await fit(whole), await fit(model)]);
    expect(weights(next)).toEqual(weights(whole));
    expect(weights(model)).toEqual(weights(whole));
  });

  test('without the model it is refused, and says what to give', async () => {
    const first = compiled();
    await fit(first);
    const model = await reloaded(first);
    const {optimizer} = model;
    await expect(saveCheckpoint(optimizer, folder)).rejects.toThrow(
      /a state of one\/kernel\S*, two\/kernel\S*, and has not seen these weights yet: give the model/,
    );
    await expect(adapterOf(optimizer)).rejects.toThrow(/has not seen these weights yet: give the model/);
    const other = tf.variable(tf.ones([30, 30]), true, 'other');
    await expect(saveCheckpoint(optimizer, folder, {model: {other}})).rejects.toThrow();
    await saveCheckpoint(model, folder);
  });

  test('saveAdapter and adapterOf give what was trained', async () => {
    const first = compiled();
    await fit(first);
    const model = await reloaded(first);
    const text = async (of: tf.LayersModel) => JSON.stringify((await adapterOf(of.optimizer, of)).weights);
    expect(await text(model)).toBe(await text(first));
    const file = `${folder}/a.safetensors`;
    await saveAdapter(await reloaded(first), file);
    expect((await readAdapter(file)).weights.map(({path}) => path)).toEqual(['one/kernel', 'two/kernel']);
    const plain = compiled();
    await loadAdapter(plain, file);
    weights(plain).forEach((values, i) =>
      values.forEach((value, j) => expect(value).toBeCloseTo(weights(first)[i]![j]!, 5)),
    );
  });

  test('bind: attached, factors, base and explain know it; a second time changes nothing', async () => {
    const first = compiled();
    await fit(first);
    const model = await reloaded(first);
    const optimizer = ours(model);
    expect(optimizer.attached).toHaveLength(0);
    expect(optimizer.waiting).toHaveLength(2);
    const {numTensors} = tf.memory();
    optimizer.bind(model);
    optimizer.bind(model);
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(optimizer.waiting).toEqual([]);
    expect(optimizer.attached.map(({name}) => name)).toEqual(ours(first).attached.map(({name}) => name));
    const kernel = model.layers[0]!.weights[0]!.read() as tf.Variable;
    const before = first.layers[0]!.weights[0]!.read() as tf.Variable;
    expect([...optimizer.factors(kernel)['a']!.dataSync()]).toEqual([
      ...ours(first).factors(before)['a']!.dataSync(),
    ]);
    expect([...optimizer.base(kernel).dataSync()]).toEqual([...ours(first).base(before).dataSync()]);
    const rows = (of: tf.LayersModel) =>
      ours(of)
        .explain(of, null)
        .map(({trained, stateBytes}) => [trained, stateBytes]);
    expect(rows(model)).toEqual(rows(first));
    await Promise.all([await fit(model), await fit(first)]);
    expect(weights(model)).toEqual(weights(first));
  });

  test('bind is all or nothing', async () => {
    const first = compiled();
    await fit(first);
    const {optimizer: next} = {optimizer: ADAM()};
    await next.setWeights(await first.optimizer.getWeights());
    const [one] = first.layers.map(layer => layer.weights[0]!.read() as tf.Variable);
    const wrong = tf.variable(tf.ones([9, 9]), true, 'two/kernel');
    const {numTensors} = tf.memory();
    expect(() => next.bind([one!, wrong])).toThrow(/is for the shape \[8,5\]/);
    expect(next.attached).toHaveLength(0);
    expect(tf.memory().numTensors).toBe(numTensors);
    next.bind(first);
    expect(next.attached).toHaveLength(2);
  });

  test('a layer that is frozen for now is part of the checkpoint and of the adapter', async () => {
    const first = compiled();
    await fit(first);
    const model = await reloaded(first);
    model.layers[0]!.trainable = false;
    await saveCheckpoint(model, folder);
    expect((await adapterOf(model.optimizer, model)).weights.map(({path}) => path)).toEqual([
      'one/kernel',
      'two/kernel',
    ]);
  });
});

describe('loadCheckpoint', () => {
  test('is bound at once: what was loaded can be saved, shipped and looked at', async () => {
    const whole = compiled();
    await fit(whole);
    await saveCheckpoint(whole, folder);
    const model = compiled();
    await loadCheckpoint(model, folder);
    expect(ours(model).attached).toHaveLength(2);
    expect((await adapterOf(model.optimizer)).weights).toHaveLength(2);
    await saveAdapter(model, `${folder}/a.safetensors`);
    await saveCheckpoint(model.optimizer, `${folder}/again`);
    const next = compiled();
    await loadCheckpoint(next.optimizer, `${folder}/again`, {model: next});
    await Promise.all([await fit(next), await fit(whole), await fit(model)]);
    expect(weights(next)).toEqual(weights(whole));
    expect(weights(model)).toEqual(weights(whole));
  });

  test('finds the weights of a model whose layers tfjs numbered anew', async () => {
    const none = [undefined, undefined];
    const first = compiled(ADAM(), none);
    await fit(first);
    await saveCheckpoint(first, folder);
    const next = compiled(ADAM(), none);
    expect(next.layers[0]!.name).not.toBe(first.layers[0]!.name);
    await loadCheckpoint(next, folder);
    await Promise.all([await fit(next), await fit(first)]);
    expect(weights(next)).toEqual(weights(first));
  });

  test.each([
    ['before it was compiled', true],
    ['afterwards', false],
  ])('a layer that was frozen %s must be frozen, and one that was not must not', async (_, isBefore) => {
    const frozen = () => {
      const model = compiled();
      model.layers[0]!.trainable = false;
      // Compiling again makes the variables trainable; the layer is not.
      if (isBefore) model.compile({optimizer: ADAM(), loss: 'meanSquaredError'});
      return model;
    };
    const first = frozen();
    const start = weights(first);
    await fit(first);
    expect(weights(first).map((values, i) => String(values) === String(start[i]))).toEqual(
      first.weights.map(({name}) => !/two.kernel/.test(name)),
    );
    await saveCheckpoint(first, folder);
    const next = compiled();
    const before = weights(next);
    await expect(loadCheckpoint(next, folder)).rejects.toThrow(
      /one\/kernel was frozen when this .* is trainable now: set trainable = false on its layer before/,
    );
    expect(weights(next)).toEqual(before);
    const again = frozen();
    await loadCheckpoint(again, folder);
    await Promise.all([await fit(again), await fit(first)]);
    expect(weights(again)).toEqual(weights(first));
    const all = compiled();
    await fit(all);
    await saveCheckpoint(all, folder);
    await expect(loadCheckpoint(frozen(), folder)).rejects.toThrow(/was trainable when .* is frozen now/);
  });

  test('a frozen layer that no rule trains may be trainable', async () => {
    const make = () => compiled(loraAdam(0.02, {rank: 2, targets: /two/}));
    const first = make();
    first.layers[0]!.trainable = false;
    await fit(first);
    await saveCheckpoint(first, folder);
    const next = make();
    await loadCheckpoint(next, folder);
    await Promise.all([await fit(next), await fit(first)]);
    first.layers[0]!.trainable = true; // tfjs lists frozen weights last
    expect(weights(next)).toEqual(weights(first));
  });

  test('the learning rate of the checkpoint wins; one set afterwards counts', async () => {
    const first = compiled(loraAdam(0.02, {rank: 2}));
    await fit(first);
    await saveCheckpoint(first, folder);
    const next = compiled(loraAdam(0.5, {rank: 2}));
    await loadCheckpoint(next, folder);
    expect(ours(next).learningRate).toBe(0.02);
    ours(next).setLearningRate(0.01);
    await fit(next);
    expect(ours(next).learningRate).toBe(0.01);
  });

  test('what is no checkpoint, no optimizer or no model says so in a line of text', async () => {
    writeFileSync(`${folder.slice(7)}/x.safetensors`, new Uint8Array(64).fill(200));
    const model = compiled();
    await expect(loadCheckpoint(model, `${folder}/x.safetensors`)).rejects.toThrow(
      /^loadCheckpoint: \S* is an address for an adapter/,
    );
    await expect(saveCheckpoint(model, `${folder}/y.safetensors`)).rejects.toThrow(
      /^saveCheckpoint: .* adapter/,
    );
    const sgd = compiled(tf.train.sgd(0.1));
    await expect(saveCheckpoint(sgd, folder)).rejects.toThrow(/must be one of tfjs-lora, .* is SGD/);
    await expect(loadCheckpoint(sgd.optimizer, folder)).rejects.toThrow(
      /must be one of tfjs-lora, .* is SGD/,
    );
    await expect(adapterOf(sgd.optimizer, sgd)).rejects.toThrow(/adapterOf: .* must be one of tfjs-lora/);
    await expect(saveCheckpoint(undefined as never, folder)).rejects.toThrow(/is undefined/);
    const bare = tf.sequential({layers: [tf.layers.dense({units: 2, inputShape: [3]})]});
    await expect(saveCheckpoint(bare, folder)).rejects.toThrow(/the model was not compiled/);
  });
});

describe('weights that were disposed', () => {
  const step = (optimizer: tf.Optimizer, weight: tf.Variable) =>
    optimizer.minimize(() => tf.mean(tf.square(weight)) as tf.Scalar, false, [weight]);

  test('saveCheckpoint and adapterOf name them', async () => {
    for (const dispose of [(weight: tf.Variable) => weight.dispose(), () => tf.disposeVariables()]) {
      const optimizer = ADAM();
      const weight = tf.variable(tf.randomNormal([8, 8], 0, 1, 'float32', 3), true, 'mine');
      step(optimizer, weight);
      dispose(weight);
      await expect(saveCheckpoint(optimizer, folder)).rejects.toThrow(
        /saveCheckpoint: mine \[8,8\], which the optimizer trains, was disposed/,
      );
      await expect(adapterOf(optimizer)).rejects.toThrow(/adapterOf: mine \[8,8\], .* was disposed/);
      await expect(adapterOf(optimizer, {w: weight})).rejects.toThrow(
        /adapterOf: mine \[8,8\], .* was disposed/,
      );
      optimizer.dispose();
    }
  });

  test('one that nothing trains is named by its path', async () => {
    const optimizer = ADAM();
    const [weight, other] = ['mine', 'other'].map(name => tf.variable(tf.ones([8, 8]), true, name));
    step(optimizer, weight!);
    other!.dispose();
    await expect(saveCheckpoint(optimizer, folder, {model: {w: weight!, o: other!}})).rejects.toThrow(
      /the model's o was disposed/,
    );
  });
});

describe('setWeights', () => {
  test('of what getWeights gave, any number of times', async () => {
    const model = compiled();
    await fit(model);
    const whole = compiled();
    await fit(whole);
    const {optimizer} = model;
    const list = await optimizer.getWeights();
    const {numTensors} = tf.memory();
    for (let i = 0; i < 3; i++) await optimizer.setWeights(list);
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(list.some(({tensor}) => tensor.isDisposed)).toBe(false);
    expect((await adapterOf(optimizer, model)).weights).toHaveLength(2);
    await Promise.all([await fit(model), await fit(whole)]);
    expect(weights(model)).toEqual(weights(whole));
  });

  test('of what has ended, or is no state, changes nothing', async () => {
    const model = compiled();
    await fit(model);
    const {optimizer} = model;
    const list = await optimizer.getWeights();
    const copies = list.map(({name, tensor}) => ({name, tensor: tensor.clone()}));
    await optimizer.setWeights(copies);
    ours(model).bind(model);
    await expect(optimizer.setWeights(list)).rejects.toThrow(
      /was disposed\. getWeights hands out live tensors/,
    );
    const spoilt = copies.map(({name, tensor}) =>
      /slot.*\/0$/.test(name) ? {name, tensor: tf.zeros([3, 3])} : {name, tensor},
    );
    expect(spoilt.some(({tensor}, i) => tensor !== copies[i]!.tensor)).toBe(true);
    const {numTensors} = tf.memory();
    await expect(optimizer.setWeights(spoilt)).rejects.toThrow(/which is of no factor/);
    await expect(optimizer.setWeights(copies.slice(1))).rejects.toThrow(
      /not the weights of a ProjectedOptimizer/,
    );
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(ours(model).attached).toHaveLength(2);
    const whole = compiled();
    await fit(whole);
    await Promise.all([await fit(model), await fit(whole)]);
    expect(weights(model)).toEqual(weights(whole));
  });

  test('with a base that is kept, and for one inner optimizer for each factor', async () => {
    const makes = [
      () => loraAdam(0.02, {rank: 2, keepBase: true, rest: 'train' as const}),
      () => projected(() => tf.train.adam(0.02, 0.9, 0.999, 1e-7), lora({rank: 2})),
      () => projected(tf.train.momentum(0.02, 0.9), dora({rank: 2})),
    ];
    for (const make of makes) {
      const whole = compiled(make());
      await fit(whole);
      const next = compiled(make());
      next.layers.forEach((layer, i) => layer.setWeights(whole.layers[i]!.getWeights()));
      await next.optimizer.setWeights(await whole.optimizer.getWeights());
      ours(next).bind(next);
      expect(ours(next).attached.length).toBeGreaterThan(1);
      await Promise.all([await fit(next), await fit(whole)]);
      expect(weights(next)).toEqual(weights(whole));
    }
  });
});
