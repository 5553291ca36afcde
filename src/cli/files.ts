/** Models and other files on disk, each written whole or not at all. */
import {existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs';
import {dirname, join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {UsageError} from './usage-error.js';

/**
 * Writes files so that each appears complete or not at all: all are first written beside their places, then
 * moved. Folders are made as needed.
 * @throws UsageError if a folder cannot be made or written to; nothing is left behind then
 */
export function writeFiles(files: Record<string, string | Uint8Array>): void {
  const written: {path: string; temporary: string}[] = [];
  try {
    for (const [path, content] of Object.entries(files)) {
      const temporary = `${path}.${process.pid}.tmp`;
      makeFolder(dirname(path));
      written.push({path, temporary});
      writeFileSync(temporary, content);
    }
    for (const {path, temporary} of written) renameSync(temporary, path);
  } catch (error) {
    for (const {temporary} of written) if (existsSync(temporary)) rmSync(temporary);
    throw new UsageError(`cannot write: ${(error as Error).message}`);
  }
}

/**
 * Makes a folder and those above it; gives the topmost one that was missing. Node's own recursive mkdir never
 * returns for a place in /proc.
 */
function makeFolder(folder: string): string | undefined {
  if (existsSync(folder)) return undefined;
  const above = makeFolder(dirname(resolve(folder)));
  mkdirSync(folder);
  return above ?? folder;
}

/**
 * Tries to make a folder and write in it, and leaves everything as it was.
 * @throws UsageError if that fails
 */
export function expectWritable(folder: string): void {
  const probe = join(folder, `${process.pid}.tmp`);
  try {
    const made = makeFolder(folder);
    writeFileSync(probe, '');
    rmSync(probe);
    if (made !== undefined) rmSync(made, {recursive: true});
  } catch (error) {
    throw new UsageError(`cannot write to ${folder}: ${(error as Error).message}`);
  }
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
      writeFiles(files);
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
}

/**
 * Reads a model from the `model.json` of a folder and the weight files it names.
 * @throws UsageError if there is none
 */
export async function loadModel(folder: string): Promise<tf.LayersModel> {
  const path = join(folder, 'model.json');
  if (!existsSync(path)) throw new UsageError(`no model in ${folder}: model.json is missing`);
  const json = JSON.parse(readFileSync(path, 'utf8')) as tf.io.ModelJSON;
  const weightSpecs = json.weightsManifest.flatMap(group => group.weights);
  const parts = json.weightsManifest
    .flatMap(group => group.paths)
    .map(name => readFileSync(join(folder, name)));
  const weightData = Uint8Array.from(Buffer.concat(parts)).buffer;
  const modelTopology = json.modelTopology as object;
  return tf.loadLayersModel(tf.io.fromMemory({modelTopology, weightSpecs, weightData}));
}
