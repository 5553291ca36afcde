/** `tfjs-lora finetune`: a model of the user's learns the user's data. */
import {existsSync, readFileSync} from 'node:fs';
import {basename, extname, join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type ProjectedOptimizer, audit, freezeBatchNorm} from '../index.js';
import {ioHandler} from '../adapter/io.js';
import {readArtifacts} from '../resume/contents.js';
import {checkpoints, latestCheckpoint, loadCheckpoint} from '../resume/index.js';
import {countParameters} from './adapt/optimizer.js';
import {type Backend, chooseBackend} from './backend.js';
import {expectWritable, mergedFolder, runFiles, runFolder, saveModel, writeFiles} from './files.js';
import {expectApart} from './finetune/apart.js';
import {keepAdapter} from './finetune/keep.js';
import {expectSameMaking, type Making, makingOf} from './finetune/making.js';
import {factsFile} from './finetune/known.js';
import {baselineOf, outputsOf, type Scores, scoresOf} from './finetune/measure.js';
import {expectFinite, type Given, readModel} from './finetune/model.js';
import {optimizerFor} from './finetune/optimizer.js';
import {type Options, readOptions} from './finetune/options.js';
import {classesFile, prepare, type Prepared} from './finetune/prepare.js';
import {outOfReach} from './finetune/reach.js';
import type {Result} from './finetune/result.js';
import {describeMethod, facts, resultPage, resultText} from './finetune/show.js';
import {training} from './finetune/train.js';
import {type Remark, verdictOf} from './finetune/verdict.js';
import {otherUnits} from './finetune/units.js';
import {Interruption} from './interruption.js';
import {version} from './package.js';
import {progressLine, withProgress} from './progress.js';
import {methodOf} from './adapt/method-names.js';
import {count, percent} from './table.js';
import type {Training} from './training-loop.js';
import {UsageError} from './usage-error.js';

/**
 * Runs `tfjs-lora finetune`; with `--help` it prints the help. Whatever does not fit is told before anything is written.
 * @returns the exit code: 0, 1 when the training diverged, or that of the signal that ended it
 */
export async function finetune(args: string[]): Promise<number> {
  const options = readOptions(args);
  if ('tell' in options) {
    process.stdout.write(options.tell);
    return 0;
  }
  const backend = await chooseBackend(options.backend);
  expectOrder(options);
  const given = await readModel(options.model);
  await expectFinite(given.model);
  const prepared = await prepare(given, options);
  try {
    return await runOn(prepared, given, backend, options);
  } finally {
    prepared.model.dispose();
  }
}

async function runOn(prepared: Prepared, given: Given, backend: Backend, options: Options): Promise<number> {
  const perEpoch = Math.ceil(prepared.train.size / options.batch);
  const steps = options.steps ?? options.epochs * perEpoch;
  const making = makingOf(given, prepared, options, steps);
  const out = folderOf(options);
  const data = [options.data, ...(options.test === undefined ? [] : [options.test])];
  expectApart(out, given.folder, data, options.out !== undefined);
  const from = options.resume ? await placeToGoOn(out, making, options) : undefined;
  const thaw =
    options.batchNorm === 'freeze' && hasBatchNorm(prepared.model) ? freezeBatchNorm(prepared.model) : null;
  let optimizer: ProjectedOptimizer | undefined;
  try {
    optimizer = optimizerFor(prepared.model, prepared.head, options, steps);
    const {parameters, warnings} = await expectTrainable(prepared.model, optimizer, options);
    expectWritable(out);
    const plan = {steps, out, making, from, parameters, warnings};
    return await new Run(prepared, optimizer, backend, options, plan).run();
  } finally {
    thaw?.();
    optimizer?.dispose();
  }
}

/** @throws UsageError for the first weight that is to be trained and cannot be here */
async function expectTrainable(model: tf.LayersModel, optimizer: ProjectedOptimizer, {batch}: Options) {
  const seen = await audit(model, {optimizer, batchSize: batch, print: null}).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  const stuck = seen.weights.find(({problem}) => problem !== null);
  if (stuck) throw new UsageError(`${stuck.name} cannot be trained on ${seen.backend}: ${stuck.problem}`);
  // What is done about batch norm is said apart from this.
  const warnings = seen.warnings.filter(warning => !/BatchNormalization|cpu backend/.test(warning));
  return {parameters: countParameters(model, optimizer), warnings};
}

/** @throws UsageError where the data lies in the place of the model, and the model in that of the data */
function expectOrder({model, data}: Options): void {
  const isModel = (path: string) => basename(path) === 'model.json' || existsSync(join(path, 'model.json'));
  if (isModel(data) && !isModel(model)) {
    throw new UsageError(`the model comes first, then the data: tfjs-lora finetune ${data} ${model}`);
  }
}

function hasBatchNorm(model: tf.LayersModel): boolean {
  return model.weights.some(({originalName}) => /moving_(mean|variance)/.test(originalName));
}

const checkpointFolder = (out: string) => join(out, 'checkpoints');

function folderOf({out, data, resume}: Options): string {
  if (!resume) {
    const folder = runFolder(out, join('runs', dataName(data)));
    if (!existsSync(checkpointFolder(folder))) return folder;
    throw new UsageError(
      `${folder} holds checkpoints of a run: add --resume to go on with it, or give another --out`,
    );
  }
  const folder = out ?? join('runs', dataName(data));
  if (existsSync(checkpointFolder(folder))) return folder;
  throw new UsageError(
    `--resume: no checkpoints in ${folder}: give the --out of a run with --checkpoint-every`,
  );
}

/** What a checkpoint of such a run holds as its data. */
interface Kept {
  /** Of every step before. */
  readonly loss: number[];
  readonly making?: Making;
}

/**
 * The last checkpoint that is whole.
 * @throws UsageError where there is none, and where its run was made of something else
 */
async function placeToGoOn(out: string, making: Making, options: Options): Promise<string> {
  const folder = checkpointFolder(out);
  const latest = await latestCheckpoint(`file://${resolve(folder)}`);
  if (latest === null) throw new UsageError(`--resume: no checkpoint in ${folder} is whole`);
  const {contents} = await readArtifacts(latest, ioHandler(latest, 'load'));
  const then = (contents.data as Kept | null)?.making;
  if (!then) {
    throw new UsageError(
      `--resume: the checkpoints in ${folder} do not say what their run was made of: begin another run in another --out`,
    );
  }
  expectSameMaking(then, making, options);
  return latest;
}

const dataName = (data: string) => basename(resolve(data), extname(data)).replace(/[^\w.-]+/g, '-') || 'data';

/** Whether each can stand on a line of its own. */
const fitLines = (names: readonly string[]) => names.every(name => !/[\r\n]/.test(name));

interface Plan {
  readonly steps: number;
  readonly out: string;
  readonly making: Making;
  /** The address of the checkpoint to go on from. */
  readonly from: string | undefined;
  readonly parameters: Result['parameters'];
  readonly warnings: readonly string[];
}

class Run {
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
