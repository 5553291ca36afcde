/** Every method with a step of its own or a start that reads matrices, on one weight with a quadratic loss. */
import * as tf from '@tensorflow/tfjs';
import {
  additive,
  allocateRanks,
  dora,
  eva,
  every,
  flora,
  galore,
  hadamard,
  kronecker,
  lora,
  loraFA,
  loraGA,
  loraOne,
  loraPro,
  loraSB,
  loraXS,
  mica,
  normal,
  olora,
  orthogonal,
  osf,
  type Parametrization,
  pissa,
  projected,
  type ProjectedOptimizer,
  type ProjectedOptions,
  randomProjection,
  riemannian,
  vera,
} from '../../src/index.js';

/** What a place can do beyond training plain LoRA: run to see, with numbers to compare between places. */
export type Feature = () => Promise<number[]>;

const adam = (): tf.Optimizer => tf.train.adam(0.02, 0.9, 0.999, 1e-7);

/** A weight `[12, 10]` of falling spectrum, inputs, and where it should go. */
function problem() {
  const w = tf.tidy(() => {
    const fall = tf.range(0, 10).mul(-0.3).exp() as tf.Tensor1D;
    return tf.variable(tf.mul(normal([12, 10], 1), fall), true, 'w') as tf.Variable<tf.Rank.R2>;
  });
  const x = normal([16, 12], 2) as tf.Tensor2D;
  const y = normal([16, 10], 3) as tf.Tensor2D;
  const loss = () => tf.mean(tf.squaredDifference(tf.matMul(x, w), y)) as tf.Scalar;
  const dispose = () => tf.dispose([w, x, y]);
  return {w, x, y, loss, dispose};
}

/** Four steps; the change of the weight, and what `look` finds. */
async function train(
  optimizer: ProjectedOptimizer,
  look: (optimizer: ProjectedOptimizer) => Promise<number[]> | number[] = () => [],
): Promise<number[]> {
  const {w, loss, dispose} = problem();
  try {
    const before = Float32Array.from(await w.data());
    for (let i = 0; i < 4; i++) optimizer.minimize(loss, false, [w]);
    const change = Array.from(await w.data(), (value, i) => value - before[i]!);
    return [...change, ...(await look(optimizer))];
  } finally {
    optimizer.dispose();
    dispose();
  }
}

const method =
  (parametrization: Parametrization, options: ProjectedOptions = {}, inner = adam): Feature =>
  () =>
    train(projected(inner(), parametrization, {seed: 4, ...options}));

const startedBy = (init: NonNullable<Parameters<typeof lora>[0]>['init']) =>
  method(lora({rank: 2, ...(init && {init})}));

export const methods: Readonly<Record<string, Feature>> = {
  'lora, start of random numbers': startedBy(orthogonal()),
  'pissa (of the weight)': startedBy(pissa()),
  'olora (of the weight)': startedBy(olora()),
  'loraGA (of a gradient)': startedBy(loraGA()),
  'loraOne (of a gradient)': startedBy(loraOne()),
  'eva (of the inputs)': startedBy(eva()),
  riemannian: method(lora({rank: 2, precondition: riemannian()})),
  loraPro: method(lora({rank: 2, precondition: loraPro()})),
  loraFA: method(loraFA({rank: 2})),
  'loraXS (of the weight)': method(loraXS({rank: 3})),
  // By SGD: between its frames the first gradient is diagonal up to rounding, of which Adam would make steps.
  'loraSB (of a gradient)': method(loraSB({rank: 2}), {}, () => tf.train.sgd(0.5)),
  'mica (of the weight)': method(mica({rank: 2})),
  'osf (of the weight)': method(osf({rank: 2, protect: 2})),
  dora: method(dora({rank: 2})),
  vera: method(vera({rank: 3})),
  hadamard: method(hadamard({rank: 2})),
  kronecker: method(kronecker({rank: 2})),
  additive: method(additive({rank: 2})),
  'flora, chosen anew': method(flora({rank: 3}), {refresh: every(2), moments: 'reset'}),
  'flora, moments transported': method(flora({rank: 3}), {refresh: every(2), moments: 'transport'}),
  'randomProjection, chosen anew': method(randomProjection({rank: 2}), {refresh: every(2), moments: 'reset'}),
  'galore, chosen anew': method(galore({rank: 3}), {refresh: every(2), moments: 'keep'}),
  'galore, moments transported': method(galore({rank: 3}), {refresh: every(2), moments: 'transport'}),
};

/** Adds a row of NaN to a gradient. */
const spoiled = () => ({w: tf.tidy(() => tf.mul(normal([12, 10], 6), NaN))});

