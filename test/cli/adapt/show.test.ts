import {expect, test} from 'vitest';
import {type Result, resultTables} from '../../../src/cli/adapt/result.js';
import {describeMethod, resultPage, resultText} from '../../../src/cli/adapt/show.js';

const result: Result = {
  date: '2030-01-02T03:04:05.000Z',
  target: {before: 4.5, after: 2.25},
  base: null,
  parameters: {trained: 40, all: 1000},
  optimizerStateBytes: 480,
  adamStateBytes: 8000,
  adapterBytes: 300,
  modelBytes: 5000,
  msPerStep: 12_345.6,
  steps: 3,
  loss: [5, 4, 3],
  options: {
    ...{
      text: 'notes.txt',
      method: 'lora',
      rank: 4,
      alpha: 8,
      lr: 0.005,
      steps: 7,
      targets: 'every matrix',
      inner: 'adam',
    },
    ...{backend: 'wasm', seed: 0, out: 'runs/my notes'},
  },
  backend: 'wasm',
  versions: {'tfjs-lora': '1.2.3', tfjs: '4.22.0', node: '20.0.0', backend: '4.22.1'},
};
const before = {target: 4.5, base: null, sample: ' before\u001b[31m'};
const setting = {
  ...{backendNote: 'wasm: as asked', trainBytes: 9000, heldOutBytes: 1000, heldOutIs: 'the last tenth'},
  ...{prompt: 'the prompt', before},
};
const after = {target: 2.25, base: null, sample: ' after'};

test('without enough English the row is left out; slow steps are in seconds', () => {
  const [bits, cost] = resultTables(result);
  expect(bits!.map(row => row[0])).toEqual(['Bits per byte', 'The new text, held out']);
  expect(cost!.at(-1)![2]).toBe('12.3 s');
});

test('worse than guessing is called diverged, and what was not measured so', () => {
  const cell = (bits: number | null) =>
    resultTables({...result, target: {before: 4.5, after: bits}})[0]![1]![2];
  expect([2.25, 8.5, NaN, Infinity, null].map(cell)).toEqual([
    '2.250',
    ...['diverged', 'diverged', 'diverged', 'not measured'],
  ]);
});

test('the text names what to open and what to run; nothing in it steers a terminal', () => {
  const text = resultText(result, setting, after);
  expect(text).not.toContain('\u001b');
  expect(text.split('the prompt').length).toBe(2);
  expect(text).toMatch(/Open +runs.my notes.report\.html\nNext +.*generate.* --adapter "runs.*safetensors"$/);
});

test('without an adapter the model is what to use; a method without a rank has none', () => {
  const options = {...result.options, method: 'full', rank: null, alpha: null};
  const merged = {...result, adapterBytes: null, options};
  expect(
    resultTables(merged)
      .at(-1)!
      .map(row => row[0]),
  ).toContain('Size on disk (the merged model)');
  const text = resultText(merged, setting, after);
  expect(text).toMatch(/^Wrote +model, report.html, result.json in/m);
  expect(text).toMatch(/^Next +.*generate.* --model "runs.my notes.model"$/m);
  expect(describeMethod(options)).toBe('rate 0.005, adam, every matrix');
  const page = resultPage(merged, setting, after);
  expect(page).toContain('learned this text through full: rate 0.005');
  expect(page).toContain('<h2>Use the model</h2>');
  expect(page).not.toContain('safetensors');
});

test('the page has the options, versions, texts and how to go on', () => {
  const page = resultPage(result, setting, after);
  for (const fact of [
    'rank 4, alpha 8, rate 0.005',
    'tfjs-lora 1.2.3',
    'wasm 4.22.1',
    '2030-01-02',
    '1,000 bytes',
  ]) {
    expect(page).toContain(fact);
  }
  const stopped = resultPage({...result, target: {before: 4.5, after: null}}, setting, undefined);
  expect(stopped).toContain('3 steps, of 7');
  expect(stopped).not.toContain('Continued after');
});
