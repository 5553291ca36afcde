/** `tfjs-lora adapt`: the shipped language model learns another text through LoRA. */
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {encodeAdapter} from '../adapter/adapter.js';
import type {ProjectedOptimizer} from '../index.js';
import {buildOptimizer} from './adapt/optimizer.js';
import {adaptHelp, type Options, readOptions, textName} from './adapt/options.js';
import {isDiverged, type Result} from './adapt/result.js';
import {describeLora, generateLine, resultPage, resultText, type Setting} from './adapt/show.js';
import {promptFrom, type Snapshot, takeSnapshot} from './adapt/snapshot.js';
import {type Backend, chooseBackend} from './backend.js';
import {type Adaptation, adaptation} from './byte-lm/adaptation.js';
import {
  type Corpus,
  declarationsCorpus,
  englishCorpus,
  leastEnglishBytes,
  textCorpus,
} from './byte-lm/corpus.js';
import {expectWritable, loadModel, runFiles, runFolder, writeFiles} from './files.js';
import {Interruption} from './interruption.js';
import {modelBytes, modelFolder, version} from './package.js';
import {progressLine} from './progress.js';
import {count, percent} from './table.js';

/**
 * Runs `tfjs-lora adapt`; with `--help` it prints the help.
 * @returns the exit code: 0, 1 when the training diverged, or that of the signal that ended it
 */
export async function adapt(args: string[]): Promise<number> {
  const given = readOptions(args);
  if (given === undefined) {
    process.stdout.write(adaptHelp);
    return 0;
  }
  const target = given.text.length > 0 ? textCorpus(given.text) : declarationsCorpus();
  const base = englishCorpus();
  const backend = await chooseBackend(given.backend);
  const model = await loadModel(modelFolder);
  const optimizer = buildOptimizer(model, given);
  const out = runFolder(given.out, join('runs', textName(given.text)));
  expectWritable(out);
  const run = new Run(model, optimizer, target, base, backend, effective(given, target, backend, out));
  return run.run();
}

function effective(given: Options, target: Corpus, backend: Backend, out: string): Result['options'] {
  const targets = given.targets?.source ?? 'every matrix';
  return {...given, text: target.name, targets, backend: backend.name, out};
}

class Run {
  private readonly base: Corpus | undefined;
  private readonly parameters: Result['parameters'];
  private readonly prompt: string;

  constructor(
    private readonly model: tf.LayersModel,
    private readonly optimizer: ProjectedOptimizer,
    private readonly target: Corpus,
    private readonly english: Corpus,
    private readonly backend: Backend,
    private readonly options: Result['options'],
  ) {
    this.base = english.heldOut.length < leastEnglishBytes ? undefined : english;
    this.parameters = countParameters(model, optimizer);
    this.prompt = promptFrom(target.heldOut);
  }

  async run(): Promise<number> {
    this.introduce();
    console.log('\nMeasuring the model before …');
    const before = await this.measure();
    const interruption = new Interruption();
    try {
      return await this.learn(before, interruption);
    } finally {
      interruption.off();
    }
  }

  private introduce(): void {
    const {target, english, backend, options} = this;
    const {trained, all} = this.parameters;
    console.log(`Model     a byte-level transformer of English, ${count(all)} weights (examples/byte-lm)`);
    console.log(`Text      ${target.name}: ${count(target.train.length)} bytes to learn`);
    console.log(`Held out  ${count(target.heldOut.length)} bytes: ${target.heldOutIs}`);
    console.log(`LoRA      ${describeLora(options)}`);
    console.log(`Trains    ${count(trained)} numbers, ${percent(trained / all)} of the weights`);
    console.log(`Backend   ${backend.note}`);
    if (backend.advice !== undefined) console.log(`Note      ${backend.advice}`);
    if (this.base) return;
    const found = `only ${count(english.heldOut.length)} bytes of it in the READMEs of installed packages`;
    console.log(`Note      what the model forgets of English is not measured: ${found}`);
  }

  private measure(signal?: AbortSignal): Promise<Snapshot> {
    const options = {prompt: this.prompt, seed: this.options.seed, ...(signal && {signal})};
    return takeSnapshot(this.model, this.target, this.base, options);
  }

  private async learn(before: Snapshot, interruption: Interruption): Promise<number> {
    const {steps, lr, out} = this.options;
    const done = await this.train(interruption.signal);
    const trained = done.loss.length;
    if (done.diverged) {
      console.error(`tfjs-lora: the training diverged at step ${trained + 1}: lower --lr (${lr})`);
    }
    if (trained === 0) return interruption.exitCode ?? 1;
    const adapter = await encodeAdapter(this.optimizer);
    // At once, so that whatever happens from here on loses nothing.
    writeFiles({[join(out, runFiles.adapter)]: adapter});

    const after = done.diverged ? undefined : await this.measureAfter(interruption.signal);
    const result = this.result(done, adapter.length, before, after);
    const setting: Setting = {
      backendNote: this.backend.note,
      trainBytes: this.target.train.length,
      heldOutBytes: this.target.heldOut.length,
      heldOutIs: this.target.heldOutIs,
      prompt: this.prompt,
      before,
    };
    writeFiles({
      [join(out, runFiles.report)]: resultPage(result, setting, after),
      [join(out, runFiles.result)]: JSON.stringify(result, null, 2) + '\n',
    });
    if (!after) {
      console.log(`Stopped after step ${trained} of ${steps}. The adapter of that step is in ${out}.`);
      console.log(`Next     ${generateLine(out)}`);
      return interruption.exitCode ?? 1;
    }
    console.log(`\n${resultText(result, setting, after)}`);
    if (!isDiverged(after.target)) return 0;
    console.error(`tfjs-lora: the training diverged: lower --lr (${lr})`);
    return 1;
  }

  /** With a progress line. */
  private async train(signal: AbortSignal): Promise<Adaptation> {
    const {steps, seed} = this.options;
    const progress = progressLine();
    try {
      return await adaptation(this.model, this.optimizer, this.target.train, {
        ...{steps, seed, signal},
        onStep: progress.update,
      });
    } finally {
      progress.end();
    }
  }

  /** Undefined after a signal. */
  private async measureAfter(signal: AbortSignal): Promise<Snapshot | undefined> {
    if (signal.aborted) return undefined;
    console.log('Measuring the model after …');
    try {
      return await this.measure(signal);
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  }

  private result(
    {loss, msPerStep}: Adaptation,
    adapterBytes: number,
    before: Snapshot,
    after: Snapshot | undefined,
  ): Result {
    return {
      date: new Date().toISOString(),
      target: {before: before.target, after: after?.target ?? null},
      base: before.base === null ? null : {before: before.base, after: after?.base ?? null},
      parameters: this.parameters,
      optimizerStateBytes: this.optimizer.stateBytes,
      adamStateBytes: 2 * 4 * this.parameters.all,
      adapterBytes,
      modelBytes: modelBytes(),
      msPerStep: Number(msPerStep.toFixed(1)),
      steps: loss.length,
      loss,
      options: this.options,
      backend: this.backend.name,
      versions: {
        'tfjs-lora': version(),
        tfjs: tf.version.tfjs,
        node: process.versions.node,
        backend: this.backend.version,
      },
    };
  }
}

/** Trained numbers and all numbers of the model. */
function countParameters(model: tf.LayersModel, optimizer: ProjectedOptimizer): Result['parameters'] {
  const rows = optimizer.explain(model, null);
  return {
    trained: rows.reduce((sum, row) => sum + row.trained, 0),
    all: rows.reduce((sum, row) => sum + row.of, 0),
  };
}
