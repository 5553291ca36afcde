import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterAll, afterEach, beforeAll, describe, expect, test, vi} from 'vitest';
import {nodeFiles} from '../../src/adapter/files.js';
import {saveAdapter} from '../../src/adapter/save.js';
import {run} from '../../src/cli/run.js';
import {dora, lora, loraAdam, normal, type Parametrization, projected} from '../../src/index.js';
import {trainableGraphModel} from '../../src/models/trainable-graph-model.js';
import {saveCheckpoint} from '../../src/resume/index.js';
import {asTorch, distance, merged as mergedByTorch} from '../adapter/torch.js';
import {dataFolder} from '../helpers.js';

let folder: string;
const at = (...names: string[]) => join(folder, ...names);

beforeAll(async () => {
  await tf.setBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'adapters-'));
  await train('base', 'run');
});
afterAll(() => rmSync(folder, {recursive: true}));
afterEach(() => vi.restoreAllMocks());

const build = () => {
  const init = (seed: number) => tf.initializers.glorotNormal({seed});
  const body = tf.sequential({
    name: 'body',
    layers: [
      tf.layers.dense({
        name: 'up',
        units: 20,
        inputShape: [12],
        activation: 'tanh',
        kernelInitializer: init(1),
      }),
      tf.layers.dense({name: 'down', units: 10, kernelInitializer: init(2)}),
    ],
  });
  return tf.sequential({
    name: 'whole',
    layers: [
      tf.layers.dense({name: 'in', units: 12, inputShape: [8], kernelInitializer: init(3)}),
      body,
      tf.layers.dense({name: 'out', units: 4, kernelInitializer: init(4)}),
    ],
  });
};

/** A model with a model inside, before and after training, and the adapter between. */
async function train(
  base: string,
  out: string,
  parametrization: Parametrization = lora({rank: 2}),
): Promise<void> {
  const model = build();
  await model.save(nodeFiles(at(base)));
  const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), parametrization, {rest: 'train'});
  model.compile({optimizer, loss: 'meanSquaredError'});
  const [x, y] = [normal([16, 8], 1), normal([16, 4], 2)];
  for (let step = 0; step < 5; step++) await model.trainOnBatch(x, y);
  await saveAdapter(model as never, `file://${at(out, 'adapter.safetensors')}`, {metadata: {task: 'noise'}});
  await saveCheckpoint(optimizer, `file://${at(out, 'checkpoint')}`, {model, data: {epoch: 3}});
  await model.save(nodeFiles(at(out, 'trained')));
  optimizer.dispose();
  model.dispose();
  tf.dispose([x, y]);
}

async function call(...args: string[]) {
  const [out, err] = [[] as string[], [] as string[]];
  vi.spyOn(process.stdout, 'write').mockImplementation(text => out.push(String(text)) > 0);
  vi.spyOn(console, 'log').mockImplementation((...parts) => void out.push(parts.join(' ')));
  vi.spyOn(console, 'error').mockImplementation((...parts) => void err.push(parts.join(' ')));
  const code = await run(args);
  vi.restoreAllMocks();
  return {code, out: out.join('\n'), err: err.join('\n')};
}

async function predictions(path: string): Promise<Float32Array> {
  const model = await tf.loadLayersModel(nodeFiles(path));
  const x = normal([6, 8], 9);
  const y = model.predict(x) as tf.Tensor;
  const values = (await y.data()) as Float32Array;
  tf.dispose([x, y]);
  model.dispose();
  return Float32Array.from(values);
}

const closeTo = (a: ArrayLike<number>, b: ArrayLike<number>, most = 1e-5) =>
  expect(distance(a, b)).toBeLessThan(most);

