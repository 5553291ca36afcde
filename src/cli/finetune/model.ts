/** The model that a user brings. */
import {existsSync, readFileSync, statSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {UsageError} from '../usage-error.js';
import {digestOf} from './digest.js';

/** A model, and the folder it lies in. */
export interface Given {
  readonly model: tf.LayersModel;
  readonly folder: string;
  /** Of its layers and weights as they lie on disk. */
  readonly digest: string;
  /** What tfjs warned of while it made the model. */
  readonly warnings: readonly string[];
}

/**
 * Reads a LayersModel: a folder with a model.json, or the path to one, and the weight files that it names.
 * @throws UsageError for anything else, in one line
 */
export async function readModel(path: string): Promise<Given> {
  const isFolder = existsSync(path) && statSync(path).isDirectory();
  const file = isFolder ? join(path, 'model.json') : path;
  if (!existsSync(file)) throw new UsageError(`no model: ${file} is missing`);
  const fail = (why: string) => new UsageError(`${file} ${why}`);
  if (/\.(h5|hdf5|keras|pb|onnx|tflite|safetensors)$/i.test(file)) {
    throw fail(
      'is not of tfjs: convert it to a model.json (tensorflowjs_converter --output_format tfjs_layers_model)',
    );
  }
  let json: Partial<tf.io.ModelJSON>;
  try {
    json = (JSON.parse(readFileSync(file, 'utf8').replace(/^\ufeff/, '')) ?? {}) as Partial<tf.io.ModelJSON>;
  } catch (error) {
    throw fail(`is no JSON: ${(error as Error).message}`);
  }
  const {modelTopology, weightsManifest, format} = json;
  if (format === 'graph-model' || (modelTopology && 'node' in modelTopology)) {
    throw fail('is a GraphModel, which has no layers to read: train it in code, see trainableGraphModel');
  }
  if (!modelTopology || !Array.isArray(weightsManifest))
    throw fail('has no modelTopology and weightsManifest');
  const folder = dirname(file);
  const weightSpecs = weightsManifest.flatMap(group => group.weights);
  const parts = weightsManifest.flatMap(group => group.paths).map(name => readPart(file, folder, name));
  const weightData = Uint8Array.from(Buffer.concat(parts)).buffer;
  const named = bytesOf(weightSpecs);
  if (weightData.byteLength < named) {
    const files = weightsManifest.flatMap(group => group.paths).join(', ');
    throw fail(
      `names ${named} bytes of weights, and there are ${weightData.byteLength} in ${files}: copy them anew`,
    );
  }
  try {
    const load = () => tf.loadLayersModel(tf.io.fromMemory({modelTopology, weightSpecs, weightData}));
    const {made, warnings} = await gatheringWarnings(load);
    const digest = digestOf([JSON.stringify([modelTopology, weightSpecs]), new Uint8Array(weightData)]);
    return {model: made, folder, digest, warnings};
  } catch (error) {
    const {message} = error as Error;
    const unknown = /^Unknown layer: (\S+?)\. /.exec(message)?.[1];
    if (unknown !== undefined) {
      throw fail(
        `has a layer of the class ${unknown}, which tfjs does not know: train it in code, where ` +
          'tf.serialization.registerClass makes the class known',
      );
    }
    throw fail(`cannot be loaded: ${message.split('\n')[0]}`);
  }
}

/** Does some work; what it prints as warnings is gathered, each once. */
async function gatheringWarnings<T>(work: () => Promise<T>): Promise<{made: T; warnings: string[]}> {
  const {warn} = console;
  const warnings = new Set<string>();
  console.warn = (...parts: unknown[]) => void warnings.add(parts.join(' '));
  try {
    return {made: await work(), warnings: [...warnings]};
  } finally {
    console.warn = warn;
  }
}

function readPart(file: string, folder: string, name: string): Buffer {
  const path = join(folder, name);
  // A model.json may come from anyone: its weights lie beside it.
  if (basename(name) !== name) throw new UsageError(`${file} names a weight file elsewhere: ${name}`);
  if (!existsSync(path)) throw new UsageError(`${file} names ${name}, which is missing in ${folder}`);
  return readFileSync(path);
}

/** What weights take on disk; as much as is known where there are strings. */
const bytesOf = (specs: readonly tf.io.WeightsManifestEntry[]): number =>
  specs
    .map(({shape, dtype, quantization}) => {
      const size = shape.reduce((product, axis) => product * axis, 1);
      return size * (bytes[quantization?.dtype ?? dtype] ?? 0);
    })
    .reduce((sum, size) => sum + size, 0);

const bytes: Record<string, number> = {
  float32: 4,
  int32: 4,
  complex64: 8,
  float16: 2,
  uint16: 2,
  uint8: 1,
  bool: 1,
};

/** @throws UsageError that names the first weight that holds NaN or an infinite number */
export async function expectFinite(model: tf.LayersModel): Promise<void> {
  for (const weight of model.weights) {
    if ((await weight.read().data<'float32'>()).every(Number.isFinite)) continue;
    throw new UsageError(
      `the weight ${weight.originalName} holds NaN or infinite numbers before any training: the model was damaged ` +
        'when it was made or saved',
    );
  }
}

/**
 * Makes the layers trainable that were saved frozen: a method that trains few numbers is to reach them.
 * @returns their names
 */
export function unfreeze(model: tf.LayersModel): string[] {
  const frozen = layersIn(model).filter(layer => !layer.trainable && layer.weights.length > 0);
  const within = modelsIn(model).filter(({trainable}) => !trainable);
  for (const layer of [...within, ...frozen]) layer.trainable = true;
  return [...within, ...frozen].map(({name}) => name);
}

/**
 * The one input of a model.
 * @throws UsageError where there are several
 */
export function inputOf(model: tf.LayersModel): {shape: (number | null)[]; vocabulary: number | null} {
  if (model.inputs.length !== 1) {
    const names = model.inputs.map(({name}) => name).join(', ');
    throw new UsageError(
      `the model has ${model.inputs.length} inputs (${names}), and this command feeds one`,
    );
  }
  const [input] = model.inputs as [tf.SymbolicTensor];
  const embedding = layersIn(model).find(layer => layer.getClassName() === 'Embedding');
  const isEmbedded = embedding !== undefined && input.shape.length === 2;
  return {
    shape: input.shape.slice(1),
    vocabulary: isEmbedded
      ? Number(embedding.getConfig()['inputDim'] ?? embedding.getConfig()['input_dim'])
      : null,
  };
}

const layersIn = (model: tf.LayersModel): tf.layers.Layer[] =>
  model.layers.flatMap(layer => ('layers' in layer ? layersIn(layer as unknown as tf.LayersModel) : [layer]));

/** It, and the models within. */
const modelsIn = (model: tf.LayersModel): tf.LayersModel[] => [
  model,
  ...model.layers.flatMap(layer => ('layers' in layer ? modelsIn(layer as unknown as tf.LayersModel) : [])),
];
