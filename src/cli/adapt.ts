/** `tfjs-lora adapt`: the shipped language model learns another text through LoRA, or another method. */
import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../index.js';
import {compare} from './adapt/compare.js';
import {Ground} from './adapt/ground.js';
import {type Kept, keepWhatWasLearned} from './adapt/keep.js';
import {methodOf} from './adapt/method-names.js';
import {buildOptimizer, countParameters} from './adapt/optimizer.js';
import {type Options, readOptions, textName} from './adapt/options.js';
import {isDiverged, type Result} from './adapt/result.js';
import {describeMethod, generateLine, resultPage, resultText, type Setting} from './adapt/show.js';
import type {Snapshot} from './adapt/snapshot.js';
import {adaptation} from './byte-lm/adaptation.js';
import {expectWritable, loadModel, runFiles, runFolder, writeFiles} from './files.js';
import {Interruption} from './interruption.js';
import {modelBytes, modelFolder} from './package.js';
import {progressLine, withProgress} from './progress.js';
import {count, percent} from './table.js';
import type {Training} from './training-loop.js';

/**
 * Runs `tfjs-lora adapt`; with `--help` it prints the help, with `--compare` it runs several methods.
 * @returns the exit code: 0, 1 when the training diverged, or that of the signal that ended it
 */
export async function adapt(args: string[]): Promise<number> {
  const given = readOptions(args);
  if ('tell' in given) {
    process.stdout.write(given.tell);
    return 0;
  }
  const ground = await Ground.of(given);
  if ('compare' in given) return compare(given, ground);
  const model = await loadModel(modelFolder);
  const optimizer = buildOptimizer(model, given);
  const out = runFolder(given.out, join('runs', textName(given.text)));
  expectWritable(out);
  return new Run(model, optimizer, ground, effective(given, ground, out)).run();
}

function effective(given: Options, {target, backend}: Ground, out: string): Result['options'] {
  const targets = given.targets?.source ?? 'every matrix';
  return {...given, text: target.name, targets, backend: backend.name, out};
}

class Run {
  private readonly parameters: Result['parameters'];

  constructor(
    private readonly model: tf.LayersModel,
    private readonly optimizer: ProjectedOptimizer,
    private readonly ground: Ground,
    private readonly options: Result['options'],
  ) {
    this.parameters = countParameters(model, optimizer);
  }

  async run(): Promise<number> {
    const {trained, all} = this.parameters;
    this.ground.introduce(all, [
      [methodOf(this.options.method).title, describeMethod(this.options)],
      ['Trains', `${count(trained)} numbers, ${percent(trained / all)} of the weights`],
    ]);
    console.log('\nMeasuring the model before …');
    const before = await this.ground.measure(this.model);
    const interruption = new Interruption();
    try {
      return await this.learn(before, interruption);
    } finally {
      interruption.off();
    }
  }

  private async learn(before: Snapshot, interruption: Interruption): Promise<number> {
    const {steps, lr, out} = this.options;
    const done = await this.train(interruption.signal);
    const trained = done.loss.length;
    if (done.diverged) {
      console.error(`tfjs-lora: the training diverged at step ${trained + 1}: lower --lr (${lr})`);
    }
    if (trained === 0) return interruption.exitCode ?? 1;
    // At once, so that whatever happens from here on loses nothing.
    const kept = await keepWhatWasLearned(out, this.model, this.optimizer);

    const after = done.diverged ? undefined : await this.measureAfter(interruption.signal);
    const result = this.result(done, kept, before, after);
    const {target, backend, prompt} = this.ground;
    const setting: Setting = {
      backendNote: backend.note,
      trainBytes: target.train.length,
      heldOutBytes: target.heldOut.length,
      heldOutIs: target.heldOutIs,
      prompt,
      before,
    };
    await writeFiles({
      [join(out, runFiles.report)]: resultPage(result, setting, after),
      [join(out, runFiles.result)]: JSON.stringify(result, null, 2) + '\n',
    });
    const note = kept.note === undefined ? [] : [`Note     ${kept.note}`];
    if (!after) {
      const what = kept.adapterBytes === null ? 'model' : 'adapter';
      console.log(`Stopped after step ${trained} of ${steps}. The ${what} of that step is in ${out}.`);
      for (const line of note) console.log(line);
      console.log(`Next     ${generateLine(out, kept.adapterBytes !== null)}`);
      return interruption.exitCode ?? 1;
    }
    console.log(['', resultText(result, setting, after), ...note].join('\n'));
    if (!isDiverged(after.target)) return 0;
    console.error(`tfjs-lora: the training diverged: lower --lr (${lr})`);
    return 1;
  }

  /** With a progress line. */
  private async train(signal: AbortSignal): Promise<Training> {
    const {steps, seed} = this.options;
    const {train} = this.ground.target;
    return withProgress(progressLine(), onStep =>
      adaptation(this.model, this.optimizer, train, {steps, seed, signal, onStep}),
    );
  }

  /** Undefined after a signal. */
  private measureAfter(signal: AbortSignal): Promise<Snapshot | undefined> {
    if (!signal.aborted) console.log('Measuring the model after …');
    return this.ground.measureUnless(signal, this.model);
  }

  private result(
    {loss, msPerStep}: Training,
    {adapterBytes}: Kept,
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
      backend: this.ground.backend.name,
      versions: this.ground.versions(),
    };
  }
}
