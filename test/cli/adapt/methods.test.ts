import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {decodeAdapter} from '../../../src/adapter/format.js';
import {mergeAdapter} from '../../../src/adapter/merge.js';
import {keepWhatWasLearned} from '../../../src/cli/adapt/keep.js';
import {distance} from '../../../src/cli/adapt/method-names.js';
import {comparedByDefault, methods} from '../../../src/cli/adapt/methods.js';
import {buildOptimizer, parametrizationAt} from '../../../src/cli/adapt/optimizer.js';
import {type Options, readOptions} from '../../../src/cli/adapt/options.js';
import {chooseBackend} from '../../../src/cli/backend.js';
import {adaptation} from '../../../src/cli/byte-lm/adaptation.js';
import {loadModel} from '../../../src/cli/files.js';
import {modelFolder} from '../../../src/cli/package.js';
import {expectClose, numTensors} from '../../helpers.js';

const text = new TextEncoder().encode('const answer: number = question.length;\n'.repeat(20));
let folder: string;
beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'methods-'));
});
afterAll(() => rmSync(folder, {recursive: true}));

const weightsOf = (model: tf.LayersModel) =>
  model.weights.map(weight => (weight.read() as tf.Variable).dataSync());

/** Sorted by name: tfjs orders the weights of a loaded model as its layers are. */
const named = (model: tf.LayersModel) =>
  new Map(model.weights.map(weight => [weight.originalName, (weight.read() as tf.Variable).dataSync()]));

describe.each(Object.keys(methods))('%s', name => {
  test('learns on the model that ships, and what it learned can be used again', async () => {
    const before = numTensors();
    // The gradients that a start is chosen from move nothing.
    const {observe} = parametrizationAt(methods[name]!, methods[name]!.rank ?? 0);
    const steps = 2 + (observe?.steps ?? 1) - 1;
    const model = await loadModel(modelFolder);
    const start = named(model);
    const optimizer = buildOptimizer(
      model,
      readOptions(['--method', name, '--steps', String(steps)]) as Options,
    );
    const {loss, diverged} = await adaptation(model, optimizer, text, {
      steps,
      seed: 1,
      batch: 2,
      context: 24,
    });
    expect(diverged).toBe(false);
    expect(loss.length).toBe(steps);
    expect(loss.every(Number.isFinite)).toBe(true);

    const end = named(model);
    const moved = optimizer.attached.map(attached => attached.name);
    expect(moved.length).toBe(model.weights.filter(({shape}) => shape.length === 2).length);
    for (const [weight, values] of end) {
      const same = values.every((value, i) => value === start.get(weight)![i]);
      expect(same, weight).toBe(!moved.includes(weight));
      expect(values.every(Number.isFinite), weight).toBe(true);
    }

    const out = join(folder, name);
    const kept = await keepWhatWasLearned(out, model, optimizer);
    const refreshed = optimizer.attached.some(attached => attached.refreshed);
    optimizer.dispose();
    model.dispose();
    let again: tf.LayersModel;
    if (refreshed) {
      expect(kept.adapterBytes).toBeNull();
      expect(kept.note).toMatch(/^no adapter: .*; the merged model is in .*model$/);
      again = await loadModel(join(out, 'model'));
    } else {
      const bytes = readFileSync(join(out, 'adapter.safetensors'));
      expect([kept.adapterBytes, kept.note]).toEqual([bytes.length, undefined]);
      again = await loadModel(modelFolder);
      await mergeAdapter(again, decodeAdapter(bytes));
    }
    for (const [weight, values] of named(again)) expectClose(values, end.get(weight)!, 1e-5);
    again.dispose();
    expect(numTensors()).toBe(before);
  });

  test('fits into its tables', () => {
    const {title, help, rank, alpha} = methods[name]!;
    expect(name).toMatch(/^[a-z][a-zA-Z0-9]{1,17}$/);
    expect(title.length).toBeLessThanOrEqual(17);
    expect(title + help).not.toMatch(/[<>&\n]/);
    expect(parametrizationAt(methods[name]!, rank ?? 0).rank ?? null).toBe(rank);
    expect(alpha === null || alpha > 0).toBe(true);
  });
});