describe('merge', () => {
  test('makes the trained model of the base, models inside models too, and leaves both as they were', async () => {
    const before = readFileSync(at('base', 'model.json'));
    const tensors = tf.memory().numTensors;
    const {code, out} = await call(
      'merge',
      at('base'),
      at('run'),
      '--out',
      at('merged'),
      '--backend',
      'wasm',
    );
    expect([code, out]).toEqual([0, expect.stringMatching(/^Merged 8 weights of /)]);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(readFileSync(at('base', 'model.json'))).toEqual(before);
    closeTo(await predictions(at('merged')), await predictions(at('run', 'trained')));
    const {out: rest} = await call('diff', at('merged'), at('run', 'trained'), '--json');
    const {weights} = JSON.parse(rest) as {weights: {note: unknown; norm: number; difference: number}[]};
    expect(weights).toHaveLength(8);
    for (const {note, norm, difference} of weights) {
      expect(note).toBeNull();
      expect(difference).toBeLessThan(1e-6 * norm);
    }
  });

  test('by half, and into another model only when asked', async () => {
    expect((await call('merge', at('base'), at('run'), '--out', at('half'), '--scale', '0.5')).code).toBe(0);
    const [base, half, whole] = await Promise.all(
      ['base', 'half', 'merged'].map(async name => {
        const {weightData, weightSpecs} = await nodeFiles(at(name)).load!();
        const tensor = tf.io.decodeWeights(weightData!, weightSpecs!)['up/kernel']!;
        return tensor.data();
      }),
    );
    closeTo(
      half!,
      base!.map((value, i) => (value + whole![i]!) / 2),
    );

    const again = ['merge', at('merged'), at('run'), '--out', at('twice')];
    const {code, err} = await call(...again);
    expect([code, err]).toEqual([2, expect.stringMatching(/has this adapter merged into it already/)]);
    expect(existsSync(at('twice'))).toBe(false);
    expect((await call(...again, '--base', 'ignore')).code).toBe(0);
  });

  test('keeps a model whose layers are not known here, and quantized weights that do not move', async () => {
    cpSync(at('base'), at('foreign'), {recursive: true});
    const path = at('foreign', 'model.json');
    const json = readFileSync(path, 'utf8').replaceAll('"Sequential"', '"TheirOwnLayer"');
    writeFileSync(path, json);
    expect((await call('merge', at('foreign'), at('run'), '--out', at('foreign-merged'))).code).toBe(0);
    const made = JSON.parse(readFileSync(at('foreign-merged', 'model.json'), 'utf8'));
    expect(made.modelTopology).toEqual(JSON.parse(json).modelTopology);
  });

  test('a weight that depends on the base (dora)', async () => {
    await train('dora-base', 'dora', dora({rank: 2}));
    expect((await call('merge', at('dora-base'), at('dora'), '--out', at('dora-merged'))).code).toBe(0);
    closeTo(await predictions(at('dora-merged')), await predictions(at('dora', 'trained')));
  });
});

test('merge knows the weights of a GraphModel', async () => {
  const kernel = normal([6, 5], 5);
  const attr = (value: object) => ({dtype: {type: 'DT_FLOAT'}, ...value});
  const topology = {
    node: [
      {name: 'x', op: 'Placeholder', attr: attr({shape: {shape: {dim: [{size: '-1'}, {size: '6'}]}}})},
      {
        name: 'net/dense/kernel/ReadVariableOp',
        op: 'Const',
        attr: attr({value: {tensor: {dtype: 'DT_FLOAT', tensorShape: {dim: [{size: '6'}, {size: '5'}]}}}}),
      },
      {
        name: 'y',
        op: 'MatMul',
        input: ['x', 'net/dense/kernel/ReadVariableOp'],
        attr: {T: {type: 'DT_FLOAT'}, transpose_a: {b: false}, transpose_b: {b: false}},
      },
    ],
    versions: {producer: 1},
  };
  await nodeFiles(at('graph')).save!({
    modelTopology: topology,
    format: 'graph-model',
    weightSpecs: [{name: 'net/dense/kernel/ReadVariableOp', shape: [6, 5], dtype: 'float32'}],
    weightData: Float32Array.from(kernel.dataSync()).buffer as ArrayBuffer,
  });
  const model = await tf.loadGraphModel(nodeFiles(at('graph')));
  const trainable = trainableGraphModel(model as never);
  const optimizer = loraAdam(0.05, {rank: 2});
  const x = normal([4, 6], 7);
  const loss = () => tf.sum(tf.square(trainable.apply(x))) as tf.Scalar;
  for (let step = 0; step < 3; step++) optimizer.minimize(loss, false, Object.values(trainable.variables));
  await saveAdapter(optimizer, `file://${at('graph.safetensors')}`, {model: trainable.variables});
  const expected = await (model.predict(x) as tf.Tensor).data();
  const {code, err} = await call('merge', at('graph'), at('graph.safetensors'), '--out', at('graph-merged'));
  expect([code, err]).toEqual([0, '']);
  const again = await tf.loadGraphModel(nodeFiles(at('graph-merged')));
  closeTo(await (again.predict(x) as tf.Tensor).data(), expected);
});

