import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {full, gaussian, lora, normal, projected, symmetric} from '../../src/index.js';

/** A step through taps gives the weights that a step through dense gradients gives. */
interface Case {
  model(): tf.LayersModel;
  input: number[];
  /** int32 ids below this, instead of numbers. */
  ids?: number;
  /** Kernels that must come factored; the others may come dense. */
  factored: RegExp;
  /** Stock wasm cannot run the dense side. */
  wasmLacks?: 'dense';
}

const activations = [
  'linear',
  'relu',
  'relu6',
  'elu',
  'selu',
  'sigmoid',
  'hardSigmoid',
  'softplus',
  'softsign',
  'tanh',
  'softmax',
  'swish',
  'mish',
  'gelu',
];
const seeded = (seed: number) => tf.initializers.glorotNormal({seed});
const dense = (units: number, seed: number, more: object = {}) =>
  tf.layers.dense({units, name: `dense${seed}`, kernelInitializer: seeded(seed), ...more});

const cases: Record<string, Case> = {
  ...Object.fromEntries(
    activations.map(activation => [
      `dense, ${activation}`,
      {
        model: () =>
          tf.sequential({
            layers: [dense(7, 1, {inputShape: [5], activation: activation as 'relu'}), dense(3, 2)],
          }),
        input: [6, 5],
        factored: /kernel/,
      },
    ]),
  ),
  'dense on a sequence': {
    model: () =>
      tf.sequential({layers: [dense(7, 1, {inputShape: [4, 5], activation: 'relu'}), dense(3, 2)]}),
    input: [2, 4, 5],
    factored: /kernel/,
  },
  'dense on four axes': {
    model: () =>
      tf.sequential({layers: [dense(7, 1, {inputShape: [3, 4, 5]}), dense(3, 2, {activation: 'tanh'})]}),
    input: [2, 3, 4, 5],
    factored: /kernel/,
  },
  'LayerNorm, BatchNorm, Dropout': {
    model: () =>
      tf.sequential({
        layers: [
          dense(8, 1, {inputShape: [5]}),
          tf.layers.layerNormalization(),
          tf.layers.batchNormalization(),
          tf.layers.dropout({rate: 0.3, seed: 5}),
          dense(3, 2),
        ],
      }),
    input: [6, 5],
    factored: /kernel/,
  },
  LSTM: {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.lstm({
            units: 6,
            inputShape: [4, 5],
            kernelInitializer: seeded(1),
            recurrentInitializer: seeded(2),
          }),
          dense(3, 3),
        ],
      }),
    input: [3, 4, 5],
    factored: /kernel/,
  },
  'GRU, sequences, bidirectional': {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.bidirectional({
            layer: tf.layers.gru({
              units: 4,
              returnSequences: true,
              kernelInitializer: seeded(1),
              recurrentInitializer: seeded(2),
            }) as tf.RNN,
            inputShape: [4, 5],
            mergeMode: 'concat',
          }),
          dense(3, 3),
        ],
      }),
    input: [3, 4, 5],
    factored: /kernel/,
  },
  'GRU without bias': {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.gru({
            units: 5,
            inputShape: [4, 3],
            useBias: false,
            recurrentActivation: 'sigmoid',
            kernelInitializer: seeded(1),
            recurrentInitializer: seeded(2),
          }),
          dense(3, 3),
        ],
      }),
    input: [3, 4, 3],
    factored: /kernel/,
  },
  'LSTM, then GRU': {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.lstm({
            units: 6,
            inputShape: [4, 5],
            returnSequences: true,
            kernelInitializer: seeded(1),
            recurrentInitializer: seeded(2),
          }),
          tf.layers.gru({units: 4, kernelInitializer: seeded(3), recurrentInitializer: seeded(4)}),
          dense(3, 5),
        ],
      }),
    input: [3, 4, 5],
    factored: /kernel/,
  },
  'a shared layer': {
    model: () => {
      const [a, b] = [tf.input({shape: [5]}), tf.input({shape: [5]})];
      const shared = dense(6, 1, {activation: 'tanh'});
      const both = tf.layers.concatenate().apply([shared.apply(a), shared.apply(b)] as tf.SymbolicTensor[]);
      const model = tf.model({inputs: [a, b], outputs: dense(3, 2).apply(both) as tf.SymbolicTensor});
      return Object.assign(model, {two: true});
    },
    input: [6, 5],
    factored: /kernel/,
  },
  'a nested model': {
    model: () => {
      const inner = tf.sequential({
        layers: [dense(6, 1, {inputShape: [5], activation: 'relu'}), dense(5, 2)],
      });
      return tf.sequential({layers: [inner, dense(3, 3)]});
    },
    input: [6, 5],
    factored: /kernel/,
  },
  'l2-regularised': {
    model: () =>
      tf.sequential({
        layers: [
          dense(6, 1, {inputShape: [5], kernelRegularizer: tf.regularizers.l2({l2: 0.1})}),
          dense(3, 2),
        ],
      }),
    input: [6, 5],
    factored: /^$/,
  },
  embedding: {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.embedding({inputDim: 20, outputDim: 6, inputLength: 4, embeddingsInitializer: seeded(1)}),
          tf.layers.flatten(),
          dense(3, 2),
        ],
      }),
    input: [3, 4],
    ids: 20,
    factored: /kernel|embeddings/,
    wasmLacks: 'dense',
  },
  ...Object.fromEntries(
    (
      [
        [3, 1, 'same', 1],
        [3, 2, 'same', 1],
        [2, 2, 'valid', 1],
        [[3, 2], [2, 1], 'same', 1],
        [[1, 4], 1, 'valid', 1],
        [5, 3, 'valid', 1],
      ] as const
    ).map(([kernelSize, strides, padding, dilationRate]) => [
      `conv2d ${String(kernelSize)} / ${String(strides)} ${padding}`,
      {
        model: () =>
          tf.sequential({
            layers: [
              tf.layers.conv2d({
                inputShape: [9, 8, 3],
                filters: 6,
                kernelSize: kernelSize as 3,
                strides: strides as 1,
                padding,
                dilationRate,
                activation: 'relu',
                kernelInitializer: seeded(1),
              }),
              tf.layers.conv2d({filters: 4, kernelSize: 2, kernelInitializer: seeded(2)}),
              tf.layers.flatten(),
              dense(3, 3),
            ],
          }),
        input: [2, 9, 8, 3],
        factored: /kernel/,
        wasmLacks: 'dense',
      },
    ]),
  ),
  conv1d: {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.conv1d({
            inputShape: [9, 3],
            filters: 6,
            kernelSize: 3,
            strides: 2,
            kernelInitializer: seeded(1),
          }),
          tf.layers.flatten(),
          dense(3, 3),
        ],
      }),
    input: [2, 9, 3],
    factored: /kernel/,
    wasmLacks: 'dense',
  },
  'depthwise and separable': {
    model: () =>
      tf.sequential({
        layers: [
          tf.layers.depthwiseConv2d({
            inputShape: [7, 7, 3],
            kernelSize: 3,
            depthMultiplier: 2,
            depthwiseInitializer: seeded(1),
          }),
          tf.layers.separableConv2d({
            filters: 5,
            kernelSize: 2,
            depthwiseInitializer: seeded(2),
            pointwiseInitializer: seeded(3),
          }),
          tf.layers.flatten(),
          dense(3, 4),
        ],
      }),
    input: [2, 7, 7, 3],
    factored: /dense.*kernel|pointwise/,
    wasmLacks: 'dense',
  },
  ...Object.fromEntries(
    (
      [
        [3, 2, 'same', 1],
        [2, 2, 'valid', 3],
        [[3, 2], 1, 'same', 2],
      ] as const
    ).map(([kernelSize, strides, padding, depthMultiplier]) => [
      `conv2d, depthwise ${String(kernelSize)} / ${strides} ${padding} x ${depthMultiplier}, pointwise`,
      {
        model: () =>
          tf.sequential({
            layers: [
              tf.layers.conv2d({
                inputShape: [8, 7, 3],
                filters: 4,
                kernelSize: 2,
                kernelInitializer: seeded(1),
              }),
              tf.layers.depthwiseConv2d({
                kernelSize: kernelSize as 3,
                strides,
                padding,
                depthMultiplier,
                activation: 'relu',
                depthwiseInitializer: seeded(2),
              }),
              tf.layers.conv2d({filters: 5, kernelSize: 1, kernelInitializer: seeded(3)}),
              tf.layers.flatten(),
              dense(3, 4),
            ],
          }),
        input: [2, 8, 7, 3],
        factored: /(conv2d|dense)[^/]*\/kernel/,
        wasmLacks: 'dense',
      } as Case,
    ]),
  ),
};

