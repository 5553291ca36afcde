/** `tfjs-lora adapt`: the shipped language model learns another text through LoRA. */
import {existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, statSync, writeFileSync} from 'node:fs';
import {basename, extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, loraAdam, projected, type ProjectedOptimizer} from '../index.js';
import {encodeAdapter} from './adapter.js';
import {chooseBackend} from './backend.js';
import {adaptation} from './byte-lm/adaptation.js';
import {declarationsCorpus, englishCorpus, textCorpus} from './byte-lm/corpus.js';
import {bitsPerByte} from './byte-lm/evaluate.js';
import {generate} from './byte-lm/model.js';
import {loadModel, writeFiles} from './files.js';
import {defaultRate, innerNames, innerOptimizer} from './inner.js';
import {integerOption, positiveOption} from './options.js';
import {duration, progressLine} from './progress.js';
import {reportPage} from './report.js';
import {table} from './table.js';
import {UsageError} from './usage-error.js';

export const adaptHelp = `Usage: tfjs-lora adapt [options]

Adapts a small byte-level language model of English to another text through LoRA, and shows what it
learned, what it forgot and what that cost. Writes runs/<name>/: the adapter, report.html, result.json.

  --text FILE      text to learn; may be given several times (the typescript package's declarations)
  --rank N         rank of the adapters (4)
  --alpha X        scale: a weight moves by alpha/rank A B (twice the rank)
  --lr X           peak learning rate (depends on --inner; ${defaultRate('adam')} for adam)
  --steps N        training steps of 1024 bytes (200)
  --targets REGEX  names of the weights to adapt, e.g. "attention/(query|value)" (every matrix)
  --inner NAME     ${innerNames.join(', ')} (adam)
  --backend NAME   tensorflow-gpu, tensorflow, wasm or cpu (the fastest that is installed)
  --seed N         seed of the adapters, the batches and the samples (0)
  --out FOLDER     where the results are written (runs/<date>-<text>)

Ctrl-C ends the training early and keeps the adapter of the last step.
`;

const modelFolder = fileURLToPath(new URL('../../examples/byte-lm', import.meta.url));
const windowsEvaluated = 128;
const warmup = 10;

interface Options {
  text: string[];
  rank: number;
  alpha: number;
  lr: number;
  steps: number;
  targets: RegExp | undefined;
  inner: string;
  backend: string | undefined;
  seed: number;
  out: string;
}

