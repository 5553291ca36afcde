import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeAll, beforeEach, describe, expect, test} from 'vitest';
import {nodeFiles} from '../../src/adapter/files.js';
import {
  cosine,
  every,
  lora,
  loraAdam,
  normal,
  projected,
  type ProjectedOptimizer,
  type ProjectedOptions,
} from '../../src/index.js';
import {type LoadCheckpointOptions, loadCheckpoint, saveCheckpoint} from '../../src/resume/index.js';
import {digestOf} from '../../src/resume/save.js';
import {changesOf, failingAt} from '../adapter/failing-files.js';
import {digestOfWeights} from './digest.js';

let folder: string;
beforeAll(() => tf.setBackend('cpu'));
beforeEach(() => {
  folder = `file://${mkdtempSync(join(tmpdir(), 'tfjs-lora-resume-'))}`;
});
afterEach(() => {
  rmSync(folder.slice(7), {recursive: true});
  tf.disposeVariables();
});

/** The dense network of these tests, with names of your own; its first bias is never trained. */
function net(names = ['a', 'b'], [inputs, units] = [6, 5]) {
  const w1 = tf.variable(normal([inputs!, units!], 1), true, `${names[0]}/kernel`);
  const w2 = tf.variable(normal([units!, 4], 2), true, `${names[1]}/kernel`);
  const bias = tf.variable(normal([units!], 3), true, `${names[0]}/bias`);
  const model = {one: w1, two: w2, 'one/bias': bias};
  const step = (optimizer: tf.Optimizer, i: number) =>
    tf.tidy(() => {
      const x = normal([8, inputs!], 100 + i) as tf.Tensor2D;
      const out = () =>
        tf.matMul(tf.add(tf.matMul(x, w1 as tf.Tensor2D), bias) as tf.Tensor2D, w2 as tf.Tensor2D);
      optimizer.minimize(() => tf.mean(tf.square(out())) as tf.Scalar, false, [w1, w2, bias]);
    });
  return {model, step, digest: () => digestOfWeights(Object.values(model))};
}

const adam = (rank = 2, options: ProjectedOptions = {}) =>
  projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), lora({rank}), {targets: /kernel/, ...options});

async function saved(optimizer = adam(), at = folder, data: unknown = null) {
  const {model, step} = net();
  for (let i = 0; i < 3; i++) step(optimizer, i);
  await saveCheckpoint(optimizer, at, {model, data});
  return {model, step, optimizer};
}

/** The numbers of an optimizer's state. */
const stateOf = async (optimizer: ProjectedOptimizer) =>
  (await optimizer.getWeights()).map(({name, tensor}) => [name, [...tensor.dataSync()]]);

