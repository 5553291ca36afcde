import {io} from '@tensorflow/tfjs-core';
import {digest} from './digest.js';
import {type FileSystem, isMissing, node} from './file-system.js';
import {given} from './given.js';
import {expectSpecs, weightBytes, type Specs} from './specs.js';
import {errorOf} from './untrusted.js';
import {withWeightData} from './weight-stream.js';
import {isTemporary, removeLeftovers, writeWhole} from './whole-file.js';

const MANIFEST = 'model.json';
const WEIGHTS = /^weights-([0-9a-f]{16})\.bin$/;

/**
 * A folder that holds a model as tfjs-node and tfjs's loaders over HTTP read it: `model.json` and one file of weights. A
 * save appears whole or not at all, and until then the one before stays readable: the weights are written under a name
 * made of their content, and `model.json`, which names them, is put in its place last. Saves of one process to one
 * folder wait for each other; two processes must not write to one folder.
 *
 * @param folder A path, not an address. To load, that of a `model.json` will do as well.
 */
export function nodeFiles(folder: string, fs: FileSystem = node().fs): io.IOHandler {
  if (typeof folder !== 'string' || folder === '' || folder.startsWith('file://')) {
    throw new TypeError(
      `nodeFiles: the path of a folder is needed, such as 'runs/a' (an address file://runs/a is for ` +
        `model.save and saveAdapter), and this is ${given(folder).words}`,
    );
  }
  const {path: paths} = node();
  return {
    save: artifacts => inTurn(paths.resolve(folder), () => save(folder, artifacts, fs)),
    load: () => load(folder, fs),
  };
}

async function save(folder: string, model: io.ModelArtifacts, fs: FileSystem): Promise<io.SaveResult> {
  const {path: paths} = node();
  const artifacts = await withWeightData(folder, model);
  const {modelTopology, weightSpecs = []} = artifacts;
  if (modelTopology instanceof ArrayBuffer) throw errorOf('file:// holds no binary topology: save JSON');
  const bytes = weightBytes(folder, artifacts.weightData);
  expectSpecs(folder, weightSpecs, bytes.length);
  const named = weightSpecs.length === 0 ? [] : [`weights-${digest(bytes)}.bin`];
  const json: Record<string, unknown> = {};
  for (const key of FIELDS) if (artifacts[key] !== undefined) json[key] = artifacts[key];
  json['weightsManifest'] = [{paths: named, weights: weightSpecs}];
  const text = new TextEncoder().encode(JSON.stringify(json));
  const before = await namedIn(folder, fs);
  for (const name of named) await writeWhole(paths.join(folder, name), bytes, fs);
  await writeWhole(paths.join(folder, MANIFEST), text, fs);
  // The save is done. What nothing names any more goes; should that fail, the next save tries again.
  await removeUnnamed(folder, named, before, fs).catch(() => {});
  return {modelArtifactsInfo: io.getModelArtifactsInfoForJSON(artifacts)};
}

const FIELDS = [
  'modelTopology',
  'format',
  'generatedBy',
  'convertedBy',
  'trainingConfig',
  'signature',
  'userDefinedMetadata',
  'modelInitializer',
  'initializerSignature',
] as const satisfies readonly (keyof io.ModelArtifacts)[];

async function load(path: string, fs: FileSystem): Promise<io.ModelArtifacts> {
  const {path: paths} = node();
  const isFolder = await fs.stat(path).then(
    entry => entry.isDirectory(),
    (error: unknown) => {
      if (isMissing(error)) throw errorOf(`there is nothing at ${path}`, {cause: error});
      throw error;
    },
  );
  const manifest = isFolder ? paths.join(path, MANIFEST) : path;
  for (let last = ''; ;) {
    const text = new TextDecoder().decode(await read(manifest, fs));
    try {
      return await io.getModelArtifactsForJSON(parse(manifest, text), async groups => {
        const specs = groups.flatMap(group => group.weights);
        const files = groups.flatMap(group => group.paths);
        return [specs, await readWeights(manifest, specs, files, fs)];
      });
    } catch (error) {
      // Someone may be saving: then model.json names other files by now.
      if (text === last || !isMissing((error as Error).cause)) throw error;
      last = text;
    }
  }
}