/** Which of tensors of one weight are finite. */
const finite = async (tensor: tf.Tensor) => Number((await tensor.data()).every(Number.isFinite));

export const features: Readonly<Record<string, Feature>> = {
  "nonFinite: 'throw'": async () => {
    const {w, dispose} = problem();
    const optimizer = projected(adam(), lora({rank: 2}));
    const gradients = spoiled();
    try {
      optimizer.applyGradients(gradients);
      await optimizer.checked(); // webgpu knows later
      return [0, await finite(w)];
    } catch (error) {
      if (!/gradient of w .* h(ol|el)ds? NaN/.test(String(error))) throw error;
      return [1, await finite(w)];
    } finally {
      optimizer.dispose();
      tf.dispose(gradients);
      dispose();
    }
  },
  "nonFinite: 'skip'": async () => {
    const {w, dispose} = problem();
    const optimizer = projected(adam(), lora({rank: 2}), {nonFinite: 'skip'});
    const gradients = spoiled();
    try {
      optimizer.applyGradients(gradients);
      await optimizer.checked();
      return [optimizer.skipped, await finite(w)];
    } finally {
      optimizer.dispose();
      tf.dispose(gradients);
      dispose();
    }
  },
  'steps with NaN among sound ones, passed over': async () => {
    const [w, cube] = tf.tidy(() => [
      tf.variable(normal([12, 10], 1), true, 'w'),
      tf.variable(tf.reshape(normal([8, 12], 2), [2, 2, 2, 3, 4]), true, 'cube'),
    ]);
    const optimizer = projected(adam(), lora({rank: 2}), {targets: 'w', rest: 'train', nonFinite: 'skip'});
    try {
      for (const [of, factor] of [
        [[w, cube], 1],
        [[w], NaN],
        [[w, cube], 1],
        [[cube], Infinity],
        [[w, cube], NaN],
        [[w], 1],
        [[w, cube], 1],
      ] as const) {
        const gradients = tf.tidy(() =>
          Object.fromEntries(
            of.map(v => [v.name, tf.mul(tf.reshape(normal([v.size, 1], v.rank), v.shape), factor)]),
          ),
        );
        optimizer.applyGradients(gradients as never);
        tf.dispose(gradients);
      }
      await optimizer.checked();
      return [optimizer.skipped, ...(await w.data()), ...(await cube.data())];
    } finally {
      optimizer.dispose();
      tf.dispose([w, cube]);
    }
  },
  telemetry: () =>
    train(projected(adam(), lora({rank: 2}), {telemetry: true}), optimizer => {
      const [row] = optimizer.telemetry();
      return [row!.capturedShare!, row!.gradientNorm, row!.updateNorm, row!.cosine!, row!.drift!];
    }),
  'clipping, decay, accumulation, a base that is kept': () =>
    train(
      projected(adam(), lora({rank: 2}), {clipNorm: 0.1, weightDecay: 0.1, accumulate: 2, keepBase: true}),
      async optimizer => {
        const base = optimizer.base('w');
        const values = Array.from(await base.data());
        base.dispose();
        return values;
      },
    ),
  'state saved and taken up': async () => {
    const {w, loss, dispose} = problem();
    const [first, second] = [0, 1].map(() => projected(adam(), lora({rank: 2})));
    try {
      for (let i = 0; i < 3; i++) first!.minimize(loss, false, [w]);
      await second!.setWeights(await first!.getWeights());
      for (let i = 0; i < 3; i++) second!.minimize(loss, false, [w]);
      return Array.from(await w.data());
    } finally {
      first!.dispose();
      second!.dispose();
      dispose();
    }
  },
  'pissa, its first step on the cpu backend': async () => {
    const name = tf.getBackend();
    // The weight is made there too: moving it from webgpu to another backend would read it.
    await tf.setBackend('cpu');
    const {w, loss, dispose} = problem();
    const optimizer = projected(adam(), lora({rank: 2, init: pissa()}), {seed: 4});
    try {
      for (let i = 0; i < 4; i++) {
        await tf.setBackend(i === 0 ? 'cpu' : name);
        optimizer.minimize(loss, false, [w]);
      }
      return Array.from(await w.data());
    } finally {
      await tf.setBackend(name);
      optimizer.dispose();
      dispose();
    }
  },
  allocateRanks: async () => {
    const {w, loss, dispose} = problem();
    const rules = (() => {
      try {
        return allocateRanks(loss, [w], {averageRank: 2, score: 'sensitivity'});
      } finally {
        dispose();
      }
    })();
    return train(projected(adam(), lora(), {targets: rules}));
  },
};