describe('convert', () => {
  test.each(['safetensors', 'tfjs', 'peft', 'keras'])('to %s and back: the same factors', async form => {
    const name = form === 'safetensors' || form === 'keras' ? `${form}.safetensors` : form;
    const {code, out} = await call('convert', at('run'), '--to', form, '--out', at('forms', name));
    expect([code, out]).toEqual([0, expect.stringMatching(new RegExp(`8 weights, .* to ${form}$`))]);
    const back = at('forms', `${form}-back.safetensors`);
    expect((await call('convert', at('forms', name), '--to', 'safetensors', '--out', back)).code).toBe(0);
    const {out: same} = await call('diff', at('run'), back);
    expect(same).not.toMatch(/only in| %/);
    expect(readdirSync(at('forms')).filter(file => file.endsWith('.tmp'))).toEqual([]);
  });

  test('the form of PEFT, read by a reader that shares no code, makes the trained weights', async () => {
    await call('convert', at('run'), '--to', 'peft', '--out', at('peft'));
    const [config, weights] = ['adapter_config.json', 'adapter_model.safetensors'].map(name =>
      readFileSync(at('peft', name)),
    );
    const read = async (name: string) => {
      const {weightData, weightSpecs} = await nodeFiles(at(name)).load!();
      const tensors = tf.io.decodeWeights(weightData!, weightSpecs!);
      return new Map(
        await Promise.all(
          Object.entries(tensors).map(async ([key, tensor]) => {
            const [, layer, own] = /^(.*)\/(\w+)$/.exec(key)!;
            const inside = layer === 'up' || layer === 'down' ? `body.${layer}` : layer;
            const module = `${inside}.${own === 'kernel' ? 'weight' : own}`;
            return [module, asTorch(key, tensor.shape, await tensor.data())] as const;
          }),
        ),
      );
    };
    const made = mergedByTorch(
      {'adapter_config.json': config!.toString(), 'adapter_model.safetensors': weights!},
      await read('base'),
    );
    const trained = await read('run/trained');
    expect([...made.keys()].sort()).toEqual([...trained.keys()].sort());
    for (const [module, {values}] of trained) closeTo(made.get(module)!.values, values);
  });

  test('names of modules, 16 bits, and a model that tells them apart when they are read', async () => {
    const names = {'in/kernel': 'encoder.q_proj', 'body/up/kernel': 'encoder.k_proj', 'out/kernel': null};
    writeFileSync(at('names.json'), JSON.stringify(names));
    const given = ['--names', at('names.json'), '--base-model', 'me/base', '--dtype', 'BF16'];
    expect((await call('convert', at('run'), '--to', 'peft', '--out', at('named'), ...given)).code).toBe(0);
    const config = JSON.parse(readFileSync(at('named', 'adapter_config.json'), 'utf8'));
    expect(config.base_model_name_or_path).toBe('me/base');
    expect(config.target_modules).toEqual(expect.arrayContaining(['encoder.q_proj', 'encoder.k_proj']));
    expect(statSync(at('named', 'adapter_model.safetensors')).size).toBeLessThan(
      statSync(at('peft', 'adapter_model.safetensors')).size,
    );
    const {code, err} = await call(
      ...['convert', at('named'), '--to', 'safetensors', '--out', at('named.safetensors')],
      ...['--names', at('names.json')],
    );
    expect([code, err]).toEqual([0, '']);
    const {out} = await call('inspect', at('named.safetensors'));
    expect(out).toMatch(/^in\/kernel .* lora r=2/m);
    expect(out).not.toMatch(/^out\/kernel/m);
  });

  test.each([
    [['run', '--to', 'onnx', '--out', 'x'], /--to takes safetensors, tfjs, peft, keras, got "onnx"/],
    [['run', '--to', 'peft', '--out', 'x.safetensors'], /--to peft writes a folder/],
    [['run', '--to', 'keras', '--out', 'x'], /--out must end in .safetensors/],
    [['run', '--to', 'tfjs', '--out', 'base'], /exists already/],
    [['run', '--to', 'tfjs', '--out', 'x', '--dtype', 'F16'], /--dtype is for --to peft/],
    [['base', '--to', 'peft', '--out', 'x'], /is no adapter but a model/],
    [['run/checkpoint', '--to', 'peft', '--out', 'x'], /is no adapter but a checkpoint/],
    [['dora', '--to', 'keras', '--out', 'x.safetensors'], /cannot convert .*kernel.*DoRA|dora/i],
  ])('%j is one clear line, and nothing is written', async (args, line) => {
    const paths = args.map(arg => (/^(run|base|dora|x)/.test(arg) ? at(...arg.split('/')) : arg));
    const before = readdirSync(folder).sort();
    const {code, err} = await call('convert', ...paths);
    expect([code, err]).toEqual([2, expect.stringMatching(line)]);
    expect(err.split('\n')).toHaveLength(1);
    expect(readdirSync(folder).sort()).toEqual(before);
  });
});

