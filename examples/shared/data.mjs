// Where the data of the examples is: --data FOLDER, or the environment's TFJS_LORA_DATA, or ../shared/data.
import {existsSync} from 'node:fs';
import {join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {UsageError} from './arguments.mjs';

const raw = 'https://raw.githubusercontent.com';
const ml5 = 'https://github.com/ml5js/ml5-data-and-models/tree/0612a3e7c51c';

/** What the examples read: a folder each, its files (or other names for them), and where they are public. */
export const sources = {
  'tfjs-doodlenet': {
    files: ['model.json', 'group1-shard1of1.bin'],
    from: `${ml5}/models/doodlenet (MIT)`,
  },
  'weights-mnist-mlp': {
    files: [
      'manifest.json',
      ...['hidden1', 'hidden2', 'softmax_linear'].flatMap(name => [`${name}_weights`, `${name}_biases`]),
    ],
    from: `${ml5}/models/mnist (MIT)`,
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
    from: 'https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion (MIT)',
  },
  'weights-charrnn-shakespeare': {
    files: ['manifest.json', 'vocab.json'],
    from: `${ml5}/models/charRNN/shakespeare (MIT)`,
  },
  tinyshakespeare: {
    files: ['input.txt'],
    from: `${raw}/karpathy/char-rnn/6f9487a6fe5b/data/tinyshakespeare/input.txt (public domain)`,
  },
  'charlotte-bronte': {
    files: ['bronte.txt'],
    from: `${ml5}/datasets/text/charlotte_bronte (public domain)`,
  },
  'snips-intents': {
    files: ['train_GetWeather_full.json', 'validate_GetWeather.json'],
    from: 'https://github.com/sonos/nlu-benchmark/tree/b86ac7f15778/2017-06-custom-intent-engines (CC0; all 7 intents in one folder)',
  },
  banking77: {
    files: ['train.csv', 'test.csv'],
    from: 'https://github.com/PolyAI-LDN/task-specific-datasets/tree/57ec275d8078/banking_data (CC BY 4.0)',
  },
  'rt-polarity': {
    files: ['rt-polarity.pos', 'rt-polarity.neg'],
    from: 'https://github.com/harvardnlp/sent-conv-torch/tree/d61ded09c99c/data/raw (CC BY 4.0)',
  },
  'uci-sentiment-sentences': {
    files: ['amazon_cells_labelled.txt', 'imdb_labelled.txt', 'yelp_labelled.txt'],
    from: 'https://archive.ics.uci.edu/dataset/331/sentiment+labelled+sentences (CC BY 4.0)',
  },
  'tfjs-abalone': {
    files: ['model.json', 'weights.bin'],
    from: 'https://github.com/tensorflow/tfjs-examples/tree/0521725666e4/abalone-node/trainedModel (Apache-2.0)',
  },
  'california-housing': {
    files: ['housing.csv'],
    from: 'https://github.com/ageron/handson-ml/tree/b7051594afbb/datasets/housing (Apache-2.0)',
  },
};

/**
 * The folder that holds all the named data, or undefined where nobody named a folder and something is missing: then it
 * says where to get it.
 * @param {string | undefined} given what the user named
 * @param {(keyof typeof sources)[]} names
 * @throws {UsageError} where the user, or the environment, named a folder and something is missing
 */
export function findData(given, names) {
  const named = given ?? process.env.TFJS_LORA_DATA;
  const folder = named ?? fileURLToPath(new URL('../../../shared/data', import.meta.url));
  const missing = names.filter(name => pathsOf(folder, name).includes(undefined));
  if (missing.length === 0) return folder;
  if (named !== undefined) {
    if (!existsSync(named)) throw new UsageError(`there is no folder ${resolve(named)}; or give --self-made`);
    const where = missing.map(name => `${name}/ (from ${sources[name].from})`).join(', ');
    throw new UsageError(`${resolve(folder)} has no ${where}, or not all of its files; or give --self-made`);
  }
  console.log('No data found: this runs on data made in code. For real data give --data FOLDER with');
  for (const name of missing) {
    const files = sources[name].files.map(file => [file].flat()[0]);
    console.log(`  ${name}/: ${files.join(', ')} from ${sources[name].from}`);
  }
  return undefined;
}

/** The paths of the files of some data, in the order of the list above; undefined for one that is not there. */
export const pathsOf = (folder, name) =>
  sources[name].files.map(file =>
    [file]
      .flat()
      .map(each => join(folder, name, each))
      .find(existsSync),
  );
