import type {Optimizer} from '@tensorflow/tfjs-core';
import {expectWeights} from '../adapter/expect.js';
import {given} from '../adapter/given.js';
import {ioHandler} from '../adapter/io.js';
import type {WeightsOf} from '../adapter/paths.js';
import type {CompiledModel} from '../adapter/save.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {expectNumber, expectOptions} from '../options.js';
import {expectJson, readArtifacts} from './contents.js';
import {expectOptimizer} from '../adapter/expect-optimizer.js';
import {type FitCallback, fitCallback} from './fit-callback.js';
import {saveCheckpoint} from './save.js';
import {expectListable, isKept, type Kept, list, nameOf, remove} from './shelf.js';

export interface CheckpointsOptions {
  /**
   * How often: at every multiple of so many steps, when so many minutes have passed since the last, or, in `model.fit`, at
   * the end of every so many epochs.
   */
  every: {steps: number} | {minutes: number} | {epochs: number};
  /** How many to keep. Default 3. */
  keep?: number;
  /** Where the data stands, asked for at each save: any JSON value. */
  data?: (at: Progress) => unknown;
}

/** How far a training is. */
export interface Progress {
  /** Steps of the optimizer. */
  readonly step: number;
  /** Epochs of `model.fit` that are over: the `initialEpoch` to go on with. 0 without `model.fit`. */
  readonly epochs: number;
}

/** A tfjs-layers model that was compiled with a ProjectedOptimizer, or the two. */
export type Trained = CompiledModel | {readonly optimizer: Optimizer; readonly model: WeightsOf};

/** What `checkpoints` gives: a callback for `model.fit`, alone or in a list, and the same to call by hand. */
export interface Checkpoints extends FitCallback {
  /** To be called after each batch: saves where it is time. The address, or null where it was not time. */
  step(): Promise<string | null>;
  /** Saves now. The address. */
  save(): Promise<string>;
}

/**
 * Saves a checkpoint every so often, under names that count up (`folder/000012-step-340`), and keeps the last few. An old
 * one is removed when a newer one is complete, never before. Whatever goes wrong while saving rejects the promise, and
 * so `model.fit`.
 *
 *     await model.fit(x, y, {callbacks: checkpoints(model, 'file://runs/a', {every: {epochs: 1}, keep: 3})});
 *
 *     const keeper = checkpoints({optimizer, model}, 'indexeddb://a', {every: {minutes: 5}, data: () => ({batch})});
 *     for (batch = 0; …) { optimizer.minimize(loss); await keeper.step(); }
 *
 * @param folder An address of a scheme whose contents can be listed: `file://` under Node, `indexeddb://`,
 *     `localstorage://`.
 */
export function checkpoints(trained: Trained, folder: string, options: CheckpointsOptions): Checkpoints {
  expectOptions('checkpoints', options, ['every', 'keep', 'data']);
  const {every, keep = 3, data} = options;
  expectEvery(every);
  expectNumber('checkpoints: keep', keep, 'a whole number of at least 1', k => Number.isInteger(k) && k >= 1);
  if (data !== undefined && typeof data !== 'function') {
    throw new TypeError('checkpoints: data must be a function that tells where the data stands');
  }
  expectListable('checkpoints', folder, 'save'); // An address that cannot work is found before the training.

  let epochs = 0;
  let savedStep = partsOf(trained).optimizer.iterations;
  let savedAt = Date.now();
  let last: Promise<unknown> = Promise.resolve();

  async function saveNow(): Promise<string> {
    const {optimizer, model} = partsOf(trained);
    const number = ((await list(folder)).at(-1)?.number ?? 0) + 1;
    const step = optimizer.iterations;
    const url = nameOf(folder, number, step);
    const where: unknown = data ? data({step, epochs}) : null;
    expectJson('checkpoints: what data() gives', where);
    await saveCheckpoint(optimizer, url, {model, data: where});
    [savedStep, savedAt] = [step, Date.now()];
    await removeOld(folder, keep);
    return url;
  }

  const isDue = () => {
    const {iterations} = partsOf(trained).optimizer;
    if (iterations === savedStep) return false;
    if ('epochs' in every) return false;
    if ('minutes' in every) return Date.now() - savedAt >= every.minutes * 60_000;
    return (
      iterations < savedStep || Math.floor(iterations / every.steps) > Math.floor(savedStep / every.steps)
    );
  };

  // One after the other, where someone does not wait.
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const now = last.then(work, work);
    last = now.catch(() => {});
    return now;
  };
  const step = () => inTurn(async () => (isDue() ? saveNow() : null));
  const callback = fitCallback(partsOf(trained).model, {
    onEpochBegin: async epoch => void (epochs = epoch),
    onBatchEnd: async () => void (await step()),
    onEpochEnd: async epoch => {
      epochs = epoch + 1;
      if ('epochs' in every && epochs % every.epochs === 0) await inTurn(saveNow);
    },
    // What was trained since the last save.
    onTrainEnd: () =>
      inTurn(async () => {
        if (partsOf(trained).optimizer.iterations !== savedStep) await saveNow();
      }),
  });
  return Object.assign(callback, {step, save: () => inTurn(saveNow)});
}

