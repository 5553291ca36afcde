/** `tfjs-lora convert`: an adapter in another form. */
import {existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync} from 'node:fs';
import {join} from 'node:path';
import type {io} from '@tensorflow/tfjs-core';
import type {Adapter} from '../adapter/adapter.js';
import {toArtifacts} from '../adapter/artifacts.js';
import {nodeFiles} from '../adapter/files.js';
import {writeWhole} from '../adapter/whole-file.js';
import {encodeAdapter} from '../adapter/format.js';
import {toKeras} from '../adapter/keras.js';
import {moduleOf, type ModuleNames} from '../adapter/peft/mapping.js';
import {toPeft, type ToPeftOptions} from '../adapter/peft/to-peft.js';
import {readPlaces} from './arguments.js';
import {chooseBackend} from './backend.js';
import {modelWeights} from './model-weights.js';
import {textOption} from './options.js';
import {readAdapterAt, readModelAt} from './source.js';
import {kilobytes} from './table.js';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora convert ADAPTER --to FORM --out PATH [options]

Writes an adapter in another form. ADAPTER is any form that \`tfjs-lora inspect\`
reads, so it goes both ways.

  --to FORM       safetensors   this library's own, one file
                  tfjs          model.json and weights, as tfjs's own handlers keep it
                  peft          adapter_config.json, adapter_model.safetensors (a folder)
                  keras         lora_kernel_a and lora_kernel_b, one file
  --out PATH      the file or folder to write; must not exist
  --dtype TYPE    F32, F16 or BF16, for peft (F32)
  --base-model S  base_model_name_or_path, for peft
  --task-type S   task_type, for peft, such as CAUSAL_LM
  --fan-in-fan-out  the layers with factors are GPT-2's Conv1D, for peft
  --skip          leave out what the form has no place for
  --names FILE    JSON: the PyTorch module for each path, from and to peft
  --model MODEL   the tfjs model it is for: tells paths and kinds of weights, from and
                  to peft

Examples:
  tfjs-lora convert runs/typescript --to peft --out runs/typescript/peft
  tfjs-lora convert downloaded/ --to safetensors --out adapter.safetensors
`;

const forms = ['safetensors', 'tfjs', 'peft', 'keras'] as const;
const dtypes = ['F32', 'F16', 'BF16'] as const;

/** Runs `tfjs-lora convert`. */
export async function convert(args: string[]): Promise<void> {
  const {given, places} = readPlaces(args, {
    ...{
      to: 'value',
      out: 'value',
      dtype: 'value',
      names: 'value',
      model: 'value',
      skip: 'flag',
      help: 'flag',
    },
    ...{'base-model': 'value', 'task-type': 'value', 'fan-in-fan-out': 'flag'},
  } as const);
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  const [path, ...more] = places;
  if (path === undefined || more.length > 0) {
    throw new UsageError('convert takes one adapter: tfjs-lora convert ADAPTER --to FORM --out PATH');
  }
  const form = oneOf('--to', given.to, forms);
  if (given.out === undefined) throw new UsageError('convert needs --out PATH');
  const out = textOption('--out', given.out);
  if (existsSync(out)) throw new UsageError(`${out} exists already: give another --out`);
  if ((form === 'safetensors' || form === 'keras') !== out.endsWith('.safetensors')) {
    const isFile = form === 'safetensors' || form === 'keras';
    throw new UsageError(
      `--to ${form} writes a ${isFile ? 'file: --out must end in .safetensors' : 'folder, not a file'}, got "${out}"`,
    );
  }
  const dtypeOf = oneOf('--dtype', given.dtype ?? 'F32', dtypes);
  for (const name of ['dtype', 'base-model', 'task-type', 'fan-in-fan-out'] as const) {
    if (given[name] !== undefined && form !== 'peft') throw new UsageError(`--${name} is for --to peft`);
  }
  await chooseBackend();
  const names = given.names === undefined ? undefined : readNames(given.names);
  const reading = given.model === undefined ? null : await readModelAt(given.model);
  const weights = reading && modelWeights(reading.artifacts, NONE);
  try {
    const {adapter, form: before} = await readAdapterAt(path, {
      ...(names && {names}),
      ...(weights && {model: weights.variables}),
    });
    const files = await made(form, adapter, {
      ...{dtype: dtypeOf, skip: given.skip ?? false},
      ...(names && {names}),
      ...(weights && {model: weights.variables}),
      ...(given['base-model'] !== undefined && {baseModel: given['base-model']}),
      ...(given['task-type'] !== undefined && {taskType: given['task-type']}),
      ...(given['fan-in-fan-out'] && {fanInFanOut: true}),
    });
    const bytes = await put(out, files);
    console.log(
      `Wrote ${out}, ${kilobytes(bytes)}: ${adapter.weights.length} weights, from the form of ${before} to ${form}`,
    );
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot convert ${path} to ${form}: ${(error as Error).message}`);
  } finally {
    weights?.dispose();
  }
}

/** One file, or a folder. */
type Made = Uint8Array | Readonly<Record<string, Uint8Array>> | io.ModelArtifacts;

function made(form: (typeof forms)[number], adapter: Adapter, options: ToPeftOptions): Made {
  const {skip = false} = options;
  switch (form) {
    case 'safetensors':
      return encodeAdapter(adapter);
    case 'tfjs':
      return toArtifacts(adapter);
    case 'keras':
      return toKeras(adapter, {skip});
    case 'peft': {
      const text = new TextEncoder();
      return Object.fromEntries(
        Object.entries(toPeft(adapter, options)).map(([name, content]) => [
          name,
          typeof content === 'string' ? text.encode(content) : (content as Uint8Array),
        ]),
      );
    }
  }
}

/** A file is written whole; so is a folder, which is made beside its place. Gives the bytes. */
async function put(out: string, files: Made): Promise<number> {
  if (files instanceof Uint8Array) {
    await writeWhole(out, files);
    return files.length;
  }
  const staging = `${out.replace(/[\\/]+$/, '')}.${process.pid}.tmp`;
  try {
    if ('weightSpecs' in files) await nodeFiles(staging).save!(files as io.ModelArtifacts);
    else {
      for (const [name, bytes] of Object.entries(files as Record<string, Uint8Array>)) {
        await writeWhole(join(staging, name), bytes);
      }
    }
    renameSync(staging, out);
  } finally {
    rmSync(staging, {recursive: true, force: true});
  }
  return readdirSync(out).reduce((sum, name) => sum + statSync(join(out, name)).size, 0);
}

/** JSON: the module of each path, or null; paths that are not in it keep the usual name. */
function readNames(path: string): ModuleNames {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`--names ${path}: ${(error as Error).message}`);
  }
  const isMap = typeof json === 'object' && json !== null && !Array.isArray(json);
  if (!isMap || !Object.values(json as object).every(value => value === null || typeof value === 'string')) {
    throw new UsageError(`--names ${path} must be JSON such as {"dense_1/kernel": "model.fc1"}`);
  }
  const names = new Map(Object.entries(json as Record<string, string | null>));
  return weight => (names.has(weight) ? names.get(weight)! : moduleOf(weight));
}

function oneOf<T extends string>(name: string, value: string | undefined, known: readonly T[]): T {
  const found = known.find(one => one === value);
  if (found) return found;
  throw new UsageError(
    `${name} takes ${known.join(', ')}, got ${value === undefined ? 'nothing' : `"${value}"`}`,
  );
}

const NONE: Adapter = {weights: [], generatedBy: '', metadata: {}};
