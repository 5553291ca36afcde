/** `tfjs-lora finetune`: a model of the user's learns the user's data. */
import {existsSync} from 'node:fs';
import {basename, extname, join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type ProjectedOptimizer, audit, freezeBatchNorm} from '../index.js';
import {ioHandler} from '../adapter/io.js';
import {readArtifacts} from '../resume/contents.js';
import {latestCheckpoint} from '../resume/index.js';
import {countParameters} from './adapt/optimizer.js';
import {type Backend, chooseBackend} from './backend.js';
import {expectWritable, runFolder} from './files.js';
import {expectApart} from './finetune/apart.js';
import {expectSameMaking, type Making, makingOf} from './finetune/making.js';
import {expectFinite, type Given, readModel} from './finetune/model.js';
import {optimizerFor} from './finetune/optimizer.js';
import {type Options, readOptions} from './finetune/options.js';
import {prepare, type Prepared} from './finetune/prepare.js';
import {checkpointFolder, hasBatchNorm, type Kept, Run} from './finetune/run.js';
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