/**
 * The address of the newest checkpoint of a folder that is whole, or null where there is none: what `loadCheckpoint` is to
 * go on from. Each is read to the end; one that is damaged is passed over, with a warning that says so. An address that is
 * a checkpoint itself is given back.
 *
 * @throws Where nobody can look: at an address of a scheme whose contents cannot be listed, or at a file.
 */
export async function latestCheckpoint(folder: string): Promise<string | null> {
  expectListable('latestCheckpoint', folder, 'load');
  const all = await list(folder);
  for (const {url, isComplete} of [...all].reverse()) {
    // A save that was interrupted: nothing is lost but itself.
    if (!isComplete) continue;
    try {
      await readArtifacts(url, ioHandler(url, 'load'));
      return url;
    } catch (error) {
      console.warn(`tfjs-lora: ${url} is passed over: ${(error as Error).message}`);
    }
  }
  if (all.length > 0 || !(await isKept(folder))) return null;
  await readArtifacts(folder, ioHandler(folder, 'load'));
  return folder;
}

/** Keeps the newest few; removes older ones, and what interrupted saves left. */
async function removeOld(folder: string, keep: number): Promise<void> {
  const all = await list(folder);
  const complete = all.filter(({isComplete}) => isComplete);
  const kept = new Set<Kept>(complete.slice(-keep));
  for (const entry of all) if (!kept.has(entry) && !entry.isForeign) await remove(entry);
}

function partsOf(trained: Trained): {optimizer: ProjectedOptimizer; model: WeightsOf} {
  const {optimizer, model} = (trained ?? {}) as {optimizer?: unknown; model?: WeightsOf};
  if (optimizer === undefined) {
    const {kind, words} = given(trained);
    throw new TypeError(
      `checkpoints: a compiled model or {optimizer, model} is needed, and this is ${words}: ` +
        (kind === 'promise' ? 'await it first' : 'checkpoints({optimizer, model}, folder, {every: …})'),
    );
  }
  expectOptimizer('checkpoints', optimizer);
  if ('layers' in trained) return {optimizer, model: trained};
  expectWeights('checkpoints: model', model);
  return {optimizer, model};
}

function expectEvery(every: unknown): void {
  expectOptions('checkpoints: every', (every ?? {}) as object, ['steps', 'minutes', 'epochs']);
  const given = Object.entries((every ?? {}) as object).filter(([, value]) => value !== undefined);
  if (given.length !== 1) {
    throw new TypeError('checkpoints: every must be {steps: n}, {minutes: n} or {epochs: n}');
  }
  const [unit, value] = given[0] as [string, unknown];
  if (unit === 'minutes') expectNumber('checkpoints: every.minutes', value, 'a number above 0', n => n > 0);
  else {
    expectNumber(
      `checkpoints: every.${unit}`,
      value,
      'a whole number of at least 1',
      n => Number.isInteger(n) && n >= 1,
    );
  }
}