async function readWeights(
  manifest: string,
  specs: Specs,
  files: readonly string[],
  fs: FileSystem,
): Promise<ArrayBuffer> {
  const {path: paths} = node();
  const at = files.map(name => paths.join(paths.dirname(manifest), name));
  const missing = (file: string) => (error: unknown) => {
    throw errorOf(`${manifest} names the file ${file}, which cannot be read`, {cause: error});
  };
  const sizes = await Promise.all(at.map(file => fs.stat(file).catch(missing(file))));
  // Before anything is read: a file is as large as it says, or it is refused.
  const total = sizes.reduce((sum, {size}) => sum + size, 0);
  expectSpecs(manifest, specs, total);
  const whole = new Uint8Array(total);
  let offset = 0;
  for (const [i, file] of at.entries()) {
    const bytes = await fs.readFile(file).catch(missing(file));
    const hash = WEIGHTS.exec(files[i]!)?.[1];
    if (bytes.length !== sizes[i]!.size || (hash && hash !== digest(bytes))) {
      throw errorOf(`${file} is damaged: its bytes are not those that were written`);
    }
    whole.set(bytes, offset);
    offset += bytes.length;
  }
  return whole.buffer;
}

function parse(manifest: string, text: string): io.ModelJSON {
  let json: Partial<io.ModelJSON> | null;
  try {
    json = JSON.parse(text) as Partial<io.ModelJSON>;
  } catch (error) {
    throw errorOf(`${manifest} is damaged: ${(error as Error).message}`);
  }
  const groups: unknown = json?.weightsManifest ?? [];
  const isPlain = (name: unknown) =>
    typeof name === 'string' && !/^([\\/]|[A-Za-z]:)/.test(name) && !name.split(/[\\/]/).includes('..');
  const isGroup = (group: Partial<io.ModelJSON['weightsManifest'][number]> | null) =>
    Array.isArray(group?.paths) && Array.isArray(group.weights) && group.paths.every(isPlain);
  if (!json || typeof json !== 'object' || !Array.isArray(groups) || !groups.every(isGroup)) {
    throw errorOf(`${manifest} is no model of tfjs: its weightsManifest does not name files beside it`);
  }
  return {...json, weightsManifest: groups} as io.ModelJSON;
}

async function read(file: string, fs: FileSystem): Promise<Uint8Array> {
  return fs.readFile(file).catch((error: unknown) => {
    if (isMissing(error)) throw errorOf(`there is no ${file}`, {cause: error});
    throw error;
  });
}

/** The files of weights beside a `model.json` that it names; none where there is none to read. */
async function namedIn(folder: string, fs: FileSystem): Promise<readonly string[]> {
  const {path: paths} = node();
  try {
    const manifest = paths.join(folder, MANIFEST);
    const {weightsManifest} = parse(manifest, new TextDecoder().decode(await fs.readFile(manifest)));
    return weightsManifest.flatMap(group => group.paths).filter(name => /^[^\\/]+\.bin$/.test(name));
  } catch {
    return [];
  }
}

async function removeUnnamed(
  folder: string,
  named: readonly string[],
  before: readonly string[],
  fs: FileSystem,
): Promise<void> {
  const {path: paths} = node();
  const gone = (await fs.readdir(folder)).filter(
    name => !named.includes(name) && (WEIGHTS.test(name) || before.includes(name)),
  );
  for (const name of gone) await fs.rm(paths.join(folder, name), {force: true});
  await removeLeftovers(folder, base => WEIGHTS.test(base), fs);
}

/** Removes a folder that `nodeFiles` wrote: `model.json` first, so that no half of it is taken for a whole. */
export async function removeFolder(folder: string, fs: FileSystem = node().fs): Promise<void> {
  const {path: paths} = node();
  const named = await namedIn(folder, fs);
  const ours = (await fs.readdir(folder)).filter(
    name => named.includes(name) || WEIGHTS.test(name) || isTemporary(name),
  );
  for (const name of [MANIFEST, ...ours]) await fs.rm(paths.join(folder, name), {force: true});
  await fs.rmdir(folder);
}

const last = new Map<string, Promise<unknown>>();

/** Runs `work` when all earlier work of this name is over, well or not. */
function inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
  const now = (last.get(name) ?? Promise.resolve()).then(work, work);
  const settled = now.then(
    () => {},
    () => {},
  );
  last.set(name, settled);
  void settled.then(() => last.get(name) === settled && last.delete(name));
  return now;
}