test('a method that chooses its subspace anew is among them', async () => {
  expect(Object.keys(methods)).toContain('relora');
  const model = await loadModel(modelFolder);
  const untouched = weightsOf(model);
  const optimizer = buildOptimizer(model, readOptions(['--method', 'relora', '--steps', '2']) as Options);
  await adaptation(model, optimizer, text, {steps: 2, seed: 1, batch: 1, context: 8});
  expect(optimizer.attached.every(({refreshed}) => refreshed)).toBe(true);
  expect(weightsOf(model)).not.toEqual(untouched);
  optimizer.dispose();
  model.dispose();
});

test('every parametrization of the library, and every start of LoRA, is a method', () => {
  const read = (path: string) =>
    readFileSync(fileURLToPath(new URL(`../../../src/${path}`, import.meta.url)), 'utf8');
  const isStart = (file: string) => read(file).includes("from './initializer.js'");
  const exported = [...read('index.ts').matchAll(/export \{([^}]*)\} from '\.\/(\w+\/[\w-]+)\.js'/g)]
    .filter(
      ([, , file]) =>
        file!.startsWith('parametrizations/') || (file!.startsWith('init/') && isStart(`${file}.ts`)),
    )
    .flatMap(([, names]) => names!.split(','))
    .map(name => name.trim())
    .filter(name => name !== '' && !name.startsWith('type '));
  for (const name of ['lora', 'full', 'gaussian']) expect(exported).toContain(name);
  const registry = read('cli/adapt/methods.ts');
  // The start that lora has without being told.
  const implied = ['kaiming'];
  for (const name of exported.filter(name => !implied.includes(name)))
    expect(registry, `an entry with ${name}(…)`).toMatch(new RegExp(`\\b${name}\\(`));
});

test('the registry knows the library by its public names alone', () => {
  const registry = readFileSync(
    fileURLToPath(new URL('../../../src/cli/adapt/methods.ts', import.meta.url)),
    'utf8',
  );
  const imported = [...registry.matchAll(/from '([^']+)'/g)].map(([, from]) => from);
  expect(imported.sort()).toEqual(['../../index.js', '@tensorflow/tfjs']);
});

test('what is compared by default are methods, once each', () => {
  expect(new Set(comparedByDefault).size).toBe(6);
  for (const name of comparedByDefault) expect(Object.keys(methods)).toContain(name);
});

test('B of LoRA+ has 16 times the rate of A, by its schedule', () => {
  const rate = (step: number) => 0.1 / (step + 1);
  const inner = () => tf.train.sgd(1);
  const {options} = methods['loraPlus']!.build({rank: 2, alpha: 4, steps: 9, lr: 0.1, rate, inner});
  expect(options!.learningRate!(4, {weight: 'w', factor: 'a'})).toBeCloseTo(0.02, 12);
  expect(options!.learningRate!(4, {weight: 'w', factor: 'b'})).toBeCloseTo(0.32, 12);
});

test.each(['relora', 'galore', 'flora'])('the subspace of %s is renewed 3 to 10 times', name => {
  const inner = () => tf.train.sgd(1);
  for (const steps of [12, 15, 20, 100, 150, 1000]) {
    const {options} = methods[name]!.build({rank: 2, alpha: 4, steps, lr: 0.1, rate: () => 0.1, inner});
    const due = Array.from({length: steps}, (_, step) => options!.refresh!(step)).filter(Boolean).length;
    expect(due, `${steps} steps`).toBeGreaterThanOrEqual(3);
    expect(due, `${steps} steps`).toBeLessThanOrEqual(10);
  }
});

test('the rate of relora falls at each renewal', () => {
  const inner = () => tf.train.sgd(1);
  const {options} = methods['relora']!.build({
    rank: 2,
    alpha: 4,
    steps: 150,
    lr: 0.1,
    rate: () => 0.1,
    inner,
  });
  const {refresh, learningRate} = options!;
  for (let step = 11; step < 150; step++) {
    const [before, now] = [learningRate!(step - 1, {}), learningRate!(step, {})];
    if (refresh!(step)) expect(now / before, `step ${step}`).toBeLessThan(0.3);
  }
});

test('how far words are apart', () => {
  expect([distance('', 'abc'), distance('galore', 'galroe'), distance('lora', 'flora')]).toEqual([3, 2, 1]);
});
