/** Models and other files on disk, each written whole or not at all. */
import {existsSync, mkdirSync, rmSync, statSync, writeFileSync} from 'node:fs';
import {dirname, join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {nodeFiles} from '../adapter/files.js';
import {writeWhole} from '../adapter/whole-file.js';
import {UsageError} from './usage-error.js';

/**
 * Writes files one after another, each complete and on the disk or not at all. Folders are made as needed, all of them
 * before the first file.
 * @throws UsageError if a folder cannot be made, then without any file, or a file cannot be written
 */
export async function writeFiles(files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  const text = new TextEncoder();
  for (const path of Object.keys(files)) attempt(`cannot write ${path}`, dirname(path), makeFolder);
  for (const [path, content] of Object.entries(files)) {
    const bytes = typeof content === 'string' ? text.encode(content) : content;
    await writeWhole(path, bytes).catch((error: Error) => {
      throw new UsageError(`cannot write ${path}: ${reasonOf(error)}`);
    });
  }
}

/**
 * Makes a folder and those above it; gives the topmost one that was missing. Node's own recursive mkdir never
 * returns for a place in /proc.
 */
function makeFolder(folder: string): string | undefined {
  if (existsSync(folder)) {
    if (!statSync(folder).isDirectory()) throw new Error(`${folder} is a file, not a folder`);
    return undefined;
  }
  const above = makeFolder(dirname(resolve(folder)));
  mkdirSync(folder);
  return above ?? folder;
}

/** Does something with a folder; what goes wrong becomes a UsageError. */
function attempt(fails: string, folder: string, work: (folder: string) => void): void {
  try {
    work(folder);
  } catch (error) {
    throw new UsageError(`${fails}: ${reasonOf(error as Error)}`);
  }
}

/** What the system says, without the name of a temporary file, which tells people nothing. */
const reasonOf = ({message}: Error): string => message.replace(/, \w+ '.*\.tmp'.*$/s, '');

/**
 * Tries to make a folder and write in it, and leaves everything as it was.
 * @throws UsageError if that fails
 */
export function expectWritable(folder: string): void {
  attempt(`cannot write to ${folder}`, folder, () => {
    const probe = join(folder, `${process.pid}.tmp`);
    const made = makeFolder(folder);
    try {
      writeFileSync(probe, '');
      rmSync(probe);
    } finally {
      if (made !== undefined) rmSync(made, {recursive: true});
    }
  });
}

/** The files of a run. */
export const runFiles = {
  adapter: 'adapter.safetensors',
  report: 'report.html',
  result: 'result.json',
} as const;

/** The folder, in that of a run, of the whole model where there is no adapter. */
export const mergedFolder = 'model';

/**
 * The folder of a new run: `asked`, or else `usual` with a number where it is taken, so that no two runs mix.
 * @throws UsageError if a run lies in `asked`
 */
export function runFolder(asked: string | undefined, usual: string): string {
  if (asked === undefined) {
    let folder = usual;
    for (let i = 2; existsSync(folder); i++) folder = `${usual}-${i}`;
    return folder;
  }
  const found = [...Object.values(runFiles), mergedFolder].find(file => existsSync(join(asked, file)));
  if (found === undefined) return asked;
  throw new UsageError(`${asked} holds a run already (${found}): remove it or give another --out`);
}

/** Writes a model as tfjs does: `model.json` and `weights.bin` in a folder, and `others` beside them. */
export async function saveModel(
  model: tf.LayersModel,
  folder: string,
  others: Record<string, string> = {},
): Promise<void> {
  await model.save(
    tf.io.withSaveHandler(async artifacts => {
      const weights = tf.io.concatenateArrayBuffers([artifacts.weightData as ArrayBuffer].flat());
      const manifest = [{paths: ['weights.bin'], weights: artifacts.weightSpecs ?? []}];
      const json = {
        modelTopology: artifacts.modelTopology,
        format: artifacts.format,
        generatedBy: artifacts.generatedBy,
        convertedBy: artifacts.convertedBy,
        weightsManifest: manifest,
      };
      const files: Record<string, string | Uint8Array> = {
        [join(folder, 'weights.bin')]: new Uint8Array(weights),
        [join(folder, 'model.json')]: JSON.stringify(json),
      };
      for (const [name, text] of Object.entries(others)) files[join(folder, name)] = text;
      await writeFiles(files);
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
}

/**
 * Reads a model from the `model.json` of a folder and the weight files it names.
 * @throws UsageError if there is none, or it is damaged
 */
export async function loadModel(folder: string): Promise<tf.LayersModel> {
  if (!existsSync(join(folder, 'model.json')))
    throw new UsageError(`no model in ${folder}: model.json is missing`);
  const artifacts = await nodeFiles(folder).load!().catch((error: Error) => {
    throw new UsageError(`cannot read the model in ${folder}: ${error.message}`);
  });
  return tf.loadLayersModel(tf.io.fromMemory(artifacts));
}