/** Runs `tfjs-lora adapt`; with `--help` it prints the help. */
export async function adapt(args: string[]): Promise<void> {
  const options = readOptions(args);
  if (options === 'help') {
    process.stdout.write(adaptHelp);
    return;
  }
  const target = options.text.length > 0 ? textCorpus(options.text) : declarationsCorpus();
  const base = englishCorpus();
  const {name: backend, note} = await chooseBackend(options.backend);
  const model = await loadModel(modelFolder);
  const optimizer = buildOptimizer(model, options);
  makeWritable(options.out);

  console.log(`Backend   ${note}`);
  console.log(`Text      ${target.train.length} bytes to learn, ${target.heldOut.length} held out`);
  const rows = optimizer.explain(model, null);
  const sum = (pick: (row: (typeof rows)[number]) => number) => rows.reduce((n, row) => n + pick(row), 0);
  const parameters = {trained: sum(row => row.trained), all: sum(row => row.of)};
  const share = percent(parameters.trained / parameters.all);
  console.log(`Training  ${count(parameters.trained)} of ${count(parameters.all)} parameters (${share})\n`);

  const measure = async () => ({
    target: await bitsPerByte(model, target.heldOut, {windows: windowsEvaluated}),
    base: await bitsPerByte(model, base.heldOut, {windows: windowsEvaluated}),
  });
  const prompt = promptFrom(target.heldOut);
  const sample = () => generate(model, prompt, {bytes: 160, seed: options.seed});
  const before = {bits: await measure(), text: await sample()};

  const stop = new AbortController();
  const onInterrupt = () => stop.abort();
  process.once('SIGINT', onInterrupt);
  const progress = progressLine();
  const {loss, msPerStep} = await adaptation(model, optimizer, target.train, {
    ...options,
    onStep: progress.update,
    signal: stop.signal,
  });
  process.off('SIGINT', onInterrupt);
  progress.end();
  if (loss.length === 0) {
    removeIfEmpty(options.out);
    process.exitCode = 130;
    return;
  }
  const adapter = await encodeAdapter(model, optimizer, options);
  const adapterPath = join(options.out, 'adapter.safetensors');
  if (stop.signal.aborted) {
    writeFiles({[adapterPath]: adapter});
    console.log(`\nStopped after step ${loss.length}. The adapter is in ${adapterPath}`);
    process.exitCode = 130;
    return;
  }

  const after = {bits: await measure(), text: await sample()};
  const result = {
    target: {before: before.bits.target, after: after.bits.target},
    base: {before: before.bits.base, after: after.bits.base},
    parameters,
    optimizerStateBytes: optimizer.stateBytes,
    adamStateBytes: 2 * 4 * parameters.all,
    adapterBytes: adapter.length,
    modelBytes: ['model.json', 'weights.bin']
      .map(file => statSync(join(modelFolder, file)).size)
      .reduce((total, size) => total + size),
    msPerStep,
    steps: loss.length,
    loss,
    options: {...options, targets: options.targets?.source ?? null},
    backend,
    versions: {tfjs: tf.version.tfjs, node: process.versions.node},
  };
  const tables = summarize(result);
  const samples = [
    {title: 'Text written before', text: before.text},
    {title: 'Text written after', text: after.text},
  ];
  const page = reportPage({
    title: `${textName(options.text)}: rank ${options.rank}, ${loss.length} steps`,
    subtitle: `${note}. Bits per byte are measured on text that was not trained on.`,
    tables,
    loss,
    samples,
  });
  writeFiles({
    [adapterPath]: adapter,
    [join(options.out, 'report.html')]: page,
    [join(options.out, 'result.json')]: JSON.stringify(result, null, 2) + '\n',
  });
  for (const rows of tables) console.log(`\n${table(rows)}`);
  console.log();
  for (const {title, text} of samples) console.log(`${title}:\n${indent(text)}\n`);
  console.log(`${duration((loss.length * msPerStep) / 1000)} of training. Written to ${options.out}:`);
  console.log('adapter.safetensors, report.html, result.json');
}

/** Some 48 bytes of a text, from the start of a line. */
function promptFrom(text: Uint8Array): string {
  const start = text.indexOf(10) + 1;
  const end = Math.min(start + 48, text.length);
  return new TextDecoder().decode(text.subarray(start, end)).replaceAll('\ufffd', '');
}

function readOptions(args: string[]): Options | 'help' {
  const {values} = parseArgs({
    args,
    options: {
      text: {type: 'string', multiple: true, default: []},
      rank: {type: 'string', default: '4'},
      alpha: {type: 'string'},
      lr: {type: 'string'},
      steps: {type: 'string', default: '200'},
      targets: {type: 'string'},
      inner: {type: 'string', default: 'adam'},
      backend: {type: 'string'},
      seed: {type: 'string', default: '0'},
      out: {type: 'string'},
      help: {type: 'boolean', short: 'h'},
    },
  });
  if (values.help) return 'help';
  const {text, inner} = values;
  const rank = integerOption('--rank', values.rank, 1);
  const rate = defaultRate(inner);
  return {
    text,
    rank,
    alpha: values.alpha === undefined ? 2 * rank : positiveOption('--alpha', values.alpha),
    lr: values.lr === undefined ? rate : positiveOption('--lr', values.lr),
    steps: integerOption('--steps', values.steps, 1),
    targets: values.targets === undefined ? undefined : regExpOption('--targets', values.targets),
    inner,
    backend: values.backend,
    seed: integerOption('--seed', values.seed, 0),
    out: values.out ?? join('runs', `${timestamp()}-${textName(text)}`),
  };
}

