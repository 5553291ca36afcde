/** A model that a run has written is learned on with the inputs that it knows. */
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {chooseBackend} from '../../../src/cli/backend.js';
import type {ClassScores, NumberScores} from '../../../src/cli/finetune/measure.js';
import type {Result} from '../../../src/cli/finetune/result.js';
import {run} from '../../../src/cli/run.js';
import {heard} from '../console.js';
import {csv, dense, init, modelIn, photosAndModel, write} from './make.js';

let folder: string;
const said = heard();
const at = (...parts: string[]) => join(folder, ...parts);
const finetune = (model: string, data: string, out: string, ...args: string[]) =>
  run(['finetune', at(model), at(data), '--out', at(out), ...args]);
const resultOf = (out: string) => JSON.parse(readFileSync(at(out, 'result.json'), 'utf8')) as Result;
const inputOf = (out: string) =>
  JSON.parse(readFileSync(at(out, 'model/data.json'), 'utf8')) as Result['input'];

/** Large and shifted columns: without their means the model sees nothing of use. */
const rows = (columns: string[], value: (far: number, near: number) => (number | string)[]) =>
  csv(60, i => value(1000 + 300 * Math.sin(i), 5 + 0.01 * Math.cos(3 * i)), columns);
const price = (far: number, near: number) => Math.round(40_000 + 30 * far + 1e6 * (near - 5));

beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'again-'));
  await dense(at('one'), 2, 1, 'linear');
  write(
    at('houses.csv'),
    rows(['far', 'near', 'price'], (far, near) => [far, near, price(far, near)]),
  );
});
afterAll(() => rmSync(folder, {recursive: true}));

test('a first run writes what it did with columns and labels', async () => {
  const learned = ['--label', 'price', '--standardise', '--standardise-labels', '--epochs', '30'];
  expect(await finetune('one', 'houses.csv', 'first', ...learned, '--lr', '0.02')).toBe(0);
  expect(inputOf('first')).toMatchObject({columns: ['far', 'near'], numbers: ['price'], text: null});
});

test('columns and labels are standardised as they were, with the same means', async () => {
  const {mean, deviation} = inputOf('first').standardise!;
  // Other houses have other means.
  const some = ['far,near,price', ...readFileSync(at('houses.csv'), 'utf8').split('\n').slice(1, 31)];
  write(at('some.csv'), some.join('\n') + '\n');
  expect(await finetune('first/model', 'some.csv', 'second', '--label', 'price', '--steps', '1')).toBe(0);
  const lines = said.join('\n');
  expect(lines).toMatch(/^Inputs +far, near \(2\), standardised as data\.json beside the model says$/m);
  expect(lines).toMatch(/^Labels +numbers: price, standardised as data\.json beside the model says$/m);
  expect(inputOf('second')).toEqual(inputOf('first'));
  expect([mean.length, deviation.length]).toEqual([2, 2]);
  // What was learned is there from the start: errors are far below those of the mean.
  const {before, baseline} = resultOf('second').heldOut as {before: NumberScores; baseline: NumberScores};
  expect(before.rmse).toBeLessThan(baseline.rmse / 3);

  // Other options win.
  const asked = ['--label', 'price', '--standardise', '--standardise-labels', '--steps', '1'];
  expect(await finetune('first/model', 'some.csv', 'anew', ...asked)).toBe(0);
  expect(inputOf('anew').standardise!.mean).not.toEqual(mean);
  expect(inputOf('anew').outputs).not.toEqual(inputOf('first').outputs);
});

test('columns come in the order of the model', async () => {
  write(
    at('turned.csv'),
    rows(['near', 'price', 'far'], (far, near) => [near, price(far, near), far]),
  );
  expect(await finetune('first/model', 'turned.csv', 'turned', '--label', 'price', '--steps', '1')).toBe(0);
  expect(said.join('\n')).toMatch(/^Note +the columns are put in the order of data\.json beside the model$/m);
  expect(await finetune('first/model', 'houses.csv', 'straight', '--label', 'price', '--steps', '1')).toBe(0);
  expect(resultOf('turned').heldOut).toEqual(resultOf('straight').heldOut);
});

