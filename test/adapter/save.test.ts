import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:http';
import type {AddressInfo} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {readAdapter, saveAdapter} from '../../src/adapter/save.js';
import {flora, lora, loraAdam, projected} from '../../src/index.js';
import {toJson} from '../../src/recipe.js';
import {tensorsLeftBy} from '../helpers.js';
import {adapterWith, comparable, weightOf, wholeWeight} from './situations.js';

const folder = mkdtempSync(join(tmpdir(), 'adapter-'));
beforeAll(() => tf.setBackend('cpu'));
afterAll(() => rmSync(folder, {recursive: true}));

const adapter = () =>
  adapterWith(
    weightOf(lora({rank: 2}), [6, 4], 'dense/kernel'),
    weightOf(flora({rank: 2}), [5, 4], 'random'),
    wholeWeight('dense/bias', [1, 2, 3, 4]),
  );
const same = (read: unknown) =>
  expect(comparable(read as never, toJson)).toEqual(comparable(adapter(), toJson));

describe('an adapter is saved and read', () => {
  test('as one file', async () => {
    const url = `file://${join(folder, 'one.safetensors')}`;
    const result = await saveAdapter(adapter(), url);
    expect(result.modelArtifactsInfo.dateSaved).toBeInstanceOf(Date);
    expect(result.modelArtifactsInfo.weightDataBytes).toBeGreaterThan(100);
    same(await readAdapter(url));
    const bytes = readFileSync(join(folder, 'one.safetensors'));
    same(await readAdapter(bytes));
    same(await readAdapter(Uint8Array.from(bytes).buffer));
    expect(readdirSync(folder)).toEqual(['one.safetensors']);
  });

  test('as a folder in the form of tfjs', async () => {
    const url = `file://${join(folder, 'tfjs')}`;
    await saveAdapter(adapter(), url);
    expect(readdirSync(join(folder, 'tfjs'))).toContain('model.json');
    same(await readAdapter(url));
  });

  test('by a handler of the user', async () => {
    let kept: tf.io.ModelArtifacts | undefined;
    const handler: tf.io.IOHandler = {
      save: async artifacts => {
        kept = artifacts;
        return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
      },
      load: async () => kept!,
    };
    await saveAdapter(adapter(), handler);
    same(await readAdapter(handler));
  });

  test('over HTTP, both forms', async () => {
    await saveAdapter(adapter(), `file://${join(folder, 'served')}`);
    writeFileSync(join(folder, 'served', 'a.safetensors'), encodeAdapter(adapter()));
    const server = createServer((request, response) => {
      try {
        const body = readFileSync(join(folder, 'served', request.url!.split('?')[0]!));
        const type = request.url!.endsWith('.json') ? 'application/json' : 'application/octet-stream';
        response.writeHead(200, {'content-type': type}).end(body);
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    try {
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      same(await readAdapter(`${base}/a.safetensors?version=1`));
      same(await readAdapter(`${base}/model.json`));
      await expect(readAdapter(`${base}/b.safetensors`)).rejects.toThrow(/answers 404/);
    } finally {
      server.close();
    }
  });

  test('from an optimizer and from a compiled model, with metadata', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.dense({units: 6, inputShape: [8], name: 'first'}),
        tf.layers.dense({units: 7, name: 'second'}),
      ],
    });
    model.compile({optimizer: loraAdam(0.05, {rank: 2}), loss: 'meanSquaredError'});
    const [x, y] = [tf.ones([4, 8]), tf.ones([4, 7])];
    await expect(saveAdapter(model as never, 'file://nowhere.safetensors')).rejects.toThrow(
      /nothing was trained/,
    );
    await model.fit(x, y, {epochs: 2, verbose: 0});
    const [first, second] = [join(folder, 'first.safetensors'), join(folder, 'second.safetensors')];
    const left = await tensorsLeftBy(async () => {
      await saveAdapter(model as never, `file://${first}`, {metadata: {task: 'ones'}});
      await saveAdapter(model.optimizer as never, `file://${second}`, {
        model: model as never,
        metadata: {task: 'ones'},
      });
    });
    expect(left).toBe(0);
    expect(readFileSync(first)).toEqual(readFileSync(second));
    const read = decodeAdapter(readFileSync(first));
    expect(read.weights.map(({path}) => path)).toEqual(['first/kernel', 'second/kernel']);
    expect(read.metadata).toEqual({task: 'ones'});
    const optimizer = model.optimizer as unknown as ReturnType<typeof projected>;
    const live = optimizer.factors(model.layers[0]!.weights[0]!.read() as tf.Variable)['a']!;
    expect(Array.from(read.weights[0]!.factors['a']!.values)).toEqual(Array.from(live.dataSync()));
    tf.dispose([x, y]);
    model.dispose();
  });
});

describe('is refused:', () => {
  test('what is no adapter', async () => {
    await expect(saveAdapter({} as never, 'file://x')).rejects.toThrow(
      /must be an adapter, a ProjectedOptimizer/,
    );
    const model = {optimizer: tf.train.sgd(1), name: 'm', weights: []};
    await expect(saveAdapter(model, 'file://x')).rejects.toThrow(
      /was not compiled with an optimizer of tfjs-lora/,
    );
    await expect(saveAdapter(adapter(), 'file://x', {metadat: {}} as never)).rejects.toThrow(
      /unknown option 'metadat'/,
    );
    await expect(saveAdapter(adapter(), 'indexeddb://x.safetensors')).rejects.toThrow(
      /only file:\/\/ writes/,
    );
    await expect(readAdapter(new Uint8Array(100))).rejects.toThrow(/not a readable safetensors file/);
    await expect(readAdapter(undefined as never)).rejects.toThrow(/address/);
  });

  test('a folder that holds a model, and a model loader that is given an adapter', async () => {
    const model = tf.sequential({layers: [tf.layers.dense({units: 2, inputShape: [3]})]});
    const url = `file://${join(folder, 'model')}`;
    const {ioHandler} = await import('../../src/adapter/io.js');
    await model.save(ioHandler(url, 'save'));
    await expect(readAdapter(url)).rejects.toThrow(/this is a model, not an adapter/);
    await expect(saveAdapter(adapter(), url)).rejects.toThrow(/there is a model at/);
    const other = `file://${join(folder, 'no-model')}`;
    await saveAdapter(adapter(), other);
    await expect(tf.loadLayersModel(ioHandler(other, 'load'))).rejects.toThrow();
    model.dispose();
  });

  test('a file that would not be readable, and the old one stays', async () => {
    const url = `file://${join(folder, 'stays.safetensors')}`;
    await saveAdapter(adapter(), url);
    const before = readFileSync(join(folder, 'stays.safetensors'));
    await expect(saveAdapter(adapterWith(wholeWeight('k', [NaN])), url)).rejects.toThrow(/is NaN/);
    expect(readFileSync(join(folder, 'stays.safetensors'))).toEqual(before);
  });
});
