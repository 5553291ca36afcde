/** One run of `tfjs-lora finetune`. */
import {readFileSync} from 'node:fs';
import {join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../../index.js';
import {checkpoints, loadCheckpoint} from '../../resume/index.js';
import {methodOf} from '../adapt/method-names.js';
import type {Backend} from '../backend.js';
import {mergedFolder, runFiles, saveModel, writeFiles} from '../files.js';
import {Interruption} from '../interruption.js';
import {version} from '../package.js';
import {progressLine, withProgress} from '../progress.js';
import {count, percent} from '../table.js';
import type {Training} from '../training-loop.js';
import {UsageError} from '../usage-error.js';
import {keepAdapter} from './keep.js';
import {factsFile} from './known.js';
import type {Making} from './making.js';
import {baselineOf, outputsOf, type Scores, scoresOf} from './measure.js';
import type {Options} from './options.js';
import {classesFile, type Prepared} from './prepare.js';
import {outOfReach} from './reach.js';
import type {Result} from './result.js';
import {describeMethod, facts, resultPage, resultText} from './show.js';
import {training} from './train.js';
import {otherUnits} from './units.js';
import {type Remark, verdictOf} from './verdict.js';

export const checkpointFolder = (out: string) => join(out, 'checkpoints');

export function hasBatchNorm(model: tf.LayersModel): boolean {
  return model.weights.some(({originalName}) => /moving_(mean|variance)/.test(originalName));
}

/** Whether each can stand on a line of its own. */
const fitLines = (names: readonly string[]) => names.every(name => !/[\r\n]/.test(name));

/** What a checkpoint of such a run holds as its data. */
export interface Kept {
  /** Of every step before. */
  readonly loss: number[];
  readonly making?: Making;
}

/** What is settled before a training begins. */
export interface Plan {
  readonly steps: number;
  readonly out: string;
  readonly making: Making;
  /** The address of the checkpoint to go on from. */
  readonly from: string | undefined;
  readonly parameters: Result['parameters'];
  readonly warnings: readonly string[];
}

/** A training of the command, from the lines that introduce it to its files. */
export class Run {
  /** Warnings and notes besides those of what was understood. */
  private readonly remarks: Remark[] = [];
  /** Of the names in the lines of what was understood. */
  private width = 0;

  constructor(
    private readonly prepared: Prepared,
    private readonly optimizer: ProjectedOptimizer,
    private readonly backend: Backend,
    private readonly options: Options,
    private readonly plan: Plan,
  ) {
    for (const warning of plan.warnings) this.remarks.push(['Warning', warning]);
  }

  async run(): Promise<number> {
    this.introduce();
    console.log('\nMeasuring the model before …');
    const outputs = await this.outputs();
    const before = this.scores(outputs);
    if (!Number.isFinite(before.loss)) {
      throw new UsageError(
        'the model gives NaN or infinite numbers for this data before any training: are its inputs in the range it knows? ' +
          '(--standardise for columns, --scale for images)',
      );
    }
    this.warnOfUnits(outputs, before);
    const interruption = new Interruption();
    try {
      return await this.learn(before, interruption);
    } finally {
      interruption.off();
    }
  }

  private warnOfUnits(outputs: Float32Array, before: Scores): void {
    const {head, task, train, input} = this.prepared;
    const baseline = this.baseline();
    if (input.outputs || !('rmse' in before && 'rmse' in baseline)) return;
    // Of a head that gives a few numbers only that was said: no unit brings all labels there.
    if (outOfReach(head, task, train.targets, false) !== undefined) return;
    const warning = otherUnits(outputs, train.targets, before.rmse / baseline.rmse);
    if (warning === undefined) return;
    this.remarks.push(['Warning', warning]);
    console.log(facts([['Warning', warning]], this.width));
  }

  private introduce(): void {
    const {understood} = this.prepared;
    const {trained, all} = this.plan.parameters;
    const {advice, note} = this.backend;
    const pairs: [string, string][] = [
      ['Model', this.options.model],
      ['Data', this.options.data],
      ...understood,
      [methodOf(this.options.method).title, describeMethod(this.effective())],
      ['Trains', `${count(trained)} numbers, ${percent(trained / all)} of the weights`],
      ['Backend', note],
      ...(advice === undefined ? [] : [['Advice', advice] as [string, string]]),
    ];
    this.width = Math.max(...pairs.map(([name]) => name.length));
    console.log(facts([...pairs, ...this.remarks]));
  }

  private async learn(before: Scores, interruption: Interruption): Promise<number> {
    const {prepared, optimizer, options} = this;
    const {steps, out} = this.plan;
    const loss = await this.takeUp();
    const done = await this.train(loss, interruption.signal);
    const trained = done.loss.length;
    if (done.diverged) {
      console.error(`tfjs-lora: the training diverged at step ${trained + 1}: lower --lr (${options.lr})`);
    }
    if (trained === 0) return interruption.exitCode ?? 1;
    // At once, so that whatever happens from here on loses nothing.
    const kept = await keepAdapter(out, prepared.model, optimizer);
    await this.writeModel();

    const after = done.diverged ? undefined : await this.measureUnless(interruption.signal);
    const result = this.result(done, kept.adapterBytes, before, after);
    const notes = [...(kept.note === undefined ? [] : [kept.note]), ...this.notes()];
    const told = [...notes.map((text): Remark => ['Note', text]), ...this.verdict(before, after)];
    const remarks = [...this.remarks, ...told];
    await writeFiles({
      [join(out, runFiles.report)]: resultPage(result, prepared.understood, this.backend.note, remarks),
      [join(out, runFiles.result)]: JSON.stringify(result, null, 2) + '\n',
    });
    if (!after) {
      console.log(`Stopped after step ${trained} of ${steps}. What was learned until then is in ${out}.`);
      if (told.length > 0) console.log(facts(told));
      return interruption.exitCode ?? 1;
    }
    console.log(['', resultText(result, told)].join('\n'));
    if (Number.isFinite(after.loss)) return 0;
    console.error(`tfjs-lora: the training diverged: lower --lr (${options.lr})`);
    return 1;
  }

  /** Losses of the steps before, where a run is resumed. */
  private async takeUp(): Promise<number[]> {
    const {from} = this.plan;
    if (from === undefined) return [];
    try {
      const {data, step} = await loadCheckpoint(this.optimizer, from, {model: this.prepared.model});
      console.log(`Going on after step ${step}.`);
      return (data as Kept).loss;
    } catch (error) {
      throw new UsageError(`--resume: ${(error as Error).message}`);
    }
  }

  /** With a progress line. */
  private async train(loss: number[], signal: AbortSignal): Promise<Training> {
    const {model, task, train} = this.prepared;
    const unit = task.kind === 'classes' ? 'nats' : '';
    const {batch, seed, checkpointEvery} = this.options;
    const {steps, out, making} = this.plan;
    const progress = progressLine(process.stderr, undefined, '', {loss: unit, tokens: 'examples'});
    const keeper =
      checkpointEvery === undefined
        ? null
        : checkpoints({optimizer: this.optimizer, model}, `file://${resolve(checkpointFolder(out))}`, {
            every: {steps: checkpointEvery},
            data: (): Kept => ({loss, making}),
          });
    return withProgress(progress, show =>
      training(model, this.optimizer, task, train, {
        ...{steps, batch, seed, loss, signal},
        onStep: async step => {
          show(step);
          await keeper?.step();
        },
      }),
    );
  }

  /** What the model gives for the examples that are held out. */
  private outputs(signal?: AbortSignal): Promise<Float32Array> {
    return outputsOf(this.prepared.model, this.prepared.heldOut, signal);
  }

  private scores(outputs: Float32Array): Scores {
    const {task, heldOut, input} = this.prepared;
    return scoresOf(task, outputs, heldOut.targets, input.outputs);
  }

  private baseline(): Scores {
    const {task, train, heldOut, input} = this.prepared;
    return baselineOf(task, train, heldOut, input.outputs);
  }

  /** Undefined after a signal. */
  private async measureUnless(signal: AbortSignal): Promise<Scores | undefined> {
    if (signal.aborted) return undefined;
    console.log('Measuring the model after …');
    try {
      return this.scores(await this.outputs(signal));
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  }

  /** The merged model, and what one must know to use it. */
  private async writeModel(): Promise<void> {
    const {model, task, input, files} = this.prepared;
    const classes = task.kind === 'classes' && fitLines(task.classes);
    await saveModel(model, join(this.plan.out, mergedFolder), {
      ...files,
      [factsFile]: JSON.stringify(input, null, 2) + '\n',
      ...(classes && {[classesFile]: task.classes.join('\n') + '\n'}),
    });
  }

  private notes(): string[] {
    const notes: string[] = [];
    const {task} = this.prepared;
    if (task.kind === 'classes' && !fitLines(task.classes)) {
      notes.push(`class names have line ends: there is no ${classesFile}, and ${runFiles.result} has them`);
    }
    if (this.options.newHead) {
      notes.push('the adapter belongs to the model with the new head; model/ has both');
    }
    if (this.options.batchNorm === 'train' && hasBatchNorm(this.prepared.model)) {
      notes.push('the statistics of batch norm have moved: model/ has them, the adapter has not');
    }
    return notes;
  }

  private verdict(before: Scores, after: Scores | undefined): Remark[] {
    return after ? verdictOf(before, after, this.baseline(), this.options.lr) : [];
  }

  private effective(): Result['options'] {
    const {model, data, method, rank, alpha, lr, batch, targets, head, newHead, batchNorm, inner, seed} =
      this.options;
    const {steps, out} = this.plan;
    return {
      ...{model, data, method, rank, alpha, lr, steps, batch},
      targets: targets?.source ?? 'every matrix',
      ...{head, newHead, batchNorm, inner, seed, out},
    };
  }

  private result(
    {loss, taken, msPerStep}: Training,
    adapterBytes: number | null,
    before: Scores,
    after: Scores | undefined,
  ): Result {
    const {task, input, train, heldOut, heldOutIs} = this.prepared;
    return {
      date: new Date().toISOString(),
      task,
      input,
      heldOut: {size: heldOut.size, is: heldOutIs, before, after: after ?? null, baseline: this.baseline()},
      trainSize: train.size,
      parameters: this.plan.parameters,
      optimizerStateBytes: this.optimizer.stateBytes,
      adapterBytes,
      modelBytes: ['model.json', 'weights.bin']
        .map(file => readFileSync(join(this.plan.out, mergedFolder, file)).length)
        .reduce((sum, size) => sum + size),
      msPerStep: taken === 0 ? null : Number(msPerStep.toFixed(1)),
      steps: loss.length,
      loss,
      options: this.effective(),
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
