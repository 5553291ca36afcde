/** `tfjs-lora adapt`: the shipped language model learns another text through LoRA. */
import {statSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {encodeAdapter} from '../adapter/adapter.js';
import type {ProjectedOptimizer} from '../index.js';
import {buildOptimizer} from './adapt/optimizer.js';
import {adaptHelp, type Options, readOptions, textName} from './adapt/options.js';
import {type Result, resultTables} from './adapt/result.js';
import {chooseBackend} from './backend.js';
import {type Adaptation, adaptation} from './byte-lm/adaptation.js';
import {type Corpus, declarationsCorpus, englishCorpus, textCorpus} from './byte-lm/corpus.js';
import {bitsPerByte} from './byte-lm/evaluate.js';
import {generate} from './byte-lm/model.js';
import {expectWritable, loadModel, writeFiles} from './files.js';
import {duration, progressLine} from './progress.js';
import {reportPage} from './report.js';
import {count, percent, table} from './table.js';

const modelFolder = fileURLToPath(new URL('../../examples/byte-lm', import.meta.url));

/** The exit code of a program that Ctrl-C ended. */
const interrupted = 130;

/** Windows of each text in an evaluation. */
const windows = 128;

/** How the model does at one time. */
interface Snapshot {
  /** Bits per byte on held-out text. */
  target: number;
  base: number;
  /** A continuation of a piece of the held-out target text. */
  sample: string;
}

/**
 * Runs `tfjs-lora adapt`; with `--help` it prints the help.
 * @returns the exit code: 0, or 130 after Ctrl-C
 */
export async function adapt(args: string[]): Promise<number> {
  const options = readOptions(args);
  if (options === undefined) {
    process.stdout.write(adaptHelp);
    return 0;
  }
  const target = options.text.length > 0 ? textCorpus(options.text) : declarationsCorpus();
  const base = englishCorpus();
  const backend = await chooseBackend(options.backend);
  const model = await loadModel(modelFolder);
  const optimizer = buildOptimizer(model, options);
  const parameters = countParameters(model, optimizer);
  expectWritable(options.out);

  console.log(`Backend   ${backend.note}`);
  console.log(
    `Text      ${count(target.train.length)} bytes to learn, ${count(target.heldOut.length)} held out`,
  );
  const {trained, all} = parameters;
  console.log(`Training  ${count(trained)} of ${count(all)} parameters (${percent(trained / all)})`);
  const before = await take(model, target, base, options);

  const {loss, msPerStep, stopped} = await trainUntilInterrupted(model, optimizer, target, options);
  if (loss.length === 0) return interrupted;
  const adapter = await encodeAdapter(optimizer);
  // At once, so that an interrupt from here on loses nothing.
  writeFiles({[join(options.out, 'adapter.safetensors')]: adapter});
  if (stopped) {
    console.log(`Stopped after step ${loss.length}. The adapter is in ${options.out}: adapter.safetensors`);
    return interrupted;
  }

  const after = await take(model, target, base, options);
  const {targets, ...others} = options;
  const result: Result = {
    target: {before: before.target, after: after.target},
    base: {before: before.base, after: after.base},
    parameters,
    optimizerStateBytes: optimizer.stateBytes,
    adamStateBytes: 2 * 4 * parameters.all,
    adapterBytes: adapter.length,
    modelBytes: modelBytes(),
    msPerStep,
    steps: loss.length,
    loss,
    options: {...others, targets: targets?.source ?? null},
    backend: backend.name,
    versions: {tfjs: tf.version.tfjs, node: process.versions.node},
  };
  show(result, before, after, backend.note, options);
  return 0;
}

/** Trained numbers and all numbers of the model. */
function countParameters(model: tf.LayersModel, optimizer: ProjectedOptimizer): Result['parameters'] {
  const rows = optimizer.explain(model, null);
  return {
    trained: rows.reduce((sum, row) => sum + row.trained, 0),
    all: rows.reduce((sum, row) => sum + row.of, 0),
  };
}

async function take(model: tf.LayersModel, target: Corpus, base: Corpus, {seed}: Options): Promise<Snapshot> {
  return {
    target: await bitsPerByte(model, target.heldOut, {windows}),
    base: await bitsPerByte(model, base.heldOut, {windows}),
    sample: await generate(model, promptFrom(target.heldOut), {bytes: 160, seed}),
  };
}

/** Some 48 bytes of a text, from the start of a line. */
function promptFrom(text: Uint8Array): string {
  const start = text.indexOf(10) + 1;
  return new TextDecoder().decode(text.subarray(start, start + 48)).replaceAll('\ufffd', '');
}

/** Trains with a progress line; Ctrl-C ends it after the step at hand. */
async function trainUntilInterrupted(
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
  target: Corpus,
  {steps, seed}: Options,
): Promise<Adaptation & {stopped: boolean}> {
  const stop = new AbortController();
  const onInterrupt = () => stop.abort();
  process.once('SIGINT', onInterrupt);
  const progress = progressLine();
  try {
    const {signal} = stop;
    const done = await adaptation(model, optimizer, target.train, {
      steps,
      seed,
      onStep: progress.update,
      signal,
    });
    return {...done, stopped: signal.aborted};
  } finally {
    process.off('SIGINT', onInterrupt);
    progress.end();
  }
}

/** What the model takes on disk. */
function modelBytes(): number {
  const sizes = ['model.json', 'weights.bin'].map(file => statSync(join(modelFolder, file)).size);
  return sizes.reduce((sum, size) => sum + size);
}

/** Writes the report and the result, and prints them. */
function show(result: Result, before: Snapshot, after: Snapshot, note: string, {out, text}: Options): void {
  const tables = resultTables(result);
  const samples = [
    {title: 'Text written before', text: before.sample},
    {title: 'Text written after', text: after.sample},
  ];
  const page = reportPage({
    title: `tfjs-lora: ${textName(text)}, ${result.steps} steps`,
    subtitle: `Backend ${note}. Bits per byte are measured on text that was not trained on.`,
    tables,
    loss: result.loss,
    samples,
  });
  writeFiles({
    [join(out, 'report.html')]: page,
    [join(out, 'result.json')]: JSON.stringify(result, null, 2) + '\n',
  });
  for (const rows of tables) console.log(`\n${table(rows)}`);
  for (const sample of samples) console.log(`\n${sample.title}:\n${sample.text.replace(/^/gm, '  ')}`);
  console.log(`\nTrained for ${duration((result.steps * result.msPerStep) / 1000)}. In ${out}:`);
  console.log('  adapter.safetensors  report.html  result.json');
}