describe('saving', () => {
  test('leaks nothing, also when it fails, and gives the data back', async () => {
    const {model, optimizer} = await saved();
    const before = tf.memory().numTensors;
    await saveCheckpoint(optimizer, folder, {model});
    const broken = tf.io.withSaveHandler(() => Promise.reject(new Error('full')));
    await expect(saveCheckpoint(optimizer, broken, {model})).rejects.toThrow('full');
    await expect(saveCheckpoint(optimizer, 'nowhere://x', {model})).rejects.toThrow(/Known here/);
    await expect(saveCheckpoint(optimizer, folder, {model, data: {a: [NaN]}})).rejects.toThrow(
      /data\.a\[0\] is NaN/,
    );
    await expect(saveCheckpoint(optimizer, folder, {model, data: new Date()})).rejects.toThrow(
      /object of a class/,
    );
    await expect(saveCheckpoint(optimizer, folder, {model, data: {f: () => 1}})).rejects.toThrow(
      /data\.f is a function/,
    );
    await expect(saveCheckpoint(optimizer, folder, {modle: model} as never)).rejects.toThrow(
      /unknown option 'modle'/,
    );
    const {one} = model;
    await expect(saveCheckpoint(optimizer, folder, {model: {one}})).rejects.toThrow(
      /trains b\/kernel, which the model/,
    );
    expect(tf.memory().numTensors).toBe(before);
    const data = {epoch: 2, seen: ['é', null, true, 1.5]};
    await saveCheckpoint(optimizer, folder, {model, data});
    expect(await loadCheckpoint(optimizer, folder, {model})).toEqual({step: 3, data});
  });

  test('is of the moment of the call, though training goes on at once', async () => {
    const {model, step, optimizer} = await saved();
    const wanted = digestOfWeights(Object.values(model));
    const state = await stateOf(optimizer);
    const saving = saveCheckpoint(optimizer, folder, {model});
    step(optimizer, 3);
    step(optimizer, 4);
    await saving;
    expect((await loadCheckpoint(optimizer, folder, {model})).step).toBe(3);
    expect(digestOfWeights(Object.values(model))).toBe(wanted);
    expect(await stateOf(optimizer)).toEqual(state);
  });

  test('holds trained weights and statistics, and of what nothing moves a digest only', async () => {
    const {model, optimizer} = await saved();
    const still = tf.variable(tf.zeros([1000]), true, 'still');
    const statistics = tf.variable(tf.zeros([7]), false, 'statistics');
    await saveCheckpoint(optimizer, folder, {model: {...model, still, statistics}});
    const {weightSpecs} = await nodeFiles(folder.slice(7)).load!();
    const names = weightSpecs!.map(({name}) => name).filter(name => name.startsWith('model/'));
    expect(names).toEqual(['model/one', 'model/two', 'model/statistics']);
    statistics.assign(tf.ones([7]));
    const all = {...model, still, statistics};
    await loadCheckpoint(optimizer, folder, {model: all});
    expect([...statistics.dataSync()]).toEqual([0, 0, 0, 0, 0, 0, 0]);
    still.assign(tf.ones([1000]));
    await expect(loadCheckpoint(optimizer, folder, {model: all})).rejects.toThrow(/still is not what it was/);
  });

  test('a read that failed is tried again, also where a clone is a copy', async () => {
    const weight = tf.variable(tf.ones([3]), true, 'w');
    const broken = tf.zeros([3]);
    broken.data = () => Promise.reject(new Error('the device was lost'));
    expect(broken.dataId).not.toBe(weight.dataId);
    await expect(digestOf(weight, () => broken)).rejects.toThrow('lost');
    expect(await digestOf(weight, tensor => tensor.clone())).toMatch(/^[0-9a-f]{16}$/);
  });

  test('broken off anywhere it leaves the checkpoint before, or is there itself', async () => {
    const {model, step, optimizer} = await saved(adam(), folder, 'old');
    const path = folder.slice(7);
    const count = await changesOf(fs => saveCheckpoint(optimizer, nodeFiles(path, fs), {model, data: 'old'}));
    const seen = new Set<unknown>();
    for (let n = 0; n < count + 2; n++) {
      await saveCheckpoint(optimizer, folder, {model, data: 'old'});
      step(optimizer, n);
      const failing = nodeFiles(path, failingAt(n, n % 2 === 0).fs);
      await saveCheckpoint(optimizer, failing, {model, data: 'new'}).catch(() => {});
      seen.add((await loadCheckpoint(optimizer, folder, {model})).data);
    }
    expect([...seen].sort()).toEqual(['new', 'old']);
  });
});

