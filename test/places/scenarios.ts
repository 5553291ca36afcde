/**
 * Models of every kind, small, and the same to the last bit wherever they are built: what the matrix of places trains.
 * Runs in Node and in a page.
 */
import * as tf from '@tensorflow/tfjs';
import {loraAdam, type LoraAdamOptions, normal, splitSeed} from '../../src/index.js';

/** A model with its data. */
export interface Built {
  readonly weights: readonly tf.Variable[];
  /** One step, or a few; the loss before it. */
  step(optimizer: tf.Optimizer): Promise<number>;
  dispose(): void;
}

export interface Scenario {
  build(): Built;
  readonly options?: LoraAdamOptions;
  /** So many operations that webgpu in software takes a minute for them: only in a full run there. */
  readonly slow?: boolean;
}

/** The optimizer of a scenario. Epsilon is what `loraAdam` gives it, 1e-7 everywhere. */
export const optimizerOf = ({options}: Scenario, capture: 'auto' | 'dense') =>
  loraAdam(0.02, {rank: 2, seed: 1, ...options, capture});

const classes = (rows: number, count: number) => {
  const hot = (row: number) =>
    Array.from({length: count}, (_, i) => Number(i === (row * 7 + (row >> 2)) % count));
  return tf.tensor2d(
    Array.from({length: rows}, (_, row) => hot(row)),
    [rows, count],
  );
};

const words = (rows: number, columns: number, vocabulary: number) =>
  tf.tensor2d(
    Array.from({length: rows * columns}, (_, i) => (i * 7 + ((i * i) % 5)) % vocabulary),
    [rows, columns],
    'int32',
  );

/** Kernels drawn by the library, so that no place draws its own; what tfjs starts at 0 or 1 stays. */
function seeded(model: tf.LayersModel): tf.LayersModel {
  const old = model.getWeights();
  const drawn = old.map((weight, i) => {
    if (weight.rank < 2) return weight;
    const rows = weight.size / weight.shape[weight.rank - 1]!;
    return normal(weight.shape, splitSeed(5, i), {std: 1 / Math.sqrt(rows)});
  });
  model.setWeights(drawn);
  tf.dispose(drawn.filter((tensor, i) => tensor !== old[i]));
  return model;
}

type Loss = 'categoricalCrossentropy' | 'meanSquaredError';

interface Training {
  x: tf.Tensor;
  y: tf.Tensor | tf.Tensor[];
  loss: Loss | Loss[];
  /** Through `fit`, in batches of this size, the mean of their losses; default: `trainOnBatch`. */
  batchSize?: number;
}

/** A layers model, trained as users train it. */
function layered(model: tf.LayersModel, {x, y, loss, batchSize}: Training): Built {
  seeded(model);
  let compiled = false;
  return {
    weights: model.weights.map(weight => weight.read() as tf.Variable),
    async step(optimizer) {
      if (!compiled) model.compile({optimizer, loss});
      compiled = true;
      if (batchSize) {
        const {history} = await model.fit(x, y, {batchSize, shuffle: false, verbose: 0, yieldEvery: 'never'});
        return history['loss']![0] as number;
      }
      const result = await model.trainOnBatch(x, y);
      return Array.isArray(result) ? result[0]! : result;
    },
    dispose() {
      model.dispose();
      tf.dispose([x, y]);
    },
  };
}

/** A loss of plain operations. */
function composed(
  weights: Record<string, tf.Variable>,
  tensors: readonly tf.Tensor[],
  loss: () => tf.Scalar,
): Built {
  const variables = Object.values(weights);
  return {
    weights: variables,
    async step(optimizer) {
      const cost = optimizer.minimize(loss, true, variables)!;
      const [value] = await cost.data();
      cost.dispose();
      return value!;
    },
    dispose: () => tf.dispose([...variables, ...tensors]),
  };
}

const {layers} = tf;
const classifier = (units = 4) => layers.dense({name: 'head', units, activation: 'softmax'});

/** A head above anything, on a batch of 12. */
const sequence = (list: tf.layers.Layer[], x: tf.Tensor, training: Partial<Training> = {}) =>
  layered(tf.sequential({layers: [...list, classifier()]}), {
    x,
    y: classes(12, 4),
    loss: 'categoricalCrossentropy',
    ...training,
  });

