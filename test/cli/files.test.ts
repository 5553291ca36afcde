import {existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {byteTransformer} from '../../src/cli/byte-lm/model.js';
import {chooseBackend} from '../../src/cli/backend.js';
import {expectWritable, loadModel, runFolder, saveModel, writeFiles} from '../../src/cli/files.js';
import {UsageError} from '../../src/cli/usage-error.js';

let folder: string;
beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'files-'));
});
afterAll(() => rmSync(folder, {recursive: true}));

describe('writeFiles', () => {
  test('makes folders and leaves nothing else', async () => {
    await writeFiles({[join(folder, 'a/b/x.txt')]: 'é', [join(folder, 'a/b/y.bin')]: Uint8Array.of(1, 2)});
    expect(readdirSync(join(folder, 'a/b')).sort()).toEqual(['x.txt', 'y.bin']);
    expect([...readFileSync(join(folder, 'a/b/y.bin'))]).toEqual([1, 2]);
    expect(readFileSync(join(folder, 'a/b/x.txt'), 'utf8')).toBe('é');
  });

  test('writes nothing where a folder cannot be made, and names what is in the way', async () => {
    const inTheWay = join(folder, 'in-the-way');
    writeFileSync(inTheWay, '');
    const good = join(folder, 'good.txt');
    const written = writeFiles({[good]: 'x', [join(inTheWay, 'x.txt')]: 'x'});
    await expect(written).rejects.toThrow(UsageError);
    await expect(written).rejects.toThrow(
      `cannot write ${join(inTheWay, 'x.txt')}: ${inTheWay} is a file, not a folder`,
    );
    expect(existsSync(good)).toBe(false);
  });

  test('a file that cannot be replaced stays, and nothing is left beside it', async () => {
    mkdirSync(join(folder, 'full/here/inside'), {recursive: true});
    const written = writeFiles({[join(folder, 'full/here')]: 'x'});
    await expect(written).rejects.toThrow(/^cannot write .*here: (?!.*\.tmp)/);
    expect(readdirSync(join(folder, 'full'))).toEqual(['here']);
  });
});

test('a folder is tried without a trace', () => {
  expectWritable(join(folder, 'new/one'));
  expect(existsSync(join(folder, 'new'))).toBe(false);
  const file = join(folder, 'no-folder');
  writeFileSync(file, '');
  for (const inside of ['', 'inside', 'inside/further']) {
    const out = join(file, inside);
    const tried = () => expectWritable(out);
    expect(tried).toThrow(UsageError);
    expect(tried).toThrow(`cannot write to ${out}: ${file} is a file, not a folder`);
  }
  expect(readFileSync(file, 'utf8')).toBe('');
});

test('a run gets a folder that holds no other', async () => {
  const usual = join(folder, 'runs/text');
  expect(runFolder(undefined, usual)).toBe(usual);
  await writeFiles({[join(usual, 'adapter.safetensors')]: ''});
  expect(runFolder(undefined, usual)).toBe(`${usual}-2`);
  await writeFiles({[join(`${usual}-2`, 'report.html')]: ''});
  expect(runFolder(undefined, usual)).toBe(`${usual}-3`);
  expect(runFolder(join(folder, 'other'), usual)).toBe(join(folder, 'other'));
  expect(() => runFolder(usual, usual)).toThrow(/holds a run already \(adapter.safetensors\): remove it/);
});

describe('models', () => {
  test('a saved model reads back with the same answers', async () => {
    const model = byteTransformer({context: 16, width: 16, blocks: 1, heads: 2, seed: 5});
    await saveModel(model, join(folder, 'model'), {'facts.json': '{}'});
    expect(readdirSync(join(folder, 'model')).sort()).toEqual(['facts.json', 'model.json', 'weights.bin']);
    const again = await loadModel(join(folder, 'model'));
    const bytes = tf.tensor2d([[1, 2, 3, 255]], [1, 4], 'int32');
    const [expected, actual] = [model, again].map(m => (m.apply(bytes) as tf.Tensor).dataSync());
    expect(actual).toEqual(expected);
    const specs = JSON.parse(readFileSync(join(folder, 'model/model.json'), 'utf8')).weightsManifest[0]
      .weights;
    expect(specs.map((spec: {name: string}) => spec.name)).toContain('block0/attention/query/kernel');
    expect(specs.every((spec: {name: string}) => !/_\d+$/.test(spec.name))).toBe(true);
    tf.dispose(bytes);
    model.dispose();
    again.dispose();
  });

  test('a folder without a model is told', () =>
    expect(loadModel(join(folder, 'nothing'))).rejects.toThrow(UsageError));

  test('a damaged model is told', async () => {
    const damaged = join(folder, 'damaged');
    mkdirSync(damaged);
    const [json, weights] = ['model.json', 'weights.bin'].map(name =>
      readFileSync(join(folder, 'model', name)),
    );
    writeFileSync(join(damaged, 'model.json'), json!);
    await expect(loadModel(damaged)).rejects.toThrow(/^cannot read the model in .*weights\.bin/);
    writeFileSync(join(damaged, 'weights.bin'), weights!.subarray(4));
    const cut = loadModel(damaged);
    await expect(cut).rejects.toThrow(UsageError);
    await expect(cut).rejects.toThrow(/^cannot read the model in .*bytes/);
  });
});
