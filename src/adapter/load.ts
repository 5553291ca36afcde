import type {io} from '@tensorflow/tfjs-core';
import type {Adapter} from './adapter.js';
import {expectWeights} from './expect.js';
import {mergeAdapter, type MergeOptions} from './merge.js';
import type {WeightsOf} from './paths.js';
import {readAdapter} from './save.js';

/**
 * Reads an adapter and merges it into a model: `readAdapter`, then `mergeAdapter`.
 *
 *     await loadAdapter(model, 'indexeddb://my-adapter')
 *
 * @param source As for `readAdapter`: an address, a `tf.io.IOHandler`, or bytes.
 * @returns The adapter, which `unmergeAdapter` takes off again.
 * @throws Error when it cannot be read or does not fit; nothing has changed then.
 */
export async function loadAdapter(
  model: WeightsOf,
  source: string | io.IOHandler | Uint8Array | ArrayBuffer,
  options: MergeOptions = {},
): Promise<Adapter> {
  expectWeights('loadAdapter', model);
  const adapter = await readAdapter(source);
  await mergeAdapter(model, adapter, options);
  return adapter;
}