export const scenarios: Readonly<Record<string, Scenario>> = {
  'dense layers, softmax, through `fit` in batches': {
    build: () =>
      sequence(
        [
          layers.dense({name: 'first', inputShape: [10], units: 16, activation: 'relu'}),
          layers.dense({name: 'second', units: 12, activation: 'tanh'}),
        ],
        normal([12, 10], 11),
        {batchSize: 6},
      ),
  },

  'convolution, relu, max pooling': {
    build: () =>
      sequence(
        [
          layers.conv2d({
            name: 'first',
            inputShape: [8, 8, 2],
            filters: 6,
            kernelSize: 3,
            padding: 'same',
            activation: 'relu',
          }),
          layers.maxPooling2d({poolSize: 2}),
          layers.conv2d({name: 'second', filters: 8, kernelSize: 3, strides: 2, activation: 'relu'}),
          layers.flatten(),
        ],
        normal([12, 8, 8, 2], 12),
      ),
  },

  'depthwise and separable convolution': {
    build: () =>
      sequence(
        [
          layers.depthwiseConv2d({
            name: 'depthwise',
            inputShape: [8, 8, 3],
            kernelSize: 3,
            depthMultiplier: 2,
            padding: 'same',
            activation: 'relu',
          }),
          layers.separableConv2d({
            name: 'separable',
            filters: 8,
            kernelSize: 3,
            strides: 2,
            activation: 'tanh',
          }),
          layers.globalAveragePooling2d({}),
        ],
        normal([12, 8, 8, 3], 13),
      ),
    options: {rest: 'train'},
  },

  'max pooling of negative numbers': {
    build: () =>
      sequence(
        [
          layers.conv1d({name: 'first', inputShape: [9, 3], filters: 8, kernelSize: 2}),
          layers.dense({name: 'second', units: 8, biasInitializer: tf.initializers.constant({value: -3})}),
          layers.maxPooling1d({poolSize: 3, strides: 2}),
          layers.flatten(),
        ],
        normal([12, 9, 3], 14, {std: 0.5}),
      ),
  },

  'embedding, average pooling': {
    build: () =>
      sequence(
        [
          layers.embedding({name: 'embedding', inputDim: 20, outputDim: 8, inputLength: 6}),
          layers.globalAveragePooling1d(),
          layers.dense({name: 'hidden', units: 10, activation: 'relu'}),
        ],
        words(12, 6, 20),
      ),
  },

  'embedding, LSTM': {
    build: () =>
      sequence(
        [
          layers.embedding({name: 'embedding', inputDim: 20, outputDim: 6, inputLength: 5}),
          layers.lstm({name: 'lstm', units: 6}),
        ],
        words(12, 5, 20),
      ),
    slow: true,
  },

  GRU: {
    build: () => sequence([layers.gru({name: 'gru', inputShape: [5, 6], units: 6})], normal([12, 5, 6], 15)),
  },

  'bidirectional LSTM': {
    build: () =>
      sequence(
        [
          layers.bidirectional({
            name: 'both',
            layer: layers.lstm({name: 'lstm', units: 5, recurrentInitializer: 'zeros'}) as tf.RNN,
            mergeMode: 'concat',
            inputShape: [4, 6],
          }),
        ],
        normal([12, 4, 6], 16),
      ),
    slow: true,
  },

  'attention block of plain operations': {build: attentionBlock},

  'batch and layer normalisation, dropout of a fixed seed': {
    build: () =>
      sequence(
        [
          // A bias before a batch's mean is taken has no gradient but rounding, and Adam makes steps of rounding.
          layers.dense({name: 'first', inputShape: [10], units: 12, useBias: false}),
          layers.batchNormalization({name: 'batch'}),
          layers.activation({activation: 'relu'}),
          layers.dropout({rate: 0.25, seed: 3}),
          layers.dense({name: 'second', units: 10}),
          layers.layerNormalization({name: 'layer'}),
        ],
        normal([12, 10], 17),
      ),
    options: {rest: 'train'},
  },

  'a layer used twice, a model in a model': {
    build: () => {
      const input = tf.input({shape: [10]});
      const shared = layers.dense({name: 'shared', units: 10, activation: 'tanh'});
      const inner = tf.sequential({
        layers: [
          layers.dense({name: 'first', inputShape: [10], units: 8, activation: 'relu'}),
          layers.dense({name: 'second', units: 10, activation: 'tanh'}),
        ],
      });
      const twice = shared.apply(inner.apply(shared.apply(input))) as tf.SymbolicTensor;
      const model = tf.model({inputs: input, outputs: classifier().apply(twice) as tf.SymbolicTensor});
      const built = layered(model, {
        x: normal([12, 10], 18),
        y: classes(12, 4),
        loss: 'categoricalCrossentropy',
      });
      const dispose = () => {
        built.dispose();
        // tfjs counts a layer once for each use, and a model lets go of it once.
        shared.dispose();
      };
      return {...built, dispose};
    },
  },

  'two outputs, two losses': {
    build: () => {
      const input = tf.input({shape: [10]});
      const hidden = layers
        .dense({name: 'hidden', units: 12, activation: 'tanh'})
        .apply(input) as tf.SymbolicTensor;
      const value = layers.dense({name: 'value', units: 3}).apply(hidden) as tf.SymbolicTensor;
      const outputs = [classifier().apply(hidden) as tf.SymbolicTensor, value];
      return layered(tf.model({inputs: input, outputs}), {
        x: normal([12, 10], 19),
        y: [classes(12, 4), normal([12, 3], 20)],
        loss: ['categoricalCrossentropy', 'meanSquaredError'],
      });
    },
  },

  'rules: LoRA on one, the head in full, the rest frozen': {
    build: () =>
      sequence(
        [
          layers.dense({name: 'first', inputShape: [10], units: 12, activation: 'tanh'}),
          layers.dense({name: 'second', units: 12, activation: 'tanh'}),
        ],
        normal([12, 10], 21),
      ),
    options: {
      targets: [
        [/first.*kernel/, 'freeze'],
        [/head/, 'train'],
      ],
    },
  },
};

