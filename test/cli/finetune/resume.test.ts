/** A run goes on only as what it was. */
import {copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {chooseBackend} from '../../../src/cli/backend.js';
import {digestOf} from '../../../src/cli/finetune/digest.js';
import type {Result} from '../../../src/cli/finetune/result.js';
import {run} from '../../../src/cli/run.js';
import {heard} from '../console.js';
import {clouds, csv, dense, grey, init, modelIn, photosAndModel, write} from './make.js';
import * as tf from '@tensorflow/tfjs';

let folder: string;
const said = heard();
const at = (...parts: string[]) => join(folder, ...parts);
const files = ['adapter.safetensors', 'model/weights.bin', 'model/model.json', 'model/data.json'];
const bytesOf = (out: string) => files.map(file => readFileSync(at(out, file)));
const finetune = (model: string, data: string, out: string, ...args: string[]) =>
  run(['finetune', at(model), at(data), '--out', at(out), '--backend', 'wasm', ...args]);

beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'resume-'));
  await dense(at('two'), 2, 2, 'softmax');
  await modelIn(at('other'), [
    tf.layers.dense({units: 12, inputShape: [2], activation: 'tanh', kernelInitializer: init(7)}),
    tf.layers.dense({units: 12, activation: 'tanh', kernelInitializer: init(8)}),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(9)}),
  ]);
  write(at('clouds.csv'), clouds(60));
  write(at('changed.csv'), clouds(60).replace(/yes\n$/, 'no\n'));
  write(at('test.csv'), clouds(12));
});
afterAll(() => rmSync(folder, {recursive: true}));

const steps = ['--steps', '4', '--checkpoint-every', '2'];

test('every other option, model and data is refused by name, and nothing is touched', async () => {
  expect(await finetune('two', 'clouds.csv', 'run', ...steps)).toBe(0);
  const before = bytesOf('run');
  const refused = async (why: string, model: string, data: string, ...args: string[]) => {
    said.length = 0;
    expect(await finetune(model, data, 'run', '--resume', ...args)).toBe(2);
    expect(said).toEqual([
      `tfjs-lora: --resume: ${why}: go on with what it was, or begin another run in another --out`,
    ]);
    expect(bytesOf('run')).toEqual(before);
  };
  const was = (name: string, then: unknown, now: unknown) =>
    `${name} was ${then} when the run began, and is ${now} now`;
  const changed: [why: string, ...args: string[]][] = [
    [was('--lr', 0.005, 0.01), '--lr', '0.01'],
    [was('--rank', 4, 2), '--rank', '2', '--alpha', '8'],
    [was('--alpha', 8, 3), '--alpha', '3'],
    [was('--method', 'lora', 'dora'), '--method', 'dora'],
    [was('--inner', 'adam', 'sgd'), '--inner', 'sgd', '--lr', '0.005'],
    [was('--targets', 'not given', 'kernel'), '--targets', 'kernel'],
    [was('--head', 'full', 'lora'), '--head', 'lora'],
    [was('--new-head', 'not given', 'given'), '--new-head'],
    [was('--batch', 32, 16), '--batch', '16'],
    [was('--batch-norm', 'freeze', 'train'), '--batch-norm', 'train'],
    [was('--seed', 0, 1), '--seed', '1'],
    [was('--split', 0.2, 0.3), '--split', '0.3'],
    [was('--test', 'not given', 'given'), '--test', at('test.csv')],
    [was('--standardise', 'not given', 'given'), '--standardise'],
    [was('--drop-empty', 'not given', 'given'), '--drop-empty'],
    [was('--scale', 'not given', '-1..1'), '--scale', '-1..1'],
  ];
  for (const [why, ...args] of changed) await refused(why, 'two', 'clouds.csv', '--steps', '4', ...args);
  await refused(was('the number of steps (--steps, --epochs)', 4, 5), 'two', 'clouds.csv', '--steps', '5');
  const model = `the model ${at('other')} is not what the run began with`;
  await refused(model, 'other', 'clouds.csv', '--steps', '4');
  const data = `the data ${at('changed.csv')} is not what the run began with`;
  await refused(data, 'two', 'changed.csv', '--steps', '4');

  write(at('names.txt'), 'yes\nno\n');
  const names = 'the names or the order of the classes (--classes, or classes.txt beside the model) are not';
  await refused(
    `${names} what the run began with`,
    'two',
    'clouds.csv',
    '--steps',
    '4',
    '--classes',
    at('names.txt'),
  );

  // The same call, also where model and data lie elsewhere now: nothing is left to do, and all is as it was.
  cpSync(at('two'), at('moved'), {recursive: true});
  copyFileSync(at('clouds.csv'), at('copy.csv'));
  expect(await finetune('moved', 'copy.csv', 'run', ...steps, '--resume')).toBe(0);
  expect(bytesOf('run')).toEqual(before);
});

