/** `tfjs-lora merge`: an adapter, or several, put into the weights of a model on disk. */
import {existsSync} from 'node:fs';
import {join} from 'node:path';
import {nodeFiles} from '../adapter/files.js';
import {mergeAdapter} from '../adapter/merge.js';
import {mergedArtifacts} from '../models/merged-artifacts.js';
import {readPlaces} from './arguments.js';
import {chooseBackend} from './backend.js';
import {modelWeights} from './model-weights.js';
import {textOption} from './options.js';
import {readAdapterAt, readModelAt} from './source.js';
import {count} from './table.js';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora merge MODEL ADAPTER --out FOLDER [options]

Writes the model with the adapter in its weights: model.json and its weights, which
any tfjs program loads without this library. MODEL is a model.json or its folder
(layers or graph model; layers of your own need not be known here); ADAPTER is any
form that \`tfjs-lora inspect\` reads. Nothing but FOLDER is written.

  --out FOLDER   where the model goes; must not hold one
  --scale X      how much of the adapter: W0 + X (W - W0) (1)
  --base ignore  also into another model than the adapter was trained on
  --backend NAME tensorflow-gpu, tensorflow, webgpu, wasm, cpu (the first that works)

Example:
  tfjs-lora merge examples/byte-lm runs/typescript --out runs/typescript/merged
`;

/** Runs `tfjs-lora merge`. */
export async function merge(args: string[]): Promise<void> {
  const {given, places} = readPlaces(args, {
    ...{out: 'value', scale: 'value', base: 'value', backend: 'value', help: 'flag'},
  } as const);
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  const [modelPath, adapterPath, ...more] = places;
  if (modelPath === undefined || adapterPath === undefined || more.length > 0) {
    throw new UsageError('merge takes a model and an adapter: tfjs-lora merge MODEL ADAPTER --out FOLDER');
  }
  if (given.out === undefined) throw new UsageError('merge needs --out FOLDER');
  const out = textOption('--out', given.out);
  if (existsSync(join(out, 'model.json')))
    throw new UsageError(`${out} holds a model already: give another --out`);
  const scale = Number(given.scale ?? '1');
  if (!Number.isFinite(scale) || given.scale?.trim() === '') {
    throw new UsageError(`--scale takes a number, got "${given.scale}"`);
  }
  const base = given.base ?? 'check';
  if (base !== 'check' && base !== 'ignore') {
    throw new UsageError(`--base takes check or ignore, got "${base}"`);
  }
  await chooseBackend(given.backend);
  const [{artifacts}, {adapter}] = [await readModelAt(modelPath), await readAdapterAt(adapterPath)];
  const weights = modelWeights(artifacts, adapter);
  try {
    const paths = await mergeAdapter(weights.variables, adapter, {scale, base}).catch((error: Error) => {
      throw new UsageError(`cannot merge ${adapterPath} into ${modelPath}: ${error.message}`);
    });
    const moved = new Map(
      paths.map(path => [weights.names.get(weights.variables[path]!)!, weights.variables[path]!]),
    );
    const made = await mergedArtifacts(artifacts, moved, () => new Map());
    await nodeFiles(out).save!(made).catch((error: Error) => {
      throw new UsageError(`cannot write to ${out}: ${error.message}`);
    });
    console.log(
      `Merged ${count(paths.length)} weights of ${adapterPath} into ${modelPath}: ${join(out, 'model.json')}`,
    );
  } finally {
    weights.dispose();
  }
}
