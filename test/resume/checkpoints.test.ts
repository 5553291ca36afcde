import {mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {afterEach, beforeEach, describe, expect, test, vi} from 'vitest';

// tfjs looks once, when it is loaded, whether this is a browser: then it has local storage.
const items = new Map<string, string>();
const localStorage = {
  get length() {
    return items.size;
  },
  key: (i: number) => [...items.keys()][i] ?? null,
  getItem: (key: string) => items.get(key) ?? null,
  setItem: (key: string, value: string) => void items.set(key, value),
  removeItem: (key: string) => void items.delete(key),
};
vi.stubGlobal('window', {document: {}, localStorage});
const tf = await import('@tensorflow/tfjs');
vi.unstubAllGlobals();
(globalThis as {window?: unknown}).window = {document: {}, localStorage};
const {loraAdam} = await import('../../src/index.js');
const {checkpoints, latestCheckpoint, loadCheckpoint} = await import('../../src/resume/index.js');

let path: string;
let folder: string;
beforeEach(async () => {
  await tf.setBackend('cpu');
  path = mkdtempSync(join(tmpdir(), 'tfjs-lora-checkpoints-'));
  folder = `file://${path}/run`;
});
afterEach(() => {
  rmSync(path, {recursive: true, force: true});
  items.clear();
  tf.disposeVariables();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const names = () => readdirSync(join(path, 'run')).sort();

function trained() {
  const optimizer = loraAdam(0.02, {rank: 1});
  const weight = tf.variable(tf.ones([5, 4]), true, 'weight');
  const step = () => optimizer.minimize(() => tf.sum(tf.square(weight)) as never, false, [weight]);
  return {optimizer, weight, model: {weight}, step};
}

function compiled() {
  const init = (seed: number) => tf.initializers.glorotNormal({seed});
  const model = tf.sequential({
    layers: [
      tf.layers.dense({units: 6, inputShape: [4], kernelInitializer: init(1), name: 'one'}),
      tf.layers.batchNormalization({name: 'two'}),
      tf.layers.dense({units: 3, kernelInitializer: init(2), name: 'three'}),
    ],
  });
  model.compile({optimizer: loraAdam(0.02, {rank: 1}), loss: 'meanSquaredError'});
  return model;
}

describe('checkpoints', () => {
  test('saves at every multiple of steps and keeps the last few', async () => {
    const {optimizer, model, step} = trained();
    let batch = 0;
    const keeper = checkpoints({optimizer, model}, `${folder}/`, {
      every: {steps: 2},
      keep: 2,
      data: () => ({batch}),
    });
    const urls = [];
    for (batch = 1; batch <= 9; batch++) {
      step();
      urls.push(await keeper.step());
    }
    expect(urls.map(url => url?.slice(folder.length + 1) ?? null)).toEqual([
      null,
      '000001-step-2',
      null,
      '000002-step-4',
      null,
      '000003-step-6',
      null,
      '000004-step-8',
      null,
    ]);
    expect(names()).toEqual(['000003-step-6', '000004-step-8']);
    await keeper.onTrainEnd();
    await keeper.onTrainEnd();
    expect(names()).toEqual(['000004-step-8', '000005-step-9']);
    expect(await latestCheckpoint(folder)).toBe(urls[7]!.replace('000004-step-8', '000005-step-9'));
    expect(await loadCheckpoint(optimizer, (await latestCheckpoint(folder))!, {model})).toEqual({
      step: 9,
      data: {batch: 10},
    });
  });

  test('the newest is that saved last, also after going back to an earlier one', async () => {
    const {optimizer, model, step} = trained();
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 5}});
    for (let i = 0; i < 10; i++) {
      step();
      await keeper.step();
    }
    await loadCheckpoint(optimizer, `${folder}/000001-step-5`, {model});
    step();
    const url = await keeper.step();
    expect(url).toMatch(/000003-step-6$/);
    expect(await latestCheckpoint(folder)).toBe(url);
  });

  test('by minutes', async () => {
    const {optimizer, model, step} = trained();
    const now = vi.spyOn(Date, 'now');
    now.mockReturnValue(0);
    const keeper = checkpoints({optimizer, model}, folder, {every: {minutes: 2}});
    const at = async (time: number) => {
      now.mockReturnValue(time);
      step();
      return (await keeper.step())?.slice(-6) ?? null;
    };
    expect([await at(119_000), await at(120_000), await at(230_000), await at(241_000)]).toEqual([
      null,
      'step-2',
      null,
      'step-4',
    ]);
  });

  test('in model.fit; another model goes on from it to the same weights', async () => {
    const x = tf.randomNormal([8, 4], 0, 1, 'float32', 1);
    const y = tf.randomNormal([8, 3], 0, 1, 'float32', 2);
    const fit = {batchSize: 2, shuffle: false, verbose: 0} as const;
    const weights = (model: InstanceType<typeof tf.LayersModel>) =>
      model.getWeights().map(w => [...w.dataSync()]);
    const whole = compiled();
    await whole.fit(x, y, {...fit, epochs: 2});

    const first = compiled();
    const keeper = checkpoints(first, folder, {every: {steps: 3}, keep: 1});
    await first.fit(x, y, {...fit, epochs: 1, callbacks: keeper});
    expect(names()).toEqual(['000002-step-4']);
    const second = compiled();
    await loadCheckpoint(second.optimizer as never, (await latestCheckpoint(folder))!, {model: second});
    expect(weights(second)).toEqual(weights(first));
    await second.fit(x, y, {...fit, epochs: 1});
    expect(weights(second)).toEqual(weights(whole));
    expect(weights(second)).not.toEqual(weights(first));
  });

  test('an error while saving rejects fit, and the next step tries again', async () => {
    const x = tf.ones([4, 4]);
    const y = tf.ones([4, 3]);
    const model = compiled();
    writeFileSync(join(path, 'run'), 'a file where the folder should be');
    const keeper = checkpoints(model, folder, {every: {steps: 2}});
    await expect(model.fit(x, y, {batchSize: 1, verbose: 0, callbacks: keeper})).rejects.toThrow(
      /run is a file: give the folder/,
    );
    rmSync(join(path, 'run'));
    await keeper.step();
    expect(names()).toEqual(['000001-step-2']);
  });

  test('calls that nobody waits for come one after the other', async () => {
    const {optimizer, model, step} = trained();
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 1}, keep: 9});
    step();
    const urls = await Promise.all([keeper.step(), keeper.step(), keeper.save()]);
    expect(urls.map(url => url?.slice(-13) ?? null)).toEqual(['000001-step-1', null, '000002-step-1']);
  });

  test('removes nothing before the new one is complete, and what interrupted saves left afterwards', async () => {
    const {optimizer, model, step} = trained();
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 1}, keep: 1});
    step();
    await keeper.step();
    mkdirSync(join(path, 'run/000002-step-2'));
    writeFileSync(join(path, 'run/000002-step-2/weights-0123456789abcdef.bin'), 'half');
    writeFileSync(join(path, 'run/notes.txt'), 'mine');
    mkdirSync(join(path, 'run/other'));
    expect(await latestCheckpoint(folder)).toMatch(/000001-step-1$/);
    step();
    const data = vi.fn(() => undefined);
    const broken = checkpoints({optimizer, model}, folder, {every: {steps: 1}, keep: 1, data});
    await expect(broken.save()).rejects.toThrow(/what data\(\) gives is undefined/);
    expect(names()).toContain('000001-step-1');
    await keeper.step();
    expect(names()).toEqual(['000003-step-2', 'notes.txt', 'other']);
  });

  test('latestCheckpoint passes over what is damaged, and says so', async () => {
    const {optimizer, model, step} = trained();
    expect(await latestCheckpoint(folder)).toBe(null);
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 1}, keep: 3});
    for (let i = 0; i < 3; i++) {
      step();
      await keeper.step();
    }
    const spoil = (name: string) => {
      const at = join(path, 'run', name);
      const file = join(
        at,
        readdirSync(at).find(each => each.endsWith('.bin'))!,
      );
      writeFileSync(file, readFileSync(file).fill(1, 8, 9));
    };
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    spoil('000003-step-3');
    expect(await latestCheckpoint(folder)).toMatch(/000002-step-2$/);
    expect(warn.mock.calls.flat().join()).toMatch(/000003-step-3 is passed over: .*damaged/);
    writeFileSync(join(path, 'run/000002-step-2/model.json'), '{');
    rmSync(join(path, 'run/000001-step-1/model.json'));
    expect(await latestCheckpoint(folder)).toBe(null);
  });

  test('latestCheckpoint says where it cannot look, and gives back a checkpoint', async () => {
    const {optimizer, model, step} = trained();
    for (const address of ['run', 's3://a/b', '', 'data:x']) {
      await expect(latestCheckpoint(address)).rejects.toThrow(/cannot load .*Known here: file:\/\//);
    }
    for (const address of [undefined, null, 3, {}]) {
      await expect(latestCheckpoint(address as never)).rejects.toThrow(
        /latestCheckpoint: give the folder for checkpoints by its address, such as 'file:/,
      );
    }
    writeFileSync(join(path, 'file'), 'x');
    await expect(latestCheckpoint(`file://${path}/file`)).rejects.toThrow(/file is a file: give the folder/);
    expect(await latestCheckpoint(`file://${path}/missing`)).toBe(null);
    expect(await latestCheckpoint(`file://${path}`)).toBe(null);
    step();
    const url = await checkpoints({optimizer, model}, folder, {every: {steps: 1}}).save();
    expect(await latestCheckpoint(url)).toBe(url);
    expect(await latestCheckpoint(`${folder}/`)).toBe(url);
    writeFileSync(join(url.slice(7), 'model.json'), '{}');
    await expect(latestCheckpoint(url)).rejects.toThrow(/is no checkpoint/);
  });

  test('a file that is called like a checkpoint is passed over, and kept', async () => {
    const {optimizer, model, step} = trained();
    mkdirSync(join(path, 'run'));
    writeFileSync(join(path, 'run/000004-step-1'), 'mine');
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 1}, keep: 1});
    step();
    await keeper.save();
    const url = await keeper.save();
    expect(names()).toEqual(['000004-step-1', '000006-step-1']);
    expect(await latestCheckpoint(folder)).toBe(url);
  });

  test('data that goes round in a circle is refused', async () => {
    const {optimizer, model, step} = trained();
    const data: {list: unknown[]} = {list: []};
    data.list.push({data});
    step();
    const keeper = checkpoints({optimizer, model}, folder, {every: {steps: 1}, data: () => data});
    await expect(keeper.save()).rejects.toThrow(/gives\.list\[0\]\.data is the object it is part of/);
    const twice = {a: 1};
    data.list = [twice, twice];
    await keeper.save();
  });

  test('options are checked when it is made', () => {
    const {optimizer, model} = trained();
    const make =
      (options: object, where: string = folder) =>
      () =>
        checkpoints({optimizer, model}, where, options as never);
    expect(make({})).toThrow(/every must be \{steps: n\}, \{minutes: n\} or \{epochs: n\}/);
    expect(make({every: {steps: 1, minutes: 1}})).toThrow(/every must be/);
    expect(make({every: {steps: 0}})).toThrow(/every\.steps must be a whole number of at least 1/);
    expect(make({every: {minutes: -1}})).toThrow(/every\.minutes must be a number above 0/);
    expect(make({every: {epochs: 1.5}})).toThrow(/every\.epochs must be a whole number of at least 1/);
    expect(make({every: {hours: 1}})).toThrow(/unknown option 'hours'/);
    expect(make({every: {steps: 1}, keep: 0})).toThrow(/keep must be/);
    expect(make({every: {steps: 1}, data: {}})).toThrow(/data must be a function/);
    expect(make({every: {steps: 1}}, 'nowhere://a')).toThrow(/Known here: file:\/\//);
    const plain = tf.sequential({layers: [tf.layers.dense({units: 1, inputShape: [1]})]});
    plain.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    expect(() => checkpoints(plain as never, folder, {every: {steps: 1}})).toThrow(
      /must be one of tfjs-lora, such as loraAdam, and is SGD/,
    );
  });
});