test('examples of --test, images, a vocabulary', async () => {
  const test = ['--test', at('test.csv')];
  expect(await finetune('two', 'clouds.csv', 'tested', ...steps, ...test)).toBe(0);
  write(at('test.csv'), clouds(14));
  expect(await finetune('two', 'clouds.csv', 'tested', ...steps, ...test, '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(/--resume: the data of --test .*test\.csv is not what the run began with/);

  await photosAndModel(at('photos'), at('image'));
  expect(await finetune('image', 'photos', 'seen', ...steps)).toBe(0);
  write(
    at('photos/dark/3.png'),
    grey(4, 4, (x, y) => (x === 3 && y === 3 ? 23 : 13 + x * y)),
  );
  expect(await finetune('image', 'photos', 'seen', ...steps, '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(/--resume: the data .*photos is not what/);

  await modelIn(at('words'), [
    tf.layers.embedding({inputDim: 6, outputDim: 4, inputLength: 3, embeddingsInitializer: init(5)}),
    tf.layers.flatten(),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(6)}),
  ]);
  write(at('words/vocabulary.txt'), '[PAD]\n[UNK]\ngood\nbad\nfilm\n');
  write(
    at('films.csv'),
    csv(40, i => [i % 2 ? 'a good film' : 'bad film', i % 2], ['text', 'label']),
  );
  expect(await finetune('words', 'films.csv', 'read', ...steps)).toBe(0);
  write(at('words/vocabulary.txt'), '[PAD]\n[UNK]\nbad\ngood\nfilm\n');
  expect(await finetune('words', 'films.csv', 'read', ...steps, '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(/--resume: the vocabulary beside the model .*words is not what/);
});

test('a data.json that has come since, and a refusal leaves no tensor', async () => {
  cpSync(at('run'), at('known-run'), {recursive: true});
  cpSync(at('two'), at('known'), {recursive: true});
  write(at('known/data.json'), readFileSync(at('run/model/data.json')));
  const {numTensors} = tf.memory();
  expect(await finetune('known', 'clouds.csv', 'known-run', ...steps, '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(
    /--resume: the data\.json beside the model .*known is not what the run began with/,
  );
  expect(tf.memory().numTensors).toBe(numTensors);
});

test('a new run begins in no folder of checkpoints', async () => {
  cpSync(at('run/checkpoints'), at('killed/checkpoints'), {recursive: true});
  expect(await finetune('two', 'changed.csv', 'killed', ...steps)).toBe(2);
  expect(said.at(-1)).toMatch(
    /killed holds checkpoints of a run: add --resume to go on with it, or give another/,
  );
  expect(existsSync(at('killed/model'))).toBe(false);
  expect(await finetune('two', 'clouds.csv', 'killed', ...steps, '--resume')).toBe(0);
  expect(bytesOf('killed')).toEqual(bytesOf('run'));
});

test('where no step was left, no time of a step is told', async () => {
  const result = JSON.parse(readFileSync(at('run/result.json'), 'utf8')) as Result;

  expect(result.msPerStep).toBeNull();
  said.length = 0;
  expect(await finetune('two', 'clouds.csv', 'run', ...steps, '--resume')).toBe(0);
  expect(said.join('\n')).toMatch(/^Median time of a step +not measured$/m);
});

test('a digest is of all bytes, and tells parts from each other', () => {
  expect(digestOf(['ab', 'c'])).not.toBe(digestOf(['a', 'bc']));
  const bytes = Float32Array.of(1, 2, 3);
  expect(digestOf([bytes])).toBe(digestOf([new Uint8Array(bytes.buffer)]));
  expect(digestOf([bytes.subarray(1)])).not.toBe(digestOf([bytes]));
});
