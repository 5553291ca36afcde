/** What of a training is written down: an adapter or, where there is none, the whole model. */
import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {adapterOf} from '../../adapter/adapter-of.js';
import {encodeAdapter} from '../../adapter/format.js';
import type {ProjectedOptimizer} from '../../index.js';
import {mergedFolder, runFiles, saveModel, writeFiles} from '../files.js';

export interface Kept {
  /** Null where there is no adapter. */
  adapterBytes: number | null;
  /** Why there is none, and what there is instead. */
  note: string | undefined;
}

/**
 * Writes the adapter of what was learned into the folder `out`. Once a subspace was chosen anew its factors hold only
 * what was learned since, so that there is no adapter: then the merged model is written.
 */
export async function keepWhatWasLearned(
  out: string,
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
): Promise<Kept> {
  const moved = optimizer.attached.filter(({refreshed}) => refreshed).length;
  if (moved === 0) {
    const adapter = encodeAdapter(await adapterOf(optimizer, model));
    await writeFiles({[join(out, runFiles.adapter)]: adapter});
    return {adapterBytes: adapter.length, note: undefined};
  }
  const folder = join(out, mergedFolder);
  await saveModel(model, folder);
  const which = moved === optimizer.attached.length ? 'the weights' : `${moved} weights`;
  const note =
    `no adapter: the subspaces of ${which} were chosen anew, so the factors hold only what was learned since; ` +
    `the merged model is in ${folder}`;
  return {adapterBytes: null, note};
}
