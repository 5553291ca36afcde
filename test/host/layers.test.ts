import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {lora, loraAdam, loraSgd, normal, projected} from '../../src/index.js';
import {expectClose, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZERS} from './optimizers.js';
import {data, kernel, losses, mlp, step, variable, weightsOf} from './models.js';

/** Everything trains as it is: whatever the model does, the numbers must be those of the plain optimizer. */
const transparent = (inner: tf.Optimizer) => projected(inner, lora(), {targets: [[/./, 'train']]});
const adam = () => OPTIMIZERS.adam();

onEachBackend('models of tfjs-layers', backend => {
  it('C25 fit, with validation, callbacks, class weights and metrics, as with the plain optimizer', async () => {
    const run = async (optimizer: tf.Optimizer) => {
      const model = mlp();
      model.compile({optimizer, loss: 'meanSquaredError', metrics: ['mae']});
      const {x, y} = data();
      const seen: number[] = [];
      const {history} = await model.fit(x, y, {
        epochs: 3,
        batchSize: 4,
        shuffle: false,
        verbose: 0,
        validationSplit: 0.25,
        callbacks: {onBatchEnd: async (_, logs) => void seen.push(logs!['loss'] as number)},
      });
      const evaluated = (model.evaluate(x, y, {verbose: 0}) as tf.Scalar[]).map(s => values(s)[0]);
      return {history, seen, evaluated, weights: weightsOf(model)};
    };
    const [plain, wrapped] = [await run(adam()), await run(transparent(adam()))];
    expect(wrapped).toEqual(plain);
    expect(plain.seen).toHaveLength(9);
    const adapted = await run(loraAdam(0.05, {rank: 2}));
    const {loss} = adapted.history as {loss: number[]};
    expect(loss.at(-1)).toBeLessThan(loss[0]!);
    expect(Object.keys(adapted.history)).toEqual(['val_loss', 'val_mae', 'loss', 'mae']);
  });

  it('C25 fitDataset and trainOnBatch take the same steps as fit', async () => {
    const compiled = () => {
      const model = mlp();
      model.compile({optimizer: loraAdam(0.05, {rank: 2}), loss: 'meanSquaredError'});
      return model;
    };
    const {x, y} = data();
    const [byFit, byDataset, byBatch] = [compiled(), compiled(), compiled()];
    await byFit.fit(x, y, {epochs: 2, batchSize: 8, shuffle: false, verbose: 0});
    const dataset = tf.data
      .zip({xs: tf.data.array(x.arraySync()), ys: tf.data.array(y.arraySync())} as never)
      .batch(8);
    await byDataset.fitDataset(dataset as never, {epochs: 2, verbose: 0});
    for (let epoch = 0; epoch < 2; epoch++) {
      for (const from of [0, 8]) {
        await step(byBatch, tf.slice(x, [from, 0], [8, 6]), tf.slice(y, [from, 0], [8, 3]));
      }
    }
    expect(weightsOf(byDataset)).toEqual(weightsOf(byFit));
    expect(weightsOf(byBatch)).toEqual(weightsOf(byFit));
  });

  it('C25 class weights, several outputs and stopTraining', async () => {
    const build = () => {
      const input = tf.input({shape: [6]});
      const dense = (name: string, units: number, activation?: 'tanh' | 'softmax') =>
        tf.layers.dense({
          name,
          units,
          kernelInitializer: tf.initializers.glorotNormal({seed: units}),
          ...(activation && {activation}),
        });
      const body = dense('body', 8, 'tanh').apply(input) as tf.SymbolicTensor;
      const outputs = [dense('kind', 4, 'softmax').apply(body), dense('size', 5).apply(body)];
      return tf.model({inputs: input, outputs: outputs as tf.SymbolicTensor[]});
    };
    const {x} = data();
    const kinds = tf.oneHot(tf.range(0, 16, 1, 'int32').mod(tf.scalar(4, 'int32')) as tf.Tensor1D, 4);
    const run = async (optimizer: tf.Optimizer) => {
      const model = build();
      model.compile({
        optimizer,
        loss: ['categoricalCrossentropy', 'meanSquaredError'],
        lossWeights: [1, 0.5],
      } as never);
      const history = await model.fit(x, [kinds, normal([16, 5], 3)], {
        epochs: 5,
        batchSize: 8,
        shuffle: false,
        verbose: 0,
        classWeight: [{0: 1, 1: 2, 2: 1, 3: 0.5}, null] as never,
        callbacks: {onEpochEnd: async epoch => void (model.stopTraining = epoch === 1)},
      });
      expect(history.epoch).toHaveLength(2);
      return weightsOf(model);
    };
    expect(await run(transparent(adam()))).toEqual(await run(adam()));
    await run(loraAdam(0.05, {rank: 2}));
  });

  it('C26 model.optimizer = … without compiling again works, for sequential and functional models', async () => {
    const functional = () => {
      const model = mlp();
      return tf.model({inputs: model.inputs, outputs: model.outputs});
    };
    for (const build of [mlp, functional]) {
      const model = build();
      model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
      await losses(model, 1);
      model.optimizer = projected(OPTIMIZERS.sgd(), lora({rank: 2}));
      const bias = values(variable(model, 'hidden', 1));
      const [first] = await losses(model, 1);
      const later = await losses(model, 5);
      expect(later.at(-1)).toBeLessThan(first!);
      expect(values(variable(model, 'hidden', 1))).toEqual(bias);
    }
  });

  it('C27 a layer frozen before compile or after it stays bit by bit, and the others train', async () => {
    for (const when of ['before', 'after'] as const) {
      const model = mlp();
      const hidden = model.getLayer('hidden');
      if (when === 'before') hidden.trainable = false;
      model.compile({optimizer: loraAdam(0.05, {rank: 2, rest: 'train'}), loss: 'meanSquaredError'});
      if (when === 'after') {
        await losses(model, 2);
        // Not compiled again: tfjs passes null gradients.
        hidden.trainable = false;
      }
      const [frozen, out] = [kernel(model, 'hidden'), kernel(model, 'out')];
      await losses(model, 2);
      expect(kernel(model, 'hidden')).toEqual(frozen);
      expect(kernel(model, 'out')).not.toEqual(out);
    }
  });

  it('C20 freezing and compiling again carries on, the state of each weight intact', async () => {
    const model = mlp();
    const optimizer = loraAdam(0.05, {rank: 2});
    const compile = () => model.compile({optimizer, loss: 'meanSquaredError'});
    compile();
    await losses(model, 2);
    const hidden = model.getLayer('hidden');
    hidden.trainable = false;
    compile();
    const a = values(optimizer.factors(variable(model, 'hidden'))['a']!);
    await losses(model, 2);
    expect(values(optimizer.factors(variable(model, 'hidden'))['a']!)).toEqual(a);
    hidden.trainable = true;
    compile();
    // Bytes: how many tensors the moments lie in depends on what moves together.
    const flat = tf.memory().numBytes;
    await losses(model, 2);
    expect(values(optimizer.factors(variable(model, 'hidden'))['a']!)).not.toEqual(a);
    expect(optimizer.iterations).toBe(6);
    expect(tf.memory().numBytes).toBe(flat);
  });

  it('C21 one optimizer for two models: each trains as if it had the optimizer to itself', async () => {
    const inner = () =>
      projected(
        () => OPTIMIZERS.adam(),
        lora({
          rank: 2,
          init: ({weight, rank}) => ({
            a: normal([weight.shape[0], rank], 3),
          }),
        }),
      );
    const alone = async () => {
      const model = mlp();
      model.compile({optimizer: inner(), loss: 'meanSquaredError'});
      await losses(model, 4);
      return weightsOf(model);
    };
    const expected = await alone();
    const optimizer = inner();
    const models = [mlp(), mlp()];
    for (const model of models) model.compile({optimizer, loss: 'meanSquaredError'});
    for (let i = 0; i < 4; i++) for (const model of models) await losses(model, 1);
    expect(models.map(weightsOf)).toEqual([expected, expected]);
    expect(optimizer.iterations).toBe(8);
  });

  it('C16 a layer used twice has one slot, and the gradient of both uses', async () => {
    const build = () => {
      const shared = tf.layers.dense({
        name: 'shared',
        units: 6,
        activation: 'tanh',
        kernelInitializer: tf.initializers.glorotNormal({seed: 4}),
      });
      const input = tf.input({shape: [6]});
      const twice = shared.apply(shared.apply(input)) as tf.SymbolicTensor;
      return tf.model({inputs: input, outputs: twice});
    };
    const {x} = data();
    const y = normal([16, 6], 5);
    const optimizer = loraAdam(0.02, {rank: 2, init: () => ({a: normal([6, 2], 6)})});
    const model = build();
    model.compile({optimizer, loss: 'meanSquaredError'});
    const w0 = variable(model, 'shared').clone() as tf.Tensor2D;
    for (let i = 0; i < 20; i++) await step(model, x, y);
    expect(optimizer.explain(model, null)).toHaveLength(2);

    // The same by automatic differentiation on the factors.
    const a = tf.variable(normal([6, 2], 6) as tf.Tensor2D);
    const b = tf.variable(tf.zeros([2, 6]) as tf.Tensor2D);
    const merged = () => tf.add(w0, tf.matMul(a, b)) as tf.Tensor2D;
    const explicit = tf.train.adam(0.02, 0.9, 0.999, 1e-7);
    for (let i = 0; i < 20; i++) {
      explicit.minimize(
        () => {
          const once = tf.tanh(tf.matMul(x, merged())) as tf.Tensor2D;
          return tf.losses.meanSquaredError(y, tf.tanh(tf.matMul(once, merged()))) as tf.Scalar;
        },
        false,
        [a, b],
      );
    }
    expectClose(kernel(model, 'shared'), values(merged()), 5e-6);
  });

  it('C28 batch normalisation: gamma and beta as the options say, moving statistics once a step, as plain', async () => {
    const run = async (optimizer: tf.Optimizer) => {
      const model = tf.sequential({
        layers: [
          tf.layers.dense({
            name: 'in',
            units: 8,
            inputShape: [6],
            kernelInitializer: tf.initializers.glorotNormal({seed: 1}),
          }),
          tf.layers.batchNormalization({name: 'norm'}),
          tf.layers.dense({
            name: 'out',
            units: 3,
            kernelInitializer: tf.initializers.glorotNormal({seed: 2}),
          }),
        ],
      });
      model.compile({optimizer, loss: 'meanSquaredError'});
      await losses(model, 4);
      const [gamma, beta, mean, variance] = [0, 1, 2, 3].map(i => values(variable(model, 'norm', i)));
      return {all: weightsOf(model), gamma, beta, mean, variance};
    };
    const plain = await run(adam());
    expect((await run(transparent(adam()))).all).toEqual(plain.all);
    const frozen = await run(loraAdam(1e-9, {rank: 2}));
    const ones = new Array(8).fill(1);
    expect(frozen.gamma).toEqual(ones);
    expect(frozen.beta).toEqual(new Array(8).fill(0));
    // A weight that hardly moves has the same activations at every step, so the statistics of four steps.
    expect(frozen.mean).not.toEqual(new Array(8).fill(0));
    expect(frozen.variance).not.toEqual(ones);
    const still = await run(projected(tf.train.sgd(0), lora(), {targets: [[/./, 'train']]}));
    expectClose(frozen.mean!, still.mean!, 1e-5);
  });

  it('C28 dropout masks are drawn once a step', async () => {
    const run = async (optimizer: tf.Optimizer) => {
      const model = tf.sequential({
        layers: [
          tf.layers.dense({
            name: 'in',
            units: 8,
            inputShape: [6],
            kernelInitializer: tf.initializers.glorotNormal({seed: 1}),
          }),
          tf.layers.dropout({rate: 0.5, seed: 3}),
          tf.layers.dense({
            name: 'out',
            units: 3,
            kernelInitializer: tf.initializers.glorotNormal({seed: 2}),
          }),
        ],
      });
      model.compile({optimizer, loss: 'meanSquaredError'});
      return losses(model, 5);
    };
    expect(await run(transparent(adam()))).toEqual(await run(adam()));
  });

  it('C30 L1 and L2 penalties are in the gradient, as with the plain optimizer', async () => {
    const build = () => {
      const model = tf.sequential({
        layers: [
          tf.layers.dense({
            name: 'out',
            units: 5,
            inputShape: [6],
            useBias: false,
            kernelInitializer: tf.initializers.glorotNormal({seed: 1}),
            kernelRegularizer: tf.regularizers.l1l2({l1: 0.1, l2: 0.2}),
          }),
        ],
      });
      return model;
    };
    const {x} = data();
    const y = normal([16, 5], 4);
    const run = async (optimizer: tf.Optimizer) => {
      const model = build();
      model.compile({optimizer, loss: 'meanSquaredError'});
      for (let i = 0; i < 5; i++) await step(model, x, y);
      return kernel(model, 'out');
    };
    expect(await run(transparent(OPTIMIZERS.sgd()))).toEqual(await run(OPTIMIZERS.sgd()));
    // Through LoRA: with a = I the first SGD step moves b, so W, by -rate G, penalty and all.
    const model = build();
    const before = kernel(model, 'out');
    const plain = build();
    model.compile({
      optimizer: projected(tf.train.sgd(0.1), {
        ...lora({rank: 6, init: () => ({a: tf.eye(6)})}),
        trained: () => 0,
      }),
      loss: 'meanSquaredError',
    });
    plain.compile({optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError'});
    await step(model, x, y);
    await step(plain, x, y);
    expectClose(kernel(model, 'out'), kernel(plain, 'out'), 1e-6);
    expect(kernel(model, 'out')).not.toEqual(before);
  });

  const sequence = () => normal([4, 5, 6], 1);
  const image = () => normal([2, 8, 8, 3], 2);
  const dense = (name: string) => tf.layers.dense({name, units: 4});
  const models: [string, () => {layers: tf.layers.Layer[]; x: tf.Tensor}, wasm: RegExp | null][] = [
    [
      'LSTM',
      () => ({layers: [tf.layers.lstm({units: 8, inputShape: [5, 6]}), dense('o')], x: sequence()}),
      null,
    ],
    [
      'GRU',
      () => ({layers: [tf.layers.gru({units: 8, inputShape: [5, 6]}), dense('o')], x: sequence()}),
      null,
    ],
    [
      'bidirectional',
      () => ({
        layers: [
          tf.layers.bidirectional({
            layer: tf.layers.lstm({units: 8}) as never,
            mergeMode: 'concat',
            inputShape: [5, 6],
          }),
          dense('o'),
        ],
        x: sequence(),
      }),
      null,
    ],
    [
      'layer normalisation',
      () => ({
        layers: [tf.layers.dense({units: 8, inputShape: [6]}), tf.layers.layerNormalization({}), dense('o')],
        x: normal([4, 6], 3),
      }),
      null,
    ],
    [
      'embedding',
      () => ({
        layers: [
          tf.layers.embedding({inputDim: 20, outputDim: 8, inputShape: [5]}),
          tf.layers.flatten(),
          dense('o'),
        ],
        x: tf.tensor2d([1, 2, 3, 4, 5, 3, 3, 3, 0, 19, 7, 8, 9, 1, 2, 0, 0, 1, 1, 2], [4, 5]),
      }),
      /UnsortedSegmentSum/,
    ],
    [
      'conv2d',
      () => ({
        layers: [
          tf.layers.conv2d({filters: 8, kernelSize: 3, inputShape: [8, 8, 3]}),
          tf.layers.flatten(),
          dense('o'),
        ],
        x: image(),
      }),
      /Conv2DBackpropFilter/,
    ],
    [
      'conv1d',
      () => ({
        layers: [
          tf.layers.conv1d({filters: 8, kernelSize: 3, inputShape: [5, 6]}),
          tf.layers.flatten(),
          dense('o'),
        ],
        x: sequence(),
      }),
      /Conv2DBackpropFilter/,
    ],
    [
      'depthwise conv',
      () => ({
        layers: [
          tf.layers.depthwiseConv2d({kernelSize: 3, inputShape: [8, 8, 3]}),
          tf.layers.flatten(),
          dense('o'),
        ],
        x: image(),
      }),
      /DepthwiseConv2dNativeBackpropFilter/,
    ],
    [
      'separable conv',
      () => ({
        layers: [
          tf.layers.separableConv2d({filters: 8, kernelSize: 3, inputShape: [8, 8, 3]}),
          tf.layers.flatten(),
          dense('o'),
        ],
        x: image(),
      }),
      /Conv2DBackpropFilter|DepthwiseConv2dNativeBackpropFilter/,
    ],
  ];
  it.each(models)(
    'C29 %s: everything trains, also where stock tfjs says what the backend lacks',
    async (_, make, missing) => {
      const {layers, x} = make();
      const model = tf.sequential({layers});
      const y = normal([x.shape[0]!, 4], 9);
      const before = weightsOf(model);
      if (backend === 'wasm' && missing) {
        const dense = loraSgd(0.02, {rank: 1, rest: 'train', capture: 'dense'});
        model.compile({optimizer: dense, loss: 'meanSquaredError'});
        await expect(step(model, x, y)).rejects.toThrow(missing);
        // A failed step loses nothing.
        expect(weightsOf(model)).toEqual(before);
        expect(dense.iterations).toBe(0);
      }
      const optimizer = loraSgd(0.02, {rank: 1, rest: 'train'});
      model.compile({optimizer, loss: 'meanSquaredError'});
      const first = await step(model, x, y);
      for (let i = 0; i < 8; i++) await step(model, x, y);
      expect(await step(model, x, y)).toBeLessThan(first);
      model.trainableWeights.forEach((w, i) =>
        expect([w.name, values(w.read())]).not.toEqual([w.name, before[i]]),
      );
      expect(optimizer.explain(model, null).some(row => row.treatment === 'lora')).toBe(true);
    },
  );

  it('C29 where wasm lacks a kernel, freezing that layer by the rules is the way out', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.conv2d({name: 'conv', filters: 8, kernelSize: 3, inputShape: [8, 8, 3]}),
        tf.layers.flatten(),
        tf.layers.dense({name: 'out', units: 4}),
      ],
    });
    const [x, y] = [image(), normal([2, 4], 9)];
    model.compile({optimizer: loraAdam(0.01, {rank: 2, targets: 'out/kernel'}), loss: 'meanSquaredError'});
    const conv = kernel(model, 'conv');
    const first = await step(model, x, y);
    for (let i = 0; i < 5; i++) await step(model, x, y);
    expect(await step(model, x, y)).toBeLessThan(first);
    expect(kernel(model, 'conv')).toEqual(conv);
  });
});