function regExpOption(name: string, text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UsageError(`${name} takes a regular expression: ${(error as Error).message}`);
  }
}

/** @throws UsageError if the targets name no matrix, or the rank saves nothing on one of them */
function buildOptimizer(model: tf.LayersModel, options: Options): ProjectedOptimizer {
  const {rank, alpha, lr, steps, inner, seed} = options;
  const matrices = model.weights
    .map(weight => ({name: weight.originalName, shape: weight.shape as number[]}))
    .filter(({shape}) => shape.length === 2);
  const chosen = matrices.filter(({name}) => options.targets?.test(name) ?? true);
  if (chosen.length === 0) {
    const kinds = [...new Set(matrices.map(({name}) => name.replace(/^block\d+/, 'block*')))];
    throw new UsageError(
      `--targets ${options.targets?.source} names no matrix; there is ${kinds.join(', ')}`,
    );
  }
  for (const {name, shape} of chosen) {
    const [m, n] = shape as [number, number];
    const largest = Math.ceil((m * n) / (m + n)) - 1;
    if (rank > largest) {
      throw new UsageError(`--rank ${rank} saves nothing on ${name} [${m} x ${n}]: give at most ${largest}`);
    }
  }
  const targets = chosen.map(({name}) => name);
  const rate = cosine(lr, {steps, warmup: Math.min(warmup, steps - 1), floor: lr / 10});
  return inner === 'adam'
    ? loraAdam(rate, {rank, alpha, targets, seed})
    : projected(innerOptimizer(inner, lr), lora({rank, alpha}), {learningRate: rate, targets, seed});
}

/**
 * Makes the folder and tries to write in it.
 * @throws UsageError if that fails
 */
function makeWritable(folder: string): void {
  const probe = join(folder, `.${process.pid}.tmp`);
  try {
    mkdirSync(folder, {recursive: true});
    writeFileSync(probe, '');
    rmSync(probe);
  } catch (error) {
    throw new UsageError(`cannot write to ${folder}: ${(error as Error).message}`);
  }
}

function removeIfEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
}

interface Measured {
  target: {before: number; after: number};
  base: {before: number; after: number};
  parameters: {trained: number; all: number};
  optimizerStateBytes: number;
  adamStateBytes: number;
  adapterBytes: number;
  modelBytes: number;
  msPerStep: number;
}

/** The result as two tables: what was learned and forgotten, and what it cost. */
function summarize(result: Measured): string[][][] {
  const bits = (name: string, {before, after}: {before: number; after: number}) => [
    name,
    before.toFixed(3),
    after.toFixed(3),
    `${after > before ? '+' : ''}${percent(after / before - 1)}`,
  ];
  const size = (name: string, part: number, whole: number, unit: (n: number) => string) => [
    name,
    unit(whole),
    unit(part),
    percent(part / whole),
  ];
  return [
    [
      ['Bits per byte', 'before', 'after', 'change'],
      bits('The new text, held out', result.target),
      bits('English, held out', result.base),
    ],
    [
      ['Cost', 'all weights', 'LoRA', 'share'],
      size('Trained parameters', result.parameters.trained, result.parameters.all, count),
      size(
        'Optimizer state (all weights: Adam)',
        result.optimizerStateBytes,
        result.adamStateBytes,
        kilobytes,
      ),
      size('File (model; adapter)', result.adapterBytes, result.modelBytes, kilobytes),
      ['Median time of a step', '', `${result.msPerStep.toFixed(0)} ms`, ''],
    ],
  ];
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const count = (n: number) => n.toLocaleString('en-US');
const kilobytes = (bytes: number) =>
  `${(bytes / 1000).toLocaleString('en-US', {maximumFractionDigits: 0})} kB`;
const indent = (text: string) => text.replace(/^/gm, '  ');

function textName(paths: string[]): string {
  const [first] = paths;
  if (first === undefined) return 'typescript';
  return basename(first, extname(first)).replace(/[^\w.-]+/g, '-') || 'text';
}

/** The local time as 20260131-235959. */
function timestamp(): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
  return local.slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
}