describe('inspect', () => {
  test('an adapter: a row for each weight, and what it was trained by', async () => {
    const {code, out} = await call('inspect', at('run'));
    expect(code).toBe(0);
    expect(out).toMatch(/^task +noise$/m);
    expect(out).toMatch(/^body\/up\/kernel +12 x 20 +lora r=2 .* 64 +240 +[\d.]+$/m);
    expect(out).toMatch(/^body\/up\/bias +20 +whole .* 20 +20 +not known$/m);
    expect(out).toMatch(/8 weights, .* numbers trained of/);
  });

  test('a checkpoint, a model, and JSON of several', async () => {
    expect((await call('inspect', at('run', 'checkpoint'))).out).toMatch(/of step 5\ndata +\{"epoch":3\}/);
    expect((await call('inspect', at('base', 'model.json'))).out).toMatch(
      /^up\/kernel +12 x 20 +float32 +240$/m,
    );
    const {out} = await call('inspect', at('base'), at('run'), '--json');
    expect((JSON.parse(out) as {kind: string}[]).map(({kind}) => kind)).toEqual(['model', 'adapter']);
  });

  test('the model and the adapters of others, where they are there', async ({skip}) => {
    const data = dataFolder();
    if (data === null) return skip('no data folder');
    const {out} = await call('inspect', join(data, 'lora-safetensors', 'analog_svd_rank4.safetensors'));
    expect(out).toMatch(/192 pairs/);
    expect(out).toMatch(/^unet:99 +dense +4 +640 +640 +F16 /m);
    expect((await call('inspect', join(data, 'tfjs-doodlenet'))).out).toMatch(/544,201 numbers/);
  });

  test('mistakes', async () => {
    writeFileSync(at('other.json'), '{"a": 1}');
    writeFileSync(at('cut.safetensors'), readFileSync(at('run', 'adapter.safetensors')).subarray(0, 900));
    for (const [path, line] of [
      ['nothing', /there is nothing at/],
      ['other.json', /other.json is JSON, and no model/],
      ['cut.safetensors', /cannot read .*its header claims/],
      ['forms', /holds neither model.json nor/],
    ] as const) {
      const {code, err} = await call('inspect', at(path));
      expect([code, err]).toEqual([2, expect.stringMatching(line)]);
    }
    expect((await call('inspect')).err).toMatch(/inspect takes files or folders/);
  });
});

test('diff: what differs, by how much, of what rank; and the exit code', async () => {
  const {code, out} = await call('diff', at('base'), at('run', 'trained'));
  expect(code).toBe(1);
  expect(out).toMatch(/^up\/kernel +[\d.]+ +[\d.]+ +[\d.]+ % +[\d.]+ +[12]$/m);
  expect(out).toMatch(/8 differ, 0 are the same/);
  expect(await call('diff', at('base'), at('base'))).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^The same: 8/),
  });
  const adapters = await call('diff', at('run'), at('dora'));
  expect(adapters.code).toBe(1);
  expect(adapters.out).toMatch(/lora, rank 2, scale [\d.]+; dora, rank 2, scale [\d.]+, with lengths/);
  expect(adapters.out).toMatch(/body\/up\/kernel magnitude .*only in the second/);
  expect(await call('diff', at('base'), at('run'))).toMatchObject({
    code: 2,
    err: expect.stringMatching(/two models or two/),
  });
});
