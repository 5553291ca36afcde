// A character model as a tfjs layers model, and what one does with it: measure, write, draw batches.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';

/**
 * embedding -> two LSTM layers -> softmax over the next character.
 * @param {{characters: number, units: number, rows?: number, seed?: number}} options `rows`: a batch of that many texts
 *     whose state goes on from one call to the next; without it every call starts anew
 */
export function characterModel({characters, units, rows, seed = 0}) {
  const stateful = rows !== undefined;
  const glorot = k => tf.initializers.glorotUniform({seed: 10 * seed + k});
  const lstm = (name, k) =>
    tf.layers.lstm({
      name,
      units,
      stateful,
      returnSequences: true,
      // As TensorFlow has it; without this tfjs takes hardSigmoid. The other keeps tfjs from a slow start.
      recurrentActivation: 'sigmoid',
      kernelInitializer: glorot(k),
      recurrentInitializer: glorot(k + 1),
    });
  return tf.sequential({
    layers: [
      tf.layers.embedding({
        name: 'embedding',
        inputDim: characters,
        outputDim: units,
        embeddingsInitializer: tf.initializers.randomUniform({
          minval: -0.05,
          maxval: 0.05,
          seed: 10 * seed + 1,
        }),
        batchInputShape: [rows ?? null, null],
      }),
      lstm('lstm1', 2),
      lstm('lstm2', 4),
      tf.layers.dense({
        name: 'softmax',
        units: characters,
        activation: 'softmax',
        kernelInitializer: glorot(6),
      }),
    ],
  });
}

/** Puts the weights of ml5's charRNN, a checkpoint of TensorFlow 1, where they belong in a model of tfjs. */
export function loadWeights(model, folder) {
  tf.tidy(() => model.setWeights(readWeights(folder)));
}

function readWeights(folder) {
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
  const read = name => {
    const {filename, shape} = manifest[name];
    const bytes = Uint8Array.from(readFileSync(join(folder, filename)));
    return tf.tensor(new Float32Array(bytes.buffer), shape);
  };
  // BasicLSTMCell: one kernel for [x, h], gates i, j, f, o, and 1 is added to f. tfjs: two kernels, gates i, f, c, o.
  const cell = k => {
    const name = `rnnlm/multi_rnn_cell/cell_${k}/basic_lstm_cell`;
    const [i, j, f, o] = tf.split(read(`${name}/weights`), 4, 1);
    const [bi, bj, bf, bo] = tf.split(read(`${name}/biases`), 4);
    const kernels = tf.split(tf.concat([i, f, j, o], 1), 2);
    return [...kernels, tf.concat([bi, tf.add(bf, 1), bj, bo])];
  };
  return [read('embedding'), ...cell(0), ...cell(1), read('rnnlm/softmax_w'), read('rnnlm/softmax_b')];
}

const readers = new Map();

/** A model with these weights that carries its state, at the beginning of a text. */
function readerFor(model, rows) {
  const [characters, units] = model.getLayer('embedding').getWeights()[0].shape;
  const key = String([characters, units, rows]);
  if (!readers.has(key)) readers.set(key, characterModel({characters, units, rows}));
  const reader = readers.get(key);
  reader.setWeights(model.getWeights());
  reader.resetStates();
  return reader;
}

/**
 * Nats a character: the text as some pieces side by side, each read from its beginning to its end.
 * @param {Int32Array} codes
 */
export async function nats(model, codes, rows = Math.max(1, Math.min(32, Math.floor(codes.length / 100)))) {
  const length = Math.floor((codes.length - 1) / rows);
  const reader = readerFor(model, rows);
  let sum = 0;
  for (let from = 0; from < length; from += 100) {
    const time = Math.min(100, length - from);
    const piece = shift =>
      tf.tensor2d(
        Int32Array.from({length: rows * time}, (_, k) => {
          return codes[Math.floor(k / time) * length + from + (k % time) + shift];
        }),
        [rows, time],
        'int32',
      );
    const loss = tf.tidy(() => {
      const likely = reader.predictOnBatch(piece(0));
      const isNext = tf.oneHot(piece(1), likely.shape[2]);
      return tf.neg(tf.sum(tf.log(tf.maximum(tf.sum(tf.mul(likely, isNext), 2), 1e-7))));
    });
    sum += (await loss.data())[0];
    loss.dispose();
  }
  return sum / (rows * length);
}

/** Goes on writing after a beginning. */
export async function write(model, characters, {beginning, length = 400, temperature = 0.7, next}) {
  const writer = readerFor(model, 1);
  const read = codes =>
    tf.tidy(() => {
      const all = writer.predictOnBatch(tf.tensor2d(codes, [1, codes.length], 'int32'));
      return tf.reshape(tf.slice(all, [0, codes.length - 1, 0], [1, 1, -1]), [-1]);
    });
  let text = '';
  let code = [...beginning].map(character => characters.indexOf(character));
  for (let i = 0; i < length; i++) {
    const output = read(Array.isArray(code) ? code : [code]);
    const weights = (await output.data()).map(p => p ** (1 / temperature));
    output.dispose();
    let rest = next() * weights.reduce((sum, weight) => sum + weight, 0);
    code = weights.findIndex(weight => (rest -= weight) <= 0);
    if (code < 0) code = weights.length - 1;
    text += characters[code];
  }
  return text;
}

/** Some pieces of a text from random places: x, and y one character later. */
export function batch(codes, {rows, time, next}) {
  const starts = Array.from({length: rows}, () => Math.floor(next() * (codes.length - time)));
  const pieces = shift =>
    tf.tensor2d(
      Int32Array.from(
        {length: rows * time},
        (_, k) => codes[starts[Math.floor(k / time)] + (k % time) + shift],
      ),
      [rows, time],
      'int32',
    );
  // tfjs compares targets as floats.
  const y = tf.tidy(() => tf.expandDims(tf.cast(pieces(1), 'float32'), 2));
  return {x: pieces(0), y};
}