describe('in the local storage of a browser', () => {
  test('keeps the last few, and goes on from the newest that is whole', async () => {
    const {optimizer, model, step, weight} = trained();
    const keeper = checkpoints({optimizer, model}, 'localstorage://run', {
      every: {steps: 1},
      keep: 2,
      data: () => 'é',
    });
    for (let i = 0; i < 4; i++) {
      step();
      await keeper.step();
    }
    expect(Object.keys(await tf.io.listModels()).sort()).toEqual([
      'localstorage://run/000003-step-3',
      'localstorage://run/000004-step-4',
    ]);
    const wanted = [...weight.dataSync()];
    step();
    expect([...weight.dataSync()]).not.toEqual(wanted);
    const latest = (await latestCheckpoint('localstorage://run'))!;
    expect(await loadCheckpoint(optimizer, latest, {model})).toEqual({step: 4, data: 'é'});
    expect([...weight.dataSync()]).toEqual(wanted);
    // As an interrupted save leaves it: tfjs writes one item after another.
    items.delete('tensorflowjs_models/run/000004-step-4/weight_data');
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    expect(await latestCheckpoint('localstorage://run')).toBe('localstorage://run/000003-step-3');
    expect(warn.mock.calls.flat().join()).toMatch(/passed over/);
    expect(await latestCheckpoint('localstorage://ru')).toBe(null);
  });

  test('a store that cannot be listed is refused at once', async () => {
    const {optimizer, model} = trained();
    const handler = tf.io.withSaveHandler(async () => ({modelArtifactsInfo: null as never}));
    const router = (url: string | string[]) =>
      (String(url).startsWith('unlisted://') ? {...handler, load: handler.save} : null) as never;
    tf.io.registerSaveRouter(router);
    tf.io.registerLoadRouter(router);
    for (const folder of ['unlisted://a', 'http://x/y']) {
      expect(() => checkpoints({optimizer, model}, folder, {every: {steps: 1}})).toThrow(/cannot be listed/);
      await expect(latestCheckpoint(folder)).rejects.toThrow(
        /latestCheckpoint: what lies in .* cannot be listed/,
      );
    }
  });
});
