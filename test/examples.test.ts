import {execFile} from 'node:child_process';
import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join, relative} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {promisify} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {afterAll, describe, expect, test} from 'vitest';
import {nodeFiles} from '../src/adapter/files.js';
import {decodeSafetensors} from '../src/adapter/safetensors.js';

const folder = fileURLToPath(new URL('../examples', import.meta.url));

const elsewhere = mkdtempSync(join(tmpdir(), 'examples-'));
const taken = mkdtempSync(join(elsewhere, 'taken-'));
writeFileSync(join(taken, 'file'), '');
afterAll(() => rmSync(elsewhere, {recursive: true}));

/** Runs an example in a folder of its own, where it may write. */
const run = (file: string, args: string[] = [], env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, [`${folder}/${file}`, ...args], {
    cwd: elsewhere,
    env: {...process.env, ...env},
  });

const readExample = (file: string) => readFileSync(`${folder}/${file}`, 'utf8');
const sources = readdirSync(folder, {recursive: true, encoding: 'utf8'}).filter(file =>
  file.endsWith('.mjs'),
);
const programs = ['char-rnn', 'doodlenet', 'graph-model', 'house-prices', 'mnist-mlp', 'text-classifier'];

test('every example is tested', () => {
  const files = sources.filter(file => !file.includes('/'));
  expect(files.sort()).toEqual([...programs, 'own-parametrization'].map(name => `${name}.mjs`).sort());
});

test.each(sources)('%s imports what a user can, or what is beside it', file => {
  const text = readExample(file);
  const names = [...text.matchAll(/(?:from|import) ?\(?'([^']+)'/g)].map(([, name]) => name!);
  for (const name of names) {
    if (name.startsWith('.'))
      expect(sources).toContain(
        relative(folder, fileURLToPath(new URL(name, pathToFileURL(`${folder}/${file}`)))),
      );
    else
      expect(name).toMatch(/^(node:[\w/]+|tfjs-lora(\/(adapter|testing|wasm))?|@tensorflow\/tfjs(-\w+)*)$/);
  }
});

test('no file in shared/ is without a user', () => {
  const used = sources.flatMap(file =>
    [...readExample(file).matchAll(/from '(\.[^']+)'/g)].map(([, name]) =>
      relative(folder, fileURLToPath(new URL(name!, pathToFileURL(`${folder}/${file}`)))),
    ),
  );
  expect(sources.filter(file => file.startsWith('shared/') && !used.includes(file))).toEqual([]);
});

test('own-parametrization.mjs runs', async () => {
  expect((await run('own-parametrization.mjs')).stdout).not.toBe('');
}, 180_000);

interface Result {
  accuracy?: {before: number; after: number; readBack: number};
  nats?: {before: {target: number}; after: {target: number}; readBack: number};
  ways?: {before: number; test: number}[];
  dollars?: {before: number; after: number; readBack: number; mean: number; line: number};
  tasks?: {before: {new: number}; after: {new: number}; readBack: number}[];
  readBack?: number;
}

/**
 * What was measured before, after, and with the adapter from its file; losses as they are, accuracies negated, errors as
 * shares of that of the mean.
 */
function measured({accuracy, nats, ways, dollars, tasks, readBack}: Result): [number, number, number][] {
  if (nats) return [[nats.before.target, nats.after.target, nats.readBack]];
  if (dollars) {
    return [[dollars.before / dollars.mean, dollars.after / dollars.mean, dollars.readBack / dollars.mean]];
  }
  if (accuracy) return [[-accuracy.before, -accuracy.after, -accuracy.readBack]];
  if (ways) return [[-ways[0]!.before, -ways[0]!.test, -readBack!]];
  return tasks!.map(task => [-task.before.new, -task.after.new, -task.readBack]);
}

describe.each(programs)('%s', name => {
  const file = `${name}.mjs`;
  const out = join(elsewhere, 'made', name);

  test('runs without data, learns, and writes an adapter that holds what it learned', async () => {
    const {stdout} = await run(file, ['--self-made', '--out', out]);
    expect(stdout).toContain(`in ${out}\n`);
    const results = measured(JSON.parse(readFileSync(join(out, 'result.json'), 'utf8')) as Result);
    expect(results.length).toBeGreaterThan(0);
    for (const [before, after, readBack] of results) {
      expect(after).toBeLessThan(before - 0.3);
      expect(readBack).toBeCloseTo(after, 3);
    }
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toMatch(/<polyline points="[\d.]+,[\d.]+ /);
    expect(page).not.toMatch(/NaN|undefined|<script|src=|href=/);
  }, 180_000);

  test('wrote a model of tfjs, whole', async () => {
    const files = readdirSync(out, {recursive: true, encoding: 'utf8'});
    const models = files.filter(path => path.endsWith('model.json'));
    const adapters = files.filter(path => path.endsWith('adapter.safetensors'));
    expect(models.length).toBeGreaterThanOrEqual(adapters.length);
    for (const path of adapters)
      expect(decodeSafetensors(readFileSync(join(out, path))).tensors.size).toBeGreaterThan(4);
    for (const path of models) {
      const {format} = JSON.parse(readFileSync(join(out, path), 'utf8')) as {format: string};
      if (format === 'graph-model') {
        const model = await tf.loadGraphModel(nodeFiles(join(out, path)));
        const weights = Object.values(model.weights).flat();
        expect(weights.reduce((sum, {size}) => sum + size, 0)).toBeGreaterThan(1000);
        model.dispose();
        continue;
      }
      const model = await tf.loadLayersModel(nodeFiles(join(out, path)));
      expect(model.countParams()).toBeGreaterThan(1000);
      model.dispose();
    }
  });

  test.each([
    ['--stepps 3', /^\S+: unknown option --stepps: there is --.*--steps.*--help\n$/],
    [`--data ${elsewhere}`, /^\S+: \S+ has no \S+\/ \(from https:.*; or give --self-made\n$/],
    [`--self-made --out ${taken}`, /^\S+: --out \S+ is not empty: give another folder\n$/],
  ])('says in one line what is wrong with %s', async (args, line) => {
    const error = await run(file, args.split(' ')).then(
      () => undefined,
      (e: {code: number; stderr: string}) => e,
    );
    expect(error?.stderr).toMatch(line);
    expect(error?.code).toBe(2);
  });

  test('lists its options', async () => {
    const {stdout} = await run(file, ['--help']);
    for (const option of ['data', 'self-made', 'out', 'steps', 'batch', 'seed', 'backend'])
      expect(stdout).toMatch(new RegExp(`^--${option} +\\S`, 'm'));
  });
});

test('char-rnn.mjs runs for a few steps, also where each rate is tried for a third of them', async () => {
  for (const [steps, ...more] of [['1'], ['10', '--compare']] as const) {
    const out = join(elsewhere, `steps-${steps}`);
    const {stdout} = await run('char-rnn.mjs', ['--self-made', '--steps', steps, '--out', out, ...more]);
    expect(stdout).toContain(`in ${out}\n`);
  }
}, 180_000);

test('the parametrization of the example takes fewer than 40 lines', () => {
  const text = readExample('own-parametrization.mjs');
  const variant = text.slice(text.indexOf('/**'), text.indexOf('await tf.setBackend'));
  expect(variant).toMatch(/^\/\*\*[\s\S]*function waves/);
  expect(variant.split('\n').filter(line => line.trim() !== '').length).toBeLessThan(40);
});