const treatments = {
  'lora r=2': () => lora({rank: 2, init: gaussian({std: 0.5})}),
  'lora, symmetric': () => lora({rank: 1, init: symmetric()}),
  full: () => full(),
};

describe.each(['cpu', 'wasm'])('taps equal dense gradients, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  describe.each(Object.entries(cases))('%s', (_, {model: build, input, ids, factored, wasmLacks}) => {
    test.each(Object.entries(treatments))('%s', async (_, parametrization) => {
      const model = build();
      const start = model.getWeights().map(weight => weight.clone());
      const run = (capture: 'auto' | 'dense') => {
        model.setWeights(start);
        const two = 'two' in model;
        const x = ids
          ? (tf.tidy(() =>
              tf.cast(tf.floor(tf.mul(tf.abs(tf.sin(normal(input, 7))), ids)), 'int32'),
            ) as tf.Tensor)
          : normal(input, 7);
        const optimizer = projected(tf.train.sgd(0.05), parametrization(), {
          targets: () => true,
          capture,
          seed: 3,
        });
        const variables = model.trainableWeights.map(weight => weight.read() as tf.Variable);
        const target = model.apply(two ? [x, x] : x) as tf.Tensor;
        const goal = normal(target.shape, 8);
        for (let step = 0; step < 3; step++) {
          optimizer.minimize(
            () => {
              const y = model.apply(two ? [x, tf.neg(x)] : x, {training: true}) as tf.Tensor;
              const penalty = model.calculateLosses().reduce((sum, loss) => tf.add(sum, loss), tf.scalar(0));
              return tf.add(tf.losses.meanSquaredError(goal, y), penalty) as tf.Scalar;
            },
            false,
            variables,
          );
        }
        const rows = optimizer.explain(variables, null);
        const weights = variables.map(v => v.dataSync().slice());
        optimizer.dispose();
        return {rows, weights};
      };
      const tapped = run('auto');
      // Taps train there what stock tfjs cannot; cpu says what is right.
      if (backend === 'wasm' && wasmLacks) await tf.setBackend('cpu');
      const plain = run('dense');
      await tf.setBackend(backend);
      tapped.weights.forEach((values, i) => {
        const size = Math.max(...plain.weights[i]!.map(Math.abs), 1e-3);
        const off = Math.max(...values.map((value, k) => Math.abs(value - plain.weights[i]![k]!)));
        expect(off / size, plain.rows[i]!.name).toBeLessThan(2e-5);
      });
      for (const {name, capture} of tapped.rows) {
        if (factored.test(name)) expect(capture, name).toMatch(/^factored: |^dense: trained as it is$/);
      }
      for (const {capture} of plain.rows) expect(capture).toMatch(/^dense/);
    });
  });
});
