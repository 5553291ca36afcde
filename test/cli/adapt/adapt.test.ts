import {execFile} from 'node:child_process';
import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {promisify} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, expect, test, vi} from 'vitest';
import type {Result} from '../../../src/cli/adapt/result.js';
import {textCorpus} from '../../../src/cli/byte-lm/corpus.js';
import {bitsPerByte} from '../../../src/cli/byte-lm/evaluate.js';
import {loadModel} from '../../../src/cli/files.js';
import {merge} from '../../../src/cli/generate.js';
import {modelFolder} from '../../../src/cli/package.js';
import {run} from '../../../src/cli/run.js';
import {asTorch, distance, merged} from '../../adapter/torch.js';
import {UsageError} from '../../../src/cli/usage-error.js';
import {heard} from '../console.js';

let folder: string;
let text: string;
const said = heard();
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'adapt-'));
  text = join(folder, 'words.txt');
  writeFileSync(text, 'const answer: number = question.length;\n'.repeat(200));
});
afterAll(() => rmSync(folder, {recursive: true}));

const adapt = (name: string, ...args: string[]) =>
  run(['adapt', '--text', text, '--out', join(folder, name), ...args]);
const resultOf = (name: string) =>
  JSON.parse(readFileSync(join(folder, name, 'result.json'), 'utf8')) as Result;

test('the model that ships and the adapter make the model that was trained', async () => {
  expect(await adapt('two', '--steps', '2')).toBe(0);
  expect(readdirSync(join(folder, 'two')).sort()).toEqual([
    'adapter.safetensors',
    'report.html',
    'result.json',
  ]);
  const {target, base, loss, options, versions} = resultOf('two');
  expect(target.after!).toBeLessThan(target.before);
  expect(base!.after).toBeGreaterThan(1);
  expect(loss.length).toBe(2);
  expect(options).toMatchObject({text: 'words.txt', targets: 'every matrix', backend: 'wasm'});
  expect(Object.keys(versions)).toEqual(['tfjs-lora', 'tfjs', 'node', 'backend']);

  const path = join(folder, 'two', 'adapter.safetensors');
  const model = await loadModel(modelFolder);
  const heldOut = textCorpus([text]).heldOut;
  expect(await bitsPerByte(model, heldOut, {windows: 128})).toBeCloseTo(target.before, 5);
  await merge(model, {path, bytes: readFileSync(path)});
  expect(await bitsPerByte(model, heldOut, {windows: 128})).toBeCloseTo(target.after!, 4);
  model.dispose();

  const args = ['generate', '--adapter', path, '--prompt', 'const ', '--bytes', '8'];
  expect(await run(args)).toBe(0);
  expect(said.at(-1)).toMatch(/^const /);
  // In a process that has not trained.
  const {stdout} = await promisify(execFile)(process.execPath, ['dist/cli/main.js', ...args]);
  expect(stdout).toBe(said.at(-1));
  expect(await adapt('two')).toBe(2);
  expect(said.at(-1)).toMatch(/two holds a run already/);
});

const at = (...names: string[]) => join(folder, ...names);

test('its adapter travels: merged into the model that ships, and in the form of PEFT', async () => {
  expect(await run(['merge', modelFolder, at('two'), '--out', at('two-merged')])).toBe(0);
  expect(await run(['convert', at('two'), '--to', 'peft', '--out', at('two-peft')])).toBe(0);
  const numbers = (model: tf.LayersModel) =>
    new Map(
      model.weights.map(weight => {
        const name = (weight as {originalName?: string}).originalName!;
        const [, layer, own] = /^(.*)\/(\w+)$/.exec(name)!;
        const values = weight.read().dataSync();
        return [
          `${layer!.replaceAll('/', '.')}.${own === 'kernel' ? 'weight' : own}`,
          asTorch(name, weight.shape as number[], values),
        ] as const;
      }),
    );
  const [base, whole] = [await loadModel(modelFolder), await loadModel(at('two-merged'))];
  const made = merged(
    {
      'adapter_config.json': readFileSync(at('two-peft', 'adapter_config.json'), 'utf8'),
      'adapter_model.safetensors': readFileSync(at('two-peft', 'adapter_model.safetensors')),
    },
    numbers(base),
  );
  const trained = numbers(whole);
  for (const [module, {values}] of trained)
    expect(distance(made.get(module)!.values, values), module).toBeLessThan(1e-5);
  base.dispose();
  whole.dispose();
});

test('a foreign or damaged adapter is told in one line', async () => {
  const model = tf.sequential({layers: [tf.layers.dense({units: 2, inputShape: [3]})]});
  const bytes = readFileSync(join(folder, 'two', 'adapter.safetensors'));
  await expect(merge(model, {path: 'x', bytes})).rejects.toThrow(UsageError);
  await expect(merge(model, {path: 'x', bytes})).rejects.toThrow(
    /^cannot use x: the adapter is for another model: it has no/,
  );
  await expect(merge(model, {path: 'x', bytes: bytes.subarray(0, 999)})).rejects.toThrow(
    /^cannot use x: .*not a readable/,
  );
  model.dispose();
});

test('a signal ends the training with an adapter, a report and a result', async () => {
  vi.spyOn(console, 'log').mockImplementation(line => {
    said.push(String(line));
    if (String(line).includes('Measuring the model before')) {
      waitForListener('SIGTERM', () => setTimeout(() => process.emit('SIGTERM'), 300));
    }
  });
  expect(await adapt('ended', '--steps', '500')).toBe(143);
  expect(said.join('\n')).toContain('Stopped after step');
  expect(resultOf('ended').target.after).toBeNull();
  expect(readdirSync(join(folder, 'ended')).length).toBe(3);
});

test('a signal while the result is measured', async () => {
  vi.spyOn(console, 'log').mockImplementation(line => {
    said.push(String(line));
    if (String(line).includes('Measuring the model after')) process.emit('SIGINT');
  });
  expect(await adapt('late', '--steps', '1')).toBe(130);
  expect(said.join('\n')).toMatch(/Stopped after step 1 of 1. The adapter of that step is in .*late/);
  expect(resultOf('late').target.after).toBeNull();
});

test('a training that diverges says so and exits with 1', async () => {
  expect(await adapt('wild', '--steps', '12', '--inner', 'sgd', '--lr', '1000000')).toBe(1);
  expect(said.join('\n')).toMatch(/the training diverged.*: lower --lr \(1000000\)/);
});

/** Calls back once the program listens to a signal. */
function waitForListener(signal: string, then: () => void): void {
  const before = process.listenerCount(signal);
  const timer = setInterval(() => {
    if (process.listenerCount(signal) <= before) return;
    clearInterval(timer);
    then();
  }, 20);
}