test('other columns, other labels and a file of another kind are said, and are as they are', async () => {
  write(
    at('cars.csv'),
    rows(['age', 'doors', 'value'], (far, near) => [far / 1000, near, far / 500]),
  );
  expect(await finetune('first/model', 'cars.csv', 'cars', '--label', 'value', '--steps', '1')).toBe(0);
  const lines = said.join('\n');
  expect(lines).toMatch(/^Inputs +age, doors \(2\), as they are$/m);
  expect(lines).toMatch(
    /^Note +data\.json beside the model standardises far, near, and these inputs are others/m,
  );
  expect(lines).toMatch(
    /^Note +data\.json beside the model standardises the labels price, and these are others/m,
  );
  expect([inputOf('cars').standardise, inputOf('cars').outputs]).toEqual([null, null]);

  for (const [i, text] of [
    '[1, 2]',
    'null',
    '{',
    '{"columns": ["a"], "standardise": {"mean": [0], "deviation": [0]}}',
  ].entries()) {
    const name = `strange-${i}`;
    for (const file of ['model.json', 'weights.bin']) write(at(name, file), readFileSync(at('one', file)));
    write(at(name, 'data.json'), text);
    said.length = 0;
    expect(await finetune(name, 'cars.csv', `${name}-out`, '--label', 'value', '--steps', '1')).toBe(0);
    expect(said.join('\n')).toMatch(/^Note +.*data\.json is not as a run writes it, and is passed over$/m);
  }
});

test('images keep their range', async () => {
  await photosAndModel(at('photos'), at('image'));
  expect(await finetune('image', 'photos', 'wide', '--scale', '-1..1', '--steps', '1')).toBe(0);
  expect(await finetune('wide/model', 'photos', 'wide-on', '--steps', '1')).toBe(0);
  expect(said.join('\n')).toMatch(
    /^Inputs +images of 4 x 4 x 1, -1\.\.1, as data\.json beside the model says$/m,
  );
  expect(inputOf('wide-on').scale).toEqual(inputOf('wide').scale);
  expect(resultOf('wide-on').heldOut.before).toEqual(resultOf('wide').heldOut.after);
  expect(await finetune('wide/model', 'photos', 'other', '--scale', '0..1', '--steps', '1')).toBe(0);
  expect(inputOf('other').scale).toMatchObject({range: '0..1', plus: 0});
});

test('text takes its vocabulary along', async () => {
  await modelIn(at('words'), [
    tf.layers.embedding({inputDim: 6, outputDim: 4, inputLength: 3, embeddingsInitializer: init(5)}),
    tf.layers.flatten(),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(6)}),
  ]);
  const vocabulary = '\ufeff[PAD]\r\n[UNK]\r\ngood\r\nbad\r\nfilm\r\n';
  write(at('words/vocab.txt'), vocabulary);
  write(
    at('films.csv'),
    csv(40, i => [i % 2 ? 'a good film' : 'Bad film', i % 2], ['text', 'label']),
  );
  expect(await finetune('words', 'films.csv', 'told', '--epochs', '20')).toBe(0);
  expect(said.join('\n')).toMatch(/^Inputs +text: 3 words of vocab\.txt, cut or filled up$/m);
  expect(readFileSync(at('told/model/vocab.txt'), 'utf8')).toBe(vocabulary);
  expect(inputOf('told').text).toEqual({
    ...{vocabulary: 'vocab.txt', tokens: 'words', isSmall: true, length: 3, pad: 0, unknown: 1},
  });
  expect(await finetune('told/model', 'films.csv', 'told-on', '--steps', '1')).toBe(0);
  const [was, is] = [resultOf('told').heldOut.after, resultOf('told-on').heldOut.before] as ClassScores[];
  expect(is).toEqual(was);
  expect(existsSync(at('told-on/model/vocab.txt'))).toBe(true);
  expect(await finetune('words', 'films.csv', 'none', '--standardise')).toBe(2);
  expect(said.at(-1)).toMatch(/--standardise goes with columns of numbers, and "text" is text$/);
});
