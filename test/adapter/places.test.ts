import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeEach, describe, expect, test} from 'vitest';
import {adapterOf} from '../../src/adapter/adapter-of.js';
import {bind} from '../../src/adapter/bind.js';
import {combine} from '../../src/adapter/combine.js';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {forgetBases, mergeAdapter} from '../../src/adapter/merge.js';
import {nodeFiles} from '../../src/adapter/files.js';
import {readAdapter, saveAdapter} from '../../src/adapter/save.js';
import {decodeSafetensors, encodeSafetensors} from '../../src/adapter/safetensors.js';
import {lora, normal, projected} from '../../src/index.js';
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

beforeEach(async () => {
  await tf.setBackend('cpu');
  tf.engine().startScope();
});
afterEach(() => {
  tf.disposeVariables();
  tf.engine().endScope();
});

/** Four layers of one shape, which tfjs numbers itself: on from wherever it is. */
const build = () =>
  tf.sequential({
    layers: Array.from({length: 4}, (_, i) => tf.layers.dense({units: 8, ...(i === 0 && {inputShape: [8]})})),
  });

const layerName = (model: tf.Sequential, i: number) => model.layers[i]!.name;

/** Of a model whose third layer alone was trained, as it is, so that nothing is known of the base. */
async function ofThirdLayer() {
  const model = build();
  const rule = [[new RegExp(layerName(model, 2)), 'train']] as const;
  const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2}), {targets: rule});
  model.compile({optimizer, loss: 'meanSquaredError'});
  await model.trainOnBatch(normal([4, 8], 1), normal([4, 8], 2));
  return {model, adapter: await adapterOf(optimizer, model)};
}

describe('a model whose layers are numbered otherwise', () => {
  test('takes an adapter in the place it was trained in, though another layer has its number now', async () => {
    const {model, adapter} = await ofThirdLayer();
    expect(adapter.weights.every(({base}) => base === null)).toBe(true);
    const again = build();
    // As in a program that built one layer more before: the second layer here has the name of the third there.
    const shift = Number(/\d+$/.exec(layerName(again, 1))![0]) - Number(/\d+$/.exec(layerName(model, 2))![0]);
    const number = (path: string) => path.replace(/\d+(?=\/)/, n => String(Number(n) + shift));
    const shifted = {
      ...adapter,
      weights: adapter.weights.map(entry => ({...entry, path: number(entry.path)})),
      model: adapter.model!.map(({path, shape}) => ({path: number(path), shape})),
    };
    expect(shifted.weights[0]!.path).toBe(`${layerName(again, 1)}/kernel`);
    expect(bind(again, shifted).map(({path}) => path)).toEqual(
      ['kernel', 'bias'].map(name => `${layerName(again, 2)}/${name}`),
    );
    const {model: _, ...blind} = shifted;
    expect(bind(again, blind)[0]!.path).toBe(`${layerName(again, 1)}/kernel`);
  });

  test('the places travel in the file, and are checked', async () => {
    const {adapter} = await ofThirdLayer();
    const bytes = encodeAdapter(adapter);
    expect(decodeAdapter(bytes).model).toEqual(adapter.model);
    expect(adapter.model).toHaveLength(8);
    const damaged = (change: (model: {path: string; shape: unknown}[]) => unknown) => {
      const {tensors, metadata} = decodeSafetensors(bytes);
      const json = JSON.parse(metadata['adapter']!) as {model: {path: string; shape: unknown}[]};
      const model = change(json.model);
      return encodeSafetensors({tensors, metadata: {...metadata, adapter: JSON.stringify({...json, model})}});
    };
    expect(() => decodeAdapter(damaged(() => 'all'))).toThrow(/its 'model' is no list/);
    expect(() => decodeAdapter(damaged(m => [...m, m[0]]))).toThrow(/twice/);
    expect(() => decodeAdapter(damaged(m => m.slice(0, 3)))).toThrow(
      /is not among the weights of its 'model'/,
    );
    expect(() => decodeAdapter(damaged(m => m.map(place => ({...place, shape: [-1]}))))).toThrow(
      /is no shape/,
    );
  });

  test('combine keeps the places of one model, and drops those of two', async () => {
    const [one, other] = [await ofThirdLayer(), await ofThirdLayer()];
    const half = (adapter: typeof one.adapter) => ({adapter, weight: 1});
    expect(combine([half(one.adapter)]).model).toEqual(one.adapter.model);
    expect(combine([half(one.adapter), half(other.adapter)]).model).toBeUndefined();
    expect(() => combine(one.adapter as never)).toThrow(/a list of/);
  });
});

test('an adapter does not take the place of a model', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'places-'));
  const {model, adapter} = await ofThirdLayer();
  await model.save(nodeFiles(folder));
  await expect(saveAdapter(adapter, `file://${folder}`)).rejects.toThrow(
    /there is a model at file:.*would be lost/,
  );
  expect((await tf.loadLayersModel(nodeFiles(folder))).layers).toHaveLength(4);
  const place = `file://${join(folder, 'adapter')}`;
  await saveAdapter(adapter, place);
  await saveAdapter(adapter, place, {metadata: {again: 'yes'}});
  expect((await readAdapter(place)).metadata).toEqual({again: 'yes'});
  await expect(saveAdapter(adapter, 'runs/a')).rejects.toThrow(/perhaps 'file:\/\/runs\/a'/);
  rmSync(folder, {recursive: true});
});

test('bases that were kept for a model are freed after it was disposed', async () => {
  const {adapter} = await ofThirdLayer();
  const other = build();
  const before = tf.memory().numTensors;
  await mergeAdapter(other, adapter, {keepBase: true});
  expect(tf.memory().numTensors).toBe(before + 2);
  other.dispose();
  forgetBases(other);
  expect(tf.memory().numTensors).toBe(before - 8);
});