/** Two heads over 5 places of width 8, layer norm, gelu, residual; a classifier on the mean. */
function attentionBlock(): Built {
  const [batch, time, width, heads] = [6, 5, 8, 2];
  const shapes = {
    query: [width, width],
    key: [width, width],
    value: [width, width],
    out: [width, width],
    up: [width, 2 * width],
    down: [2 * width, width],
    head: [width, 4],
  };
  const w = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [
      name,
      tf.tidy(() => tf.variable(normal(shape, 30 + i, {std: 1 / Math.sqrt(shape[0]!)}), true, name)),
    ]),
  ) as Record<keyof typeof shapes, tf.Variable<tf.Rank.R2>>;
  const x = normal([batch * time, width], 40) as tf.Tensor2D;
  const y = classes(batch, 4);

  const split = (t: tf.Tensor) =>
    tf.transpose(tf.reshape(t, [batch, time, heads, width / heads]), [0, 2, 1, 3]);
  const joined = (t: tf.Tensor) => tf.reshape(tf.transpose(t, [0, 2, 1, 3]), [batch * time, width]);
  const norm = (t: tf.Tensor) => {
    const {mean, variance} = tf.moments(t, -1, true);
    return tf.div(tf.sub(t, mean), tf.sqrt(tf.add(variance, 1e-3))) as tf.Tensor2D;
  };
  const gelu = (t: tf.Tensor) =>
    tf.mul(tf.mul(t, 0.5), tf.add(1, tf.tanh(tf.mul(0.79788456, tf.add(t, tf.mul(0.044715, tf.pow(t, 3)))))));
  return composed(w, [x, y], () => {
    const z = norm(x);
    const [query, key, value] = [w.query, w.key, w.value].map(weight => split(tf.matMul(z, weight)));
    const scores = tf.mul(tf.matMul(query!, key!, false, true), 1 / Math.sqrt(width / heads));
    const seen = joined(tf.matMul(tf.softmax(scores), value!)) as tf.Tensor2D;
    const h = tf.add(x, tf.matMul(seen, w.out)) as tf.Tensor2D;
    const wide = gelu(tf.matMul(norm(h), w.up)) as tf.Tensor2D;
    const end = tf.add(h, tf.matMul(wide, w.down));
    const pooled = tf.mean(tf.reshape(end, [batch, time, width]), 1) as tf.Tensor2D;
    return tf.losses.softmaxCrossEntropy(y, tf.matMul(pooled, w.head)) as tf.Scalar;
  });
}
