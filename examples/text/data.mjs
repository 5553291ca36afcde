// Where the data is: --data FOLDER, or the environment's TFJS_LORA_DATA, or ../shared/data.
import {existsSync} from 'node:fs';
import {join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {UserError} from './arguments.mjs';

const raw = 'https://raw.githubusercontent.com';

/** Every folder of data that the examples read, its files, and where they come from. */
const sources = {
  'weights-charrnn-shakespeare': {
    files: ['manifest.json', 'vocab.json'],
    from: 'https://github.com/ml5js/ml5-data-and-models/tree/0612a3e7c51c/models/charRNN/shakespeare (MIT)',
  },
  tinyshakespeare: {
    files: ['input.txt'],
    from: `${raw}/karpathy/char-rnn/6f9487a6fe5b/data/tinyshakespeare/input.txt (public domain)`,
  },
  'charlotte-bronte': {
    files: ['bronte.txt'],
    from: 'https://github.com/ml5js/ml5-data-and-models/tree/0612a3e7c51c/datasets/text/charlotte_bronte (public domain)',
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
};

/**
 * The folder that holds all of `wanted`. Without one: undefined where nobody named a folder, after a line for each
 * that says where to get it.
 * @param {string | undefined} given what the user named
 * @param {(keyof typeof sources)[]} wanted
 */
export function findData(given, wanted) {
  const named = given ?? process.env.TFJS_LORA_DATA;
  const folder = named ?? fileURLToPath(new URL('../../../shared/data', import.meta.url));
  const isThere = name => sources[name].files.every(file => existsSync(join(folder, name, file)));
  const missing = wanted.filter(name => !isThere(name));
  if (missing.length === 0) return folder;
  if (named !== undefined) {
    const where = missing.map(name => `${name}/ (from ${sources[name].from})`).join(', ');
    throw new UserError(`${resolve(folder)} has no ${where}; or give --self-made`);
  }
  console.log('No data found: this runs on texts made in code. For real ones give --data FOLDER with');
  for (const name of missing)
    console.log(`  ${name}/: ${sources[name].files.join(', ')} from ${sources[name].from}`);
  return undefined;
}
