import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {afterAll, beforeAll, beforeEach, expect, test, vi} from 'vitest';
import {comparisonPage, comparisonText, outcomeText} from '../../../src/cli/adapt/compare-show.js';
import {
  type Comparison,
  comparisonTable,
  comparisonTables,
  type Trial,
} from '../../../src/cli/adapt/comparison.js';
import {Ground} from '../../../src/cli/adapt/ground.js';
import {methods} from '../../../src/cli/adapt/methods.js';
import type {Result} from '../../../src/cli/adapt/result.js';
import {chooseBackend} from '../../../src/cli/backend.js';
import {bitsPerByte} from '../../../src/cli/byte-lm/evaluate.js';
import {run} from '../../../src/cli/run.js';
import {table} from '../../../src/cli/table.js';
import {tensorsLeftBy} from '../../helpers.js';
import {heard} from '../console.js';

let folder: string;
let text: string;
const said = heard();
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'compare-'));
  text = join(folder, 'words.txt');
  writeFileSync(text, 'const answer: number = question.length;\n'.repeat(200));
});
beforeEach(() => {
  // A few windows: the numbers are compared, not judged.
  vi.spyOn(Ground.prototype, 'measure').mockImplementation(async function (this: Ground, model, signal) {
    const options = {windows: 4, context: 16, ...(signal && {signal})};
    const target = await bitsPerByte(model, this.target.heldOut, options);
    return {target, base: await bitsPerByte(model, this.target.train, options), sample: 'a sample'};
  });
});
afterAll(() => rmSync(folder, {recursive: true}));

const adapt = (name: string, ...args: string[]) =>
  run(['adapt', '--text', text, '--out', join(folder, name), ...args]);
const resultOf = <R = Comparison>(name: string) =>
  JSON.parse(readFileSync(join(folder, name, 'result.json'), 'utf8')) as R;

