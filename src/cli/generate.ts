/** `tfjs-lora generate`: the shipped language model writes text, as it is or with an adapter merged into it. */
import {existsSync, readFileSync, statSync} from 'node:fs';
import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {decodeAdapter} from '../adapter/format.js';
import {mergeAdapter} from '../adapter/merge.js';
import {readArguments} from './arguments.js';
import {chooseBackend} from './backend.js';
import {generate} from './byte-lm/model.js';
import {loadModel, runFiles} from './files.js';
import {decimalOption, integerOption, textOption} from './options.js';
import {modelFolder} from './package.js';
import {printable} from './printable.js';
import {UsageError} from './usage-error.js';

const generateHelp = `Usage: tfjs-lora generate [options]

Writes text with the language model that ships, adapted or not.

  --adapter FILE   an adapter.safetensors of \`tfjs-lora adapt\`, or its folder
                   (none: the model as it ships)
  --model FOLDER   a model in place of the one that ships, such as a run without
                   an adapter has written
  --prompt TEXT    what to continue (the start of a line)
  --bytes N        how many bytes to write (300)
  --temperature X  below 1 safer, above 1 wilder, 0 always the likeliest (0.8)
  --seed N         another seed, another text (0)
  --backend NAME   tensorflow-gpu, tensorflow, webgpu, wasm or cpu (the first
                   that works)

Examples:
  tfjs-lora generate --prompt "This package "
  tfjs-lora generate --adapter runs/typescript --prompt "interface "
`;

/** Runs `tfjs-lora generate`. */
export async function generateText(args: string[]): Promise<void> {
  const given = readArguments(args, {
    ...{adapter: 'value', prompt: 'value', bytes: 'value', temperature: 'value', seed: 'value'},
    ...{model: 'value', backend: 'value', help: 'flag'},
  } as const);
  if (given.help) {
    process.stdout.write(generateHelp);
    return;
  }
  const bytes = integerOption('--bytes', given.bytes ?? '300', 1);
  const temperature = decimalOption('--temperature', given.temperature ?? '0.8', 0);
  const seed = integerOption('--seed', given.seed ?? '0', 0);
  const adapter = given.adapter === undefined ? undefined : readAdapter(given.adapter);
  const folder = given.model === undefined ? modelFolder : textOption('--model', given.model);
  await chooseBackend(given.backend);
  const model = await loadModel(folder);
  if (adapter) await merge(model, adapter);
  process.stdout.write(
    printable(await generate(model, given.prompt ?? '', {bytes, temperature, seed})) + '\n',
  );
}

interface AdapterFile {
  path: string;
  bytes: Uint8Array;
}

/** @throws UsageError for a file that is missing or cannot be read */
function readAdapter(given: string): AdapterFile {
  textOption('--adapter', given);
  const isFolder = existsSync(given) && statSync(given).isDirectory();
  const path = isFolder ? join(given, runFiles.adapter) : given;
  if (!existsSync(path)) throw new UsageError(`no such adapter: ${path}`);
  try {
    return {path, bytes: readFileSync(path)};
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/**
 * Merges an adapter into the model's weights.
 * @throws UsageError for a file that is no adapter, or one of another model; the model is as it was then
 */
export async function merge(model: tf.LayersModel, {path, bytes}: AdapterFile): Promise<void> {
  try {
    await mergeAdapter(model, decodeAdapter(bytes));
  } catch (error) {
    throw new UsageError(`cannot use ${path}: ${(error as Error).message}`);
  }
}
