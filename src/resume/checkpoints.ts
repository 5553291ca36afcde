import {ioHandler} from '../adapter/io.js';
import type {LayerLike, WeightsOf} from '../adapter/paths.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {expectNumber, expectOptions} from '../options.js';
import {expectJson, fromArtifacts} from './contents.js';
import {expectOptimizer} from '../adapter/expect-optimizer.js';
import {saveCheckpoint} from './save.js';
import {type Kept, list, nameOf, remove} from './shelf.js';

export interface CheckpointsOptions {
  /** How often: at every multiple of so many steps, or when so many minutes have passed since the last. */
  every: {steps: number} | {minutes: number};
  /** How many to keep. Default 3. */
  keep?: number;
  /** Where the data stands, asked for at each save: any JSON value. */
  data?: () => unknown;
}

/** A tfjs-layers model that was compiled with a ProjectedOptimizer, or the two. */
export type Trained =
  | (LayerLike & {readonly optimizer: unknown})
  | {readonly optimizer: ProjectedOptimizer; readonly model: WeightsOf};

/** What `checkpoints` gives: callbacks for `model.fit`, and the same to call by hand. */
export interface Checkpoints {
  /** To be called after each batch: saves where it is time. The address, or null where it was not time. */
  step(): Promise<string | null>;
  /** Saves now. The address. */
  save(): Promise<string>;
  onBatchEnd(batch?: number, logs?: unknown): Promise<void>;
  /** Saves what was trained since the last save. */
  onTrainEnd(logs?: unknown): Promise<void>;
}

/**
 * Saves a checkpoint every so often, under names that count up (`folder/000012-step-340`), and keeps the last few. An old
 * one is removed when a newer one is complete, never before. Whatever goes wrong while saving rejects the promise, and
 * so `model.fit`.
 *
 *     await model.fit(x, y, {callbacks: checkpoints(model, 'file://runs/a', {every: {steps: 100}, keep: 3})});
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
  ioHandler(folder, 'save'); // An address that cannot work is found before the training.

  let savedStep = partsOf(trained).optimizer.iterations;
  let savedAt = Date.now();
  let last: Promise<unknown> = Promise.resolve();

  async function saveNow(): Promise<string> {
    const {optimizer, model} = partsOf(trained);
    const number = ((await list(folder)).at(-1)?.number ?? 0) + 1;
    const step = optimizer.iterations;
    const url = nameOf(folder, number, step);
    const where: unknown = data ? data() : null;
    expectJson('checkpoints: what data() gives', where);
    await saveCheckpoint(optimizer, url, {model, data: where});
    [savedStep, savedAt] = [step, Date.now()];
    await removeOld(folder, url, keep);
    return url;
  }

  const isDue = () => {
    const {iterations} = partsOf(trained).optimizer;
    if (iterations === savedStep) return false;
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
  const keeper: Checkpoints = {
    step: () => inTurn(async () => (isDue() ? saveNow() : null)),
    save: () => inTurn(saveNow),
    onBatchEnd: async () => void (await keeper.step()),
    onTrainEnd: () =>
      inTurn(async () => {
        if (partsOf(trained).optimizer.iterations !== savedStep) await saveNow();
      }),
  };
  return keeper;
}

/**
 * The address of the newest checkpoint of a folder that is whole, or null: what `loadCheckpoint` is to go on from. Each is
 * read to the end; one that is damaged is passed over, with a warning that says so.
 */
export async function latestCheckpoint(folder: string): Promise<string | null> {
  for (const {url, isComplete} of (await list(folder)).reverse()) {
    // A save that was interrupted: nothing is lost but itself.
    if (!isComplete) continue;
    try {
      fromArtifacts(url, await ioHandler(url, 'load').load!());
      return url;
    } catch (error) {
      console.warn(`tfjs-lora: ${url} is passed over: ${(error as Error).message}`);
    }
  }
  return null;
}

/** Keeps the newest few, of which `newest` must be one; removes older ones, and what interrupted saves left. */
async function removeOld(folder: string, newest: string, keep: number): Promise<void> {
  const all = await list(folder);
  if (!all.some(({url}) => url === newest)) {
    throw new Error(
      `${newest} was saved, but what is saved in ${folder} cannot be listed, so that old ones would stay for ever: use ` +
        'file://, indexeddb:// or localstorage://',
    );
  }
  const complete = all.filter(({isComplete}) => isComplete);
  const kept = new Set<Kept>(complete.slice(-keep));
  for (const entry of all) if (!kept.has(entry)) await remove(entry);
}

function partsOf(trained: Trained): {optimizer: ProjectedOptimizer; model: WeightsOf} {
  const {optimizer} = trained;
  expectOptimizer('checkpoints', optimizer);
  return {
    optimizer,
    model: 'model' in trained && !('layers' in trained) ? trained.model : (trained as LayerLike),
  };
}

function expectEvery(every: unknown): void {
  expectOptions('checkpoints: every', (every ?? {}) as object, ['steps', 'minutes']);
  const {steps, minutes} = (every ?? {}) as {steps?: unknown; minutes?: unknown};
  if ((steps === undefined) === (minutes === undefined)) {
    throw new TypeError('checkpoints: every must be {steps: n} or {minutes: n}');
  }
  if (steps !== undefined) {
    expectNumber(
      'checkpoints: every.steps',
      steps,
      'a whole number of at least 1',
      n => Number.isInteger(n) && n >= 1,
    );
  } else expectNumber('checkpoints: every.minutes', minutes, 'a number above 0', n => n > 0);
}
