import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {
  cosine,
  dora,
  eva,
  every,
  flora,
  galore,
  lora,
  loraAdam,
  loraAdamW,
  loraFA,
  loraGA,
  loraSB,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptimizer,
  type ProjectedOptions,
  symmetric,
} from '../../src/index.js';
import type {WeightsOf} from '../../src/adapter/paths.js';
import {OPTIMIZERS} from '../host/optimizers.js';
import {members} from '../parametrizations/members.js';

/** A training whose every step is known by its number. */
export interface Run {
  readonly optimizer: ProjectedOptimizer;
  readonly model: WeightsOf;
  /** One gradient: the i-th, from 0. */
  step(i: number): unknown;
  /** Every number that the model holds. */
  weights(): tf.Tensor[];
}

export interface Case {
  /** Gradients before the save. Default 4. */
  readonly before?: number;
  /** Gradients in all. Default 7. */
  readonly all?: number;
  make(): Run;
}

const ADAM = () => tf.train.adam(0.05, 0.9, 0.999, 1e-7);

/** Two matrices and their biases, on a batch of its own for every step. */
function net(optimizer: ProjectedOptimizer, atStep: (i: number) => void = () => {}): Run {
  const matrix = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;
  const weights = {
    'first/kernel': tf.variable(matrix([12, 10], 1), true, 'first/kernel'),
    'first/bias': tf.variable(tf.zeros([10]), true, 'first/bias'),
    'second/kernel': tf.variable(matrix([10, 8], 2), true, 'second/kernel'),
    'second/bias': tf.variable(tf.zeros([8]), true, 'second/bias'),
  };
  const [w1, b1, w2, b2] = Object.values(weights) as [tf.Variable, tf.Variable, tf.Variable, tf.Variable];
  return {
    optimizer,
    model: weights,
    weights: () => Object.values(weights),
    step: i =>
      tf.tidy(() => {
        atStep(i);
        const x = matrix([16, 12], 100 + i);
        const y = matrix([16, 8], 200 + i);
        const loss = () => {
          const hidden = tf.tanh(tf.add(tf.matMul(x, w1 as tf.Variable<tf.Rank.R2>), b1));
          return tf.mean(
            tf.squaredDifference(tf.add(tf.matMul(hidden, w2 as tf.Variable<tf.Rank.R2>), b2), y),
          ) as tf.Scalar;
        };
        optimizer.minimize(loss, false, [w1, b1, w2, b2]);
      }),
  };
}

const on = (p: Parametrization, options: ProjectedOptions = {}, inner: () => tf.Optimizer = ADAM) => ({
  make: () => net(projected(inner(), p, {targets: /kernel$/, rest: 'train', ...options})),
});

/** A model of tfjs-layers with a layer that keeps statistics, and a frozen one. */
function withStatistics(): Run {
  const init = (seed: number) => tf.initializers.glorotNormal({seed});
  const model = tf.sequential({
    layers: [
      tf.layers.dense({
        name: 'still',
        inputShape: [6],
        units: 8,
        kernelInitializer: init(1),
        trainable: false,
      }),
      tf.layers.batchNormalization({name: 'statistics', momentum: 0.9}),
      tf.layers.dense({name: 'hidden', units: 8, activation: 'tanh', kernelInitializer: init(2)}),
      tf.layers.dense({name: 'out', units: 3, kernelInitializer: init(3)}),
    ],
  });
  const optimizer = loraAdam(0.02, {rank: 2, targets: /(hidden|out).kernel/});
  model.compile({optimizer, loss: 'meanSquaredError'});
  return {
    optimizer,
    model,
    weights: () => model.weights.map(weight => weight.read()),
    async step(i) {
      const [x, y] = [normal([16, 6], 100 + i), normal([16, 3], 200 + i)];
      await model.trainOnBatch(x, y);
      tf.dispose([x, y]);
    },
  };
}

const perFactor = () =>
  projected(({factor}) => tf.train.adam(factor === 'b' ? 0.04 : 0.01, 0.9, 0.999, 1e-7), lora({rank: 2}), {
    targets: /kernel$/,
    rest: 'train',
  });

const byHand = (make: () => ProjectedOptimizer): Case => ({
  make: () => {
    const optimizer = make();
    return net(optimizer, i => i === 2 && optimizer.setLearningRate(0.003));
  },
});

export const cases: Record<string, Case> = {
  ...Object.fromEntries(
    Object.values(members).flatMap(forms => Object.entries(forms).map(([name, p]) => [name, on(p)])),
  ),
  ...Object.fromEntries(
    Object.entries(OPTIMIZERS).map(([name, make]) => [`lora by ${name}`, on(lora({rank: 2}), {}, make)]),
  ),
  'accumulate, in mid-gathering': on(lora({rank: 2}), {accumulate: 3}),
  'accumulate, in the first gathering': {...on(lora({rank: 2}), {accumulate: 3}), before: 2},
  'accumulate and a refresh that is due': on(lora({rank: 2}), {
    accumulate: 3,
    refresh: every(1),
    moments: 'keep',
    keepBase: true,
  }),
  'refresh, moments kept': on(lora({rank: 2}), {refresh: every(2), moments: 'keep', seed: 3}),
  'refresh, moments reset': on(lora({rank: 2}), {refresh: every(2), moments: 'reset', seed: 3}),
  'refresh, moments transported': on(galore({rank: 2}), {refresh: every(2), moments: 'transport'}),
  'refresh of flora, moments transported': on(flora({rank: 2}), {refresh: every(3), moments: 'transport'}),
  'refresh of loraFA': on(loraFA({rank: 2}), {refresh: every(2), moments: 'reset'}),
  keepBase: on(lora({rank: 2}), {keepBase: true}),
  'keepBase of a composed weight, with decay': on(dora({rank: 2}), {keepBase: true, weightDecay: 0.1}),
  weightDecay: {
    make: () => net(loraAdamW(0.02, {rank: 2, init: symmetric(), targets: /kernel$/, rest: 'train'})),
  },
  clipNorm: on(lora({rank: 2}), {clipNorm: 0.01}),
  'a schedule': on(lora({rank: 2}), {learningRate: cosine(0.05, {steps: 7, warmup: 3})}),
  'LoRA+': {make: () => net(loraAdam(0.01, {rank: 2, ratio: 8, targets: /kernel$/, rest: 'train'}))},
  'an inner optimizer for each factor': {make: () => net(perFactor())},
  'a learning rate set by hand': byHand(() => loraAdam(0.05, {rank: 2, targets: /kernel$/})),
  'a learning rate set by hand, one for each factor': byHand(perFactor),
  "rules with 'train' and 'freeze'": on(lora({rank: 2}), {
    targets: [
      [/first.kernel/, lora({rank: 3})],
      [/second.kernel/, 'train'],
      [/first.bias/, 'freeze'],
    ],
  }),
  'loraSB over several gradients, in mid-observation': {...on(loraSB({rank: 2, steps: 3})), before: 1},
  'loraGA over several gradients, in mid-observation': {
    ...on(lora({rank: 2, init: loraGA({steps: 4})})),
    before: 2,
  },
  'observing, before the last gradient': {...on(lora({rank: 2, init: loraGA({steps: 4})})), before: 3},
  'eva of the first batch': on(lora({rank: 2, init: eva()})),
  'before the first step': {...on(lora({rank: 2})), before: 0},
  'statistics of normalisation': {make: withStatistics},
};
