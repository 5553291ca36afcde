import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {adapterOf} from '../../adapter/adapter-of.js';
import {encodeAdapter} from '../../adapter/format.js';
import type {ProjectedOptimizer} from '../../index.js';
import type {Kept} from '../adapt/keep.js';
import {runFiles, writeFiles} from '../files.js';

/**
 * Writes the adapter of what was learned into the folder `out`; where a subspace was chosen anew there is none, for its
 * factors hold only what was learned since.
 */
export async function keepAdapter(
  out: string,
  model: tf.LayersModel,
  optimizer: ProjectedOptimizer,
): Promise<Kept> {
  if (optimizer.attached.some(({refreshed}) => refreshed)) {
    const note = 'no adapter: subspaces were chosen anew, so the factors hold only what was learned since';
    return {adapterBytes: null, note};
  }
  const adapter = encodeAdapter(await adapterOf(optimizer, model));
  await writeFiles({[join(out, runFiles.adapter)]: adapter});
  return {adapterBytes: adapter.length, note: undefined};
}
