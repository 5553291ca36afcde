/** The model that a user brings. */
import {existsSync, readFileSync, statSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {UsageError} from '../usage-error.js';

/** A model, and the folder it lies in. */
export interface Given {
  readonly model: tf.LayersModel;
  readonly folder: string;
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
    json = (JSON.parse(readFileSync(file, 'utf8')) ?? {}) as Partial<tf.io.ModelJSON>;
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
  try {
    const model = await tf.loadLayersModel(tf.io.fromMemory({modelTopology, weightSpecs, weightData}));
    return {model, folder};
  } catch (error) {
    throw fail(`cannot be loaded: ${(error as Error).message.split('\n')[0]}`);
  }
}

function readPart(file: string, folder: string, name: string): Buffer {
  const path = join(folder, name);
  // A model.json may come from anyone: its weights lie beside it.
  if (basename(name) !== name) throw new UsageError(`${file} names a weight file elsewhere: ${name}`);
  if (!existsSync(path)) throw new UsageError(`${file} names ${name}, which is missing in ${folder}`);
  return readFileSync(path);
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
