// Writes what was learned, and reads it back.
import {existsSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {encodeAdapter, mergeAdapterBytes} from '../../dist/adapter/bytes.js';
import {saveModel} from '../../dist/cli/files.js';
import {UserError} from './arguments.mjs';

export {saveModel};

const adapterFile = 'adapter.safetensors';

/** The folder of a new run: the one asked for, if it holds none; or else the usual one, with a number if it is taken. */
export function runFolder(asked, usual) {
  let folder = asked ?? usual;
  for (let i = 2; asked === undefined && existsSync(folder); i++) folder = `${usual}-${i}`;
  if (existsSync(join(folder, adapterFile)))
    throw new UserError(`${folder} holds a run already: remove it or give another --out`);
  try {
    mkdirSync(folder, {recursive: true});
  } catch (error) {
    throw new UserError(`cannot write to --out ${folder}: ${error.code}`);
  }
  return folder;
}

/**
 * Writes the adapter and, as any tfjs program loads it, the merged model.
 * @returns {Promise<{adapterBytes: number, modelBytes: number}>}
 */
export async function keep(out, model, optimizer) {
  const adapter = await encodeAdapter(optimizer);
  writeFileSync(join(out, adapterFile), adapter);
  await saveModel(model, join(out, 'model'));
  const sizes = ['model.json', 'weights.bin'].map(file => readFileSync(join(out, 'model', file)).length);
  return {adapterBytes: adapter.length, modelBytes: sizes[0] + sizes[1]};
}

/** Merges the adapter in a folder into a model that is as the base was. */
export function merge(out, model) {
  mergeAdapterBytes(
    readFileSync(join(out, adapterFile)),
    model.weights.map(weight => weight.read()),
  );
}
