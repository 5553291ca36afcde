// A small classifier of sentences as a tfjs layers model, and what one does with it.
import * as tf from '@tensorflow/tfjs';

/** Words of a sentence that are read. */
export const length = 32;
/** Rows of the embedding. */
export const buckets = 4096;

/**
 * Words as rows of the embedding: by a hash, so that a word never seen before has a row too. Row 0 is no word.
 * @returns {number[]} `length` numbers
 */
export function words(text) {
  const found = text.toLowerCase().match(/\p{L}+(?:['’]\p{L}+)?|\d+|[?!]/gu) ?? [];
  const rows = found.slice(0, length).map(word => 1 + (hash(word.replace('’', "'")) % (buckets - 1)));
  return [...rows, ...Array(length - rows.length).fill(0)];
}

/** FNV-1a of 32 bits. */
function hash(text) {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/** embedding -> convolution over three words -> the largest of each channel -> hidden layer -> classes. */
export function classifier(classes, seed) {
  const normal = k => tf.initializers.glorotUniform({seed: 10 * seed + k});
  return tf.sequential({
    layers: [
      tf.layers.embedding({
        name: 'embedding',
        inputDim: buckets,
        outputDim: 64,
        inputLength: length,
        embeddingsInitializer: tf.initializers.randomNormal({stddev: 0.1, seed: 10 * seed + 1}),
      }),
      tf.layers.conv1d({
        name: 'conv',
        filters: 64,
        kernelSize: 3,
        padding: 'same',
        activation: 'relu',
        kernelInitializer: normal(2),
      }),
      tf.layers.globalMaxPooling1d({name: 'largest'}),
      tf.layers.dense({name: 'hidden', units: 64, activation: 'relu', kernelInitializer: normal(3)}),
      tf.layers.dense({name: 'head', units: classes, activation: 'softmax', kernelInitializer: normal(4)}),
    ],
  });
}

/** A model with another head on the layers of `base`, which are copied. */
export function withNewHead(base, classes, seed) {
  const model = classifier(classes, seed);
  for (const name of ['embedding', 'conv', 'hidden'])
    model.getLayer(name).setWeights(base.getLayer(name).getWeights());
  return model;
}

/** Sentences as tensors; labels as places in `labels`. */
export function tensors(sentences, labels) {
  const x = tf.tensor2d(
    sentences.flatMap(({text}) => words(text)),
    [sentences.length, length],
    'int32',
  );
  const y = tf.tensor2d(
    sentences.map(({label}) => labels.indexOf(label)),
    [sentences.length, 1],
  );
  return {x, y};
}

/** For every sentence the place of the likeliest label. */
export async function predict(model, sentences) {
  const found = [];
  for (let from = 0; from < sentences.length; from += 256) {
    const part = sentences.slice(from, from + 256);
    const best = tf.tidy(() => {
      const x = tf.tensor2d(
        part.flatMap(({text}) => words(text)),
        [part.length, length],
        'int32',
      );
      return tf.argMax(model.predictOnBatch(x), 1);
    });
    found.push(...(await best.data()));
    best.dispose();
  }
  return found;
}

/** The share of sentences whose label is found. */
export async function accuracy(model, sentences, labels) {
  const found = await predict(model, sentences);
  return found.filter((place, i) => labels[place] === sentences[i].label).length / sentences.length;
}
