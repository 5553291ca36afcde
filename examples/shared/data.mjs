// Finds and reads the data of the examples.
import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {UsageError} from './arguments.mjs';
import {readImages} from './idx.mjs';

const ml5 = 'https://github.com/ml5js/ml5-data-and-models/tree/0612a3e7c51c/models';

/** What the examples read: a folder each, its files (or other names for them), and where they are public. */
export const sources = {
  'tfjs-doodlenet': {
    files: ['model.json', 'group1-shard1of1.bin'],
    from: `${ml5}/doodlenet`,
  },
  'weights-mnist-mlp': {
    files: [
      'manifest.json',
      ...['hidden1', 'hidden2', 'softmax_linear'].flatMap(name => [`${name}_weights`, `${name}_biases`]),
    ],
    from: `${ml5}/mnist`,
  },
  mnist: {
    files: [
      'train-images-idx3-ubyte.gz',
      'train-labels-idx1-ubyte.gz',
      't10k-images-idx3-ubyte.gz',
      't10k-labels-idx1-ubyte.gz',
    ],
    from: 'https://github.com/fgnt/mnist',
  },
  'fashion-mnist': {
    files: [
      ['train-images-idx3-ubyte.gz', 'train-images-first30000-idx3-ubyte.gz'],
      'train-labels-idx1-ubyte.gz',
      't10k-images-idx3-ubyte.gz',
      't10k-labels-idx1-ubyte.gz',
    ],
    from: 'https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion',
  },
};

/**
 * The folder of the data: the one given, or that of the environment variable TFJS_LORA_DATA, or ../shared/data
 * beside the checkout.
 * @returns the folder, or undefined if something is missing: then it says where to get each file
 */
export function findData(given, names, say = console.log) {
  const usual = fileURLToPath(new URL('../../../shared/data', import.meta.url));
  const folder = given ?? process.env.TFJS_LORA_DATA ?? usual;
  if (given !== undefined && !existsSync(given)) throw new UsageError(`--data: there is no folder ${given}`);
  const missing = names.flatMap(name =>
    sources[name].files
      .filter(file => pathOf(folder, name, file) === undefined)
      .map(file => ({path: join(folder, name, [file].flat()[0]), from: sources[name].from})),
  );
  for (const {path, from} of missing) say(`No ${path}: get it from ${from}`);
  return missing.length === 0 ? folder : undefined;
}

const pathOf = (folder, name, file) =>
  [file]
    .flat()
    .map(each => join(folder, name, each))
    .find(existsSync);

/** The training and the test images of 'mnist' or 'fashion-mnist'. */
export function readDigitsOrClothes(folder, name) {
  const [trainImages, trainLabels, testImages, testLabels] = sources[name].files.map(file =>
    pathOf(folder, name, file),
  );
  return {train: readImages(trainImages, trainLabels), test: readImages(testImages, testLabels)};
}

/** A tfjs model file as `tf.io.fromMemory` takes it. */
export function readModel(folder) {
  const {modelTopology, weightsManifest} = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
  const parts = weightsManifest.flatMap(group => group.paths).map(path => readFileSync(join(folder, path)));
  return {
    modelTopology,
    weightSpecs: weightsManifest.flatMap(group => group.weights),
    weightData: Uint8Array.from(Buffer.concat(parts)).buffer,
  };
}
