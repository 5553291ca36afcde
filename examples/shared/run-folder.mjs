// The folder of one run, and what is kept in it.
import {existsSync, mkdirSync, readdirSync, statSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {loadAdapter, nodeFiles, saveAdapter} from 'tfjs-lora/adapter';
import {UsageError} from './arguments.mjs';
import {reportPage} from './page.mjs';

/** A folder that is new or empty: the one asked for, or runs/NAME, with a number where that is taken. */
export function runFolder(asked, name) {
  const isTaken = path => existsSync(path) && readdirSync(path).length > 0;
  let folder = asked ?? join('runs', name);
  try {
    for (let i = 2; asked === undefined && isTaken(folder); i++) folder = join('runs', `${name}-${i}`);
    if (isTaken(folder)) throw new UsageError(`--out ${folder} is not empty: give another folder`);
    mkdirSync(folder, {recursive: true});
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot write to --out ${folder}: ${error.code}`);
  }
  return folder;
}

/** The address of the adapter in a folder. */
const address = folder => `file://${join(folder, 'adapter.safetensors')}`;

/**
 * Writes what a training made: adapter.safetensors, some kilobytes, and model/, the whole model with the adapter merged
 * into it, as any tfjs program loads it.
 * @returns {Promise<{adapter: number, model: number}>} their sizes in bytes
 */
export async function keep(folder, model, optimizer) {
  await saveAdapter(optimizer, address(folder), {model});
  await model.save(nodeFiles(join(folder, 'model')));
  const size = path => statSync(path).size;
  const files = readdirSync(join(folder, 'model')).map(name => size(join(folder, 'model', name)));
  return {
    adapter: size(join(folder, 'adapter.safetensors')),
    model: files.reduce((sum, each) => sum + each, 0),
  };
}

/** Merges the adapter in a folder into a model that is as it was before the training. */
export const readBack = (folder, model) => loadAdapter(model, address(folder));

/** Writes result.json and report.html. */
export function writeReport(folder, result, report) {
  writeFileSync(join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(join(folder, 'report.html'), reportPage(report));
}