test('every method starts from the same model, and as if it were alone', async () => {
  const args = ['--steps', '2', '--seed', '3'];
  await chooseBackend('wasm');
  const left = await tensorsLeftBy(async () => {
    expect(await adapt('three', '--compare', 'full,relora,lora', ...args)).toBe(0);
  });
  expect(left).toBe(0);
  expect(said.at(-1)).toMatch(/^full .*\nrelora .*\nlora .*$/m);
  expect(await adapt('one', ...args)).toBe(0);

  const {methods: trials, budget, before, missing, options} = resultOf('three');
  const alone = resultOf<Result>('one');
  expect(trials.map(({method}) => method)).toEqual(['full', 'relora', 'lora']);
  expect([missing, options.compare]).toEqual([[], ['full', 'relora', 'lora']]);
  expect(before.target).toBe(alone.target.before);
  const lora = trials[2]!;
  expect(lora.loss).toEqual(alone.loss);
  expect(lora.after!.target).toBe(alone.target.after);
  expect(lora.after!.base).toBe(alone.base!.after);
  expect([lora.trained, lora.optimizerStateBytes]).toEqual([
    alone.parameters.trained,
    alone.optimizerStateBytes,
  ]);
  expect(budget).toBe(lora.trained);
  for (const {loss, after, ended} of trials) {
    expect([loss.length, ended]).toEqual([2, 'done']);
    expect(loss[0]).toBe(lora.loss[0]);
    expect(after!.target).toBeLessThan(before.target);
  }
  // 50 steps without a refresh would be LoRA.
  expect(trials[1]!.after!.target).not.toBe(lora.after!.target);

  expect(readdirSync(join(folder, 'three')).sort()).toEqual(['report.html', 'result.json']);
  const page = readFileSync(join(folder, 'three', 'report.html'), 'utf8');
  for (const name of ['full', 'relora', 'lora']) expect(page).toContain(methods[name]!.title);
  expect(page.match(/<polyline/g)!.length).toBe(3);
  expect(page).not.toMatch(/<script|src=|href=|@import|url\(/);
  expect(await adapt('three', '--compare', 'lora')).toBe(2);
  expect(said.at(-1)).toMatch(/three holds a run already/);
});

test('of several rates the best by held-out text counts', async () => {
  expect(await adapt('rates', '--compare', 'lora', '--steps', '2', '--lrs', '1e-6,1')).toBe(0);
  const [trial] = resultOf('rates').methods;
  expect(trial!.lr).toBe(0.005);
  expect(trial!.others).toEqual([{lr: 5e-9, target: expect.any(Number)}]);
  expect(trial!.others[0]!.target).toBeGreaterThan(trial!.after!.target);
});

test('a signal ends the method at hand; what was done is kept', async () => {
  vi.spyOn(console, 'log').mockImplementation(line => {
    said.push(String(line));
    if (String(line).startsWith('lora  rate')) setTimeout(() => process.emit('SIGINT'), 900);
  });
  expect(await adapt('ended', '--compare', 'lora,relora,full', '--steps', '12')).toBe(130);
  const {methods: trials, missing} = resultOf('ended');
  expect(trials[0]).toMatchObject({method: 'lora', ended: 'done'});
  if (trials[1]) expect(trials[1]).toMatchObject({method: 'relora', ended: 'stopped', after: null});
  expect(missing).toEqual(['lora', 'relora', 'full'].slice(trials.length));
  expect(said.join('\n')).toMatch(/Not run: .*full/);
});

test('a signal before anything is done writes nothing', async () => {
  vi.spyOn(console, 'log').mockImplementation(line => {
    said.push(String(line));
    if (String(line).includes('Measuring the model before')) process.emit('SIGTERM');
  });
  expect(await adapt('early', '--compare', 'lora', '--steps', '2')).toBe(143);
  expect(existsSync(join(folder, 'early'))).toBe(false);
});

test('a method that diverges is told, and the others go on', async () => {
  expect(await adapt('wild', '--compare', 'full,lora', '--inner', 'sgd', '--lr', '1e9', '--steps', '3')).toBe(
    1,
  );
  expect(said.at(-1)).not.toContain('Error');
  expect(resultOf('wild').methods.map(({ended}) => ended)).toEqual(['diverged', 'diverged']);
  expect(said.join('\n')).toMatch(/full {2}rate 1000000000: diverged/);
});

test('a method without an adapter leaves its model, and generate takes it', async () => {
  expect(await adapt('anew', '--method', 'relora', '--steps', '2')).toBe(0);
  expect(readdirSync(join(folder, 'anew')).sort()).toEqual(['model', 'report.html', 'result.json']);
  expect(said.join('\n')).toMatch(/^Note +no adapter: .*the merged model is in .*anew.model$/m);
  expect(resultOf<Result>('anew').adapterBytes).toBeNull();
  expect(
    await run(['generate', '--model', join(folder, 'anew', 'model'), '--prompt', 'const ', '--bytes', '4']),
  ).toBe(0);
  expect(said.at(-1)).toMatch(/^const /);
});

const trial: Trial = {
  ...{method: 'lora', rank: 4, alpha: 8, lr: 0.0005, inner: 'adam', trained: 868_352},
  ...{loss: [5, 4], msPerStep: 12_345},
  ...{
    optimizerStateBytes: 10_420_000,
    after: {target: 2.25, base: 2.5, sample: ' <b>'},
    ended: 'done' as const,
  },
  ...{why: null, others: []},
};
const comparison: Comparison = {
  date: '2030-01-02T03:04:05.000Z',
  before: {target: 4.5, base: 2, sample: ' before\u001b[31m'},
  ...{
    budget: 40_960,
    weights: 875_520,
    adamStateBytes: 7_004_160,
    methods: [trial],
    missing: [],
    prompt: 'prompt',
  },
  options: {
    ...{text: 'notes.txt', compare: ['lora'], rank: 4, lr: null, lrs: [1], steps: 2, targets: 'every matrix'},
    ...{inner: 'adam', backend: 'wasm', seed: 0, out: 'runs/x'},
  },
  backend: 'wasm',
  versions: {'tfjs-lora': '1.2.3', tfjs: '4.22.0', node: '20.0.0', backend: '4.22.1'},
};
const ground = {
  target: {
    train: new Uint8Array(9),
    heldOut: new Uint8Array(1),
    name: 'notes.txt',
    heldOutIs: 'the last tenth',
  },
  backend: {name: 'wasm', version: '4.22.1', note: 'wasm: as asked', advice: undefined},
};

test('the table fits into 80 columns, with the longest names and numbers', () => {
  const all = Object.keys(methods).map(method => ({...trial, method}));
  const lines = table(comparisonTable({...comparison, methods: all})).split('\n');
  expect(lines.length).toBe(3 + all.length);
  for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
  for (const line of comparisonText(comparison).split('\n')) expect(line.length).toBeLessThanOrEqual(80);
});

test('how each training ended is told where its numbers would be', () => {
  const failed = {...trial, after: null, ended: 'failed' as const, why: 'a [2,3] is not a [3,2]'};
  const cells = (one: Trial) => comparisonTable({...comparison, methods: [one]})[2]!.slice(4, 6);
  expect(cells(trial)).toEqual(['2.250', '2.500']);
  expect(cells(failed)).toEqual(['failed', 'failed']);
  expect(cells({...trial, after: {target: 9, base: null, sample: ''}})).toEqual(['diverged', '-']);
  expect(outcomeText(failed)).toContain('a [2,3] is not a [3,2]');
  const page = comparisonPage({...comparison, methods: [failed], missing: ['full']}, ground);
  expect(page).toContain('No method came to its end');
  expect(page).toContain('a [2,3] is not a [3,2]');
  expect(page).toContain('<dt>Not run</dt><dd>full</dd>');
});

test('rates that were tried have a table of their own, in their order', () => {
  expect(comparisonTables(comparison).length).toBe(2);
  const others = [
    {lr: 0.005, target: 2.5},
    {lr: 0.00005, target: null},
  ];
  const rows = comparisonTables({...comparison, methods: [{...trial, others}]})[2]!;
  expect(rows[1]).toEqual(['LoRA', '0.00005: -', '0.0005: 2.250', '0.005: 2.500']);
});

test('another optimizer than that of the others is told beside the rate', () => {
  const methods = [trial, {...trial, method: 'randomProjection', lr: 0.25, inner: 'sgd'}];
  expect(comparisonPage({...comparison, methods}, ground)).toContain(
    '<dd>LoRA 0.0005; random projection 0.25 (sgd)</dd>',
  );
});

test('the page escapes what the model wrote', () => {
  const page = comparisonPage(comparison, ground);
  expect(page).toContain(' &lt;b&gt;');
  expect(page).not.toContain('\u001b');
  expect(page).toContain('--method lora');
});