describe('loading', () => {
  test('into variables of other names, by path', async () => {
    const {model, step, optimizer} = await saved();
    const names = Object.values(model).map(({name}) => name);
    const other = net(['x', 'y']);
    const resumed = adam();
    await loadCheckpoint(resumed, folder, {model: other.model});
    for (let i = 3; i < 6; i++) {
      step(optimizer, i);
      other.step(resumed, i);
    }
    expect(other.digest()).toBe(digestOfWeights(Object.values(model)));
    expect(Object.values(other.model).map(({name}) => name)).not.toEqual(names);
  });

  test('back into the optimizer it came from, without a model', async () => {
    const {model, step, optimizer} = await saved();
    await saveCheckpoint(optimizer, folder);
    const run = () => {
      for (let i = 3; i < 6; i++) step(optimizer, i);
      return digestOfWeights(Object.values(model));
    };
    const wanted = run();
    await loadCheckpoint(optimizer, folder);
    expect(run()).toBe(wanted);
    await expect(loadCheckpoint(adam(), folder)).rejects.toThrow(/say of which model it is/);
  });

  test('saved again before the first step it is the same checkpoint', async () => {
    const make = () =>
      projected(
        ({factor}) => tf.train.adam(factor === 'b' ? 0.04 : 0.01, 0.9, 0.999, 1e-7),
        lora({rank: 2}),
        {
          targets: /kernel/,
        },
      );
    const first = make();
    const {model, step} = net();
    for (let i = 0; i < 3; i++) step(first, i);
    first.setLearningRate(0.002);
    await saveCheckpoint(first, folder, {model});
    const second = make();
    await loadCheckpoint(second, folder, {model});
    await saveCheckpoint(second, `${folder}/again`, {model});
    const third = make();
    await loadCheckpoint(third, `${folder}/again`, {model});
    const begin = Object.values(model).map(weight => weight.clone());
    step(first, 3);
    const wanted = digestOfWeights(Object.values(model));
    Object.values(model).forEach((weight, i) => weight.assign(begin[i] as tf.Tensor2D));
    step(third, 3);
    expect(digestOfWeights(Object.values(model))).toBe(wanted);
  });

  test('leaves no tensor besides the state, and nothing after dispose', async () => {
    const {model, optimizer} = await saved();
    optimizer.dispose();
    const before = tf.memory().numTensors;
    const resumed = adam();
    await loadCheckpoint(resumed, folder, {model});
    const after = tf.memory().numTensors;
    await loadCheckpoint(resumed, folder, {model});
    expect(tf.memory().numTensors).toBe(after);
    resumed.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('counts steps that were passed over', async () => {
    const optimizer = adam(2, {nonFinite: 'skip'});
    const {model, step} = net();
    step(optimizer, 0);
    const {one} = model;
    optimizer.minimize(() => tf.sum(tf.mul(one, NaN)) as tf.Scalar, false, [one]);
    expect(optimizer.skipped).toBe(1);
    await saveCheckpoint(optimizer, folder, {model});
    const resumed = adam(2, {nonFinite: 'skip'});
    await loadCheckpoint(resumed, folder, {model});
    expect(resumed.skipped).toBe(1);
  });

  test('a learning rate set by hand after loading counts, for what is made later too', async () => {
    const make = () => projected(() => tf.train.sgd(0.01), lora({rank: 2}), {targets: /kernel/});
    const {model, step} = await saved(make());
    const resumed = make();
    await loadCheckpoint(resumed, folder, {model});
    step(resumed, 3);
    resumed.setLearningRate(0);
    await saveCheckpoint(resumed, folder, {model});
    const again = make();
    await loadCheckpoint(again, folder, {model});
    const before = digestOfWeights(Object.values(model));
    step(again, 4);
    expect(digestOfWeights(Object.values(model))).toBe(before);
  });
});

describe('what does not fit is said, and nothing has changed', () => {
  /** Tries to load, and looks whether anything moved. */
  async function refused(optimizer: ProjectedOptimizer, options: LoadCheckpointOptions, message: RegExp) {
    const variables = Object.values(options.model as Record<string, tf.Variable>);
    const look = async () => [digestOfWeights(variables), await stateOf(optimizer), optimizer.learningRate];
    const before = await look();
    const tensors = tf.memory().numTensors;
    await expect(loadCheckpoint(optimizer, folder, options)).rejects.toThrow(message);
    expect(await look()).toEqual(before);
    expect(tf.memory().numTensors).toBe(tensors);
  }

  /** An optimizer in the middle of a training of its own. */
  function busy(optimizer: ProjectedOptimizer, names = ['p', 'q'], size?: [number, number]) {
    const {model, step} = net(names, size);
    for (let i = 0; i < 2; i++) step(optimizer, 50 + i);
    return {model, optimizer, step};
  }

  const options: [string, () => ProjectedOptimizer, RegExp][] = [
    ['rank', () => adam(3), /option parametrization: lora\.rank was 2 .* is 3 now/],
    ['accumulate', () => adam(2, {accumulate: 2}), /option accumulate was 1 .* is 2 now/],
    ['weightDecay', () => adam(2, {weightDecay: 0.1}), /option weightDecay was 0 .* is 0\.1 now/],
    ['clipNorm', () => adam(2, {clipNorm: 1}), /option clipNorm was not given .* is 1 now/],
    ['seed', () => adam(2, {seed: 1}), /option seed was 0/],
    ['targets', () => adam(2, {targets: /kernel|bias/}), /option targets/],
    [
      'refresh',
      () => adam(2, {refresh: every(3), moments: 'keep'}),
      /option refresh was not given .* is every\(3\) now/,
    ],
    [
      'schedule',
      () => adam(2, {learningRate: cosine(1, {steps: 3})}),
      /option learningRate was not given .* cosine\(/,
    ],
    [
      'beta',
      () => projected(tf.train.adam(0.05, 0.8, 0.999, 1e-7), lora({rank: 2}), {targets: /kernel/}),
      /beta1 of the Adam was 0\.9 .* 0\.8 now/,
    ],
    [
      'class',
      () => projected(tf.train.sgd(0.05), lora({rank: 2}), {targets: /kernel/}),
      /was a Adam .* is a SGD now/,
    ],
    [
      'one for each factor',
      () => projected(() => tf.train.adam(0.05, 0.9, 0.999, 1e-7), lora({rank: 2}), {targets: /kernel/}),
      /was one Adam when .* is a function/,
    ],
  ];
  test.each(options)('an optimizer with another %s', async (_, make, message) => {
    await saved();
    const {model, optimizer} = busy(make());
    await refused(optimizer, {model}, message);
  });

  test('options that say what the default is are the same, and so are those that only measure', async () => {
    const {model} = await saved();
    await loadCheckpoint(adam(2, {seed: 0, rest: 'freeze', accumulate: 1, telemetry: true}), folder, {model});
  });

  test('inner optimizers that a function makes now otherwise', async () => {
    const make = (beta: number) =>
      projected(() => tf.train.adam(0.05, beta, 0.999, 1e-7), lora({rank: 2}), {targets: /kernel/});
    await saved(make(0.9));
    const {model, optimizer} = busy(make(0.8));
    await refused(optimizer, {model}, /inner\(.*kernel\/a\): beta1 of the Adam was 0\.9/);
    const momentum = busy(
      projected(() => tf.train.momentum(0.05, 0.9), lora({rank: 2}), {targets: /kernel/}),
      ['r', 's'],
    );
    await refused(momentum.optimizer, {model: momentum.model}, /was a Adam when .* is a Momentum now/);
  });

  test('other shapes, other paths, more weights, other weights that stay', async () => {
    await saved();
    const wide = busy(adam(), ['c', 'd'], [7, 5]);
    await refused(
      wide.optimizer,
      {model: wide.model},
      /holds one as \[6,5\], and the model has it as \[7,5\]/,
    );
    const {model, optimizer} = busy(adam());
    const {one, two} = model;
    await refused(optimizer, {model: {one, two}}, /holds the weight one\/bias \[5\].* it has one, two/);
    const more = tf.variable(tf.zeros([2]), true, 'more');
    await refused(optimizer, {model: {...model, more}}, /knows no more, which the model given has/);
    model['one/bias'].assign(tf.zeros([5]));
    await refused(optimizer, {model}, /one\/bias is not what it was/);
  });

  test('a rule of your own that freezes now what was trained', async () => {
    let trains = true;
    const make = () => adam(2, {targets: ({name}) => /kernel/.test(name) && (trains || !/^[qb]/.test(name))});
    await saved(make());
    trains = false;
    const {model, optimizer} = busy(make());
    await refused(optimizer, {model}, /saved state of q\/kernel \[5,4\], and the rules freeze it/);
  });

  test('a parametrization of your own rules that is another now', async () => {
    let rank = 2;
    const parametrization = {...lora({rank: 2}), init: (start: never) => lora({rank}).init(start)} as never;
    const make = () => projected(tf.train.sgd(0.05), parametrization, {targets: /kernel/});
    const {model} = await saved(make());
    rank = 3;
    // What it is made of is the user's own, so that only what was saved counts.
    await loadCheckpoint(make(), folder, {model});
  });

  test('a file of something else, damaged, or tampered with', async () => {
    await saved();
    const {model, optimizer} = busy(adam());
    const path = folder.slice(7);
    const file = join(path, 'model.json');
    const text = readFileSync(file, 'utf8');
    const weights = join(
      path,
      readdirSync(path).find(name => name.endsWith('.bin'))!,
    );
    const content = readFileSync(weights);

    writeFileSync(weights, content.subarray(4));
    await refused(optimizer, {model}, /cut off or damaged/);
    const flipped = Buffer.from(content);
    flipped[11]! ^= 1;
    writeFileSync(weights, flipped);
    await refused(optimizer, {model}, /damaged/);
    writeFileSync(weights, content);
    writeFileSync(file, text.replace('\\"step\\":3', '\\"step\\":4'));
    await refused(optimizer, {model}, /damaged: its content is not what was written/);
    writeFileSync(file, text.replace('[6,5]', '[5,6]'));
    await refused(optimizer, {model}, /damaged/);
    writeFileSync(file, text.replace('tfjs-lora-checkpoint":', 'else":'));
    await refused(optimizer, {model}, /is no checkpoint of saveCheckpoint/);
    writeFileSync(file, '{}');
    await refused(optimizer, {model}, /is no checkpoint/);
    rmSync(file);
    await refused(optimizer, {model}, /there is no .*model\.json/);
    writeFileSync(file, text);
    await loadCheckpoint(optimizer, folder, {model});
  });

  test('a model of tfjs that is no checkpoint', async () => {
    const {model, optimizer} = busy(adam());
    const layers = tf.sequential({layers: [tf.layers.dense({units: 2, inputShape: [3]})]});
    await layers.save(nodeFiles(folder.slice(7)));
    await refused(optimizer, {model}, /is no checkpoint of saveCheckpoint but layers-model/);
  });

  test('state whose parts do not belong together', async () => {
    const {model, optimizer} = busy(adam());
    const checkpoint = optimizer.checkpoint();
    const config = optimizer.getConfig();
    const all = Object.values(model);
    const before = await stateOf(optimizer);
    const resume = (change: object) => () =>
      optimizer.resume({...optimizer.checkpoint(), ...change}, config, all);
    const [inner] = checkpoint.inners;
    const key = 'accumulatedFirstMoment/1';
    expect(resume({steps: -1})).toThrow(/-1 steps/);
    expect(resume({pending: 0.5})).toThrow(/0\.5 pending/);
    expect(resume({inners: [{...inner, slots: {...inner!.slots, [key]: tf.zeros([9])}}]})).toThrow(
      /of \[9\], which is of no factor/,
    );
    expect(
      resume({inners: [{...inner, slots: {...inner!.slots, 'accumulatedFirstMoment/17': tf.zeros([9])}}]}),
    ).toThrow(/no factor/);
    expect(resume({inners: [{...inner, scalars: {other: tf.scalar(1)}}]})).toThrow(
      /has other, which a Adam does not keep/,
    );
    const [first, ...rest] = checkpoint.weights;
    const spoilt = (change: object) => ({
      weights: [{...first, tensors: {...first!.tensors, ...change}}, ...rest],
    });
    expect(resume(spoilt({'sums/a': tf.zeros([1, 1])}))).toThrow(
      /sums\/a of \[1,1\] for a factor of \[6,2\]/,
    );
    expect(resume(spoilt({'factors/a': tf.zeros([3, 2])}))).toThrow();
    expect(await stateOf(optimizer)).toEqual(before);
  });

  test('a disposed optimizer', async () => {
    const {model} = await saved();
    const optimizer = adam();
    optimizer.dispose();
    await expect(loadCheckpoint(optimizer, folder, {model})).rejects.toThrow(/was disposed/);
    await expect(saveCheckpoint(optimizer, folder, {model})).rejects.toThrow(/was disposed/);
  });
});

test('loraAdam with a schedule goes on in it', async () => {
  const make = () => loraAdam(cosine(0.05, {steps: 6}), {rank: 2, targets: /kernel/});
  const {model, step, optimizer} = await saved(make());
  const resumed = make();
  const state = Object.values(model).map(weight => weight.clone());
  for (let i = 3; i < 6; i++) step(optimizer, i);
  const wanted = digestOfWeights(Object.values(model));
  Object.values(model).forEach((weight, i) => weight.assign(state[i] as tf.Tensor2D));
  await loadCheckpoint(resumed, folder, {model});
  for (let i = 3; i < 6; i++) step(resumed, i);
  expect(digestOfWeights(Object.values(model))).toBe(wanted);
});
