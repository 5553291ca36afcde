import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeEach, describe, expect, test, vi} from 'vitest';
import {loraAdam, normal} from '../../src/index.js';
import {audit} from '../../src/models/audit.js';
import {installWasmKernels} from '../../src/wasm/install.js';

beforeEach(async () => {
  await tf.setBackend('cpu');
  tf.engine().startScope();
});
afterEach(() => {
  tf.disposeVariables();
  tf.engine().endScope();
});

const convnet = () =>
  tf.sequential({
    layers: [
      tf.layers.conv2d({name: 'conv', filters: 8, kernelSize: 3, inputShape: [12, 12, 3]}),
      tf.layers.batchNormalization({name: 'norm'}),
      tf.layers.maxPooling2d({poolSize: 2}),
      tf.layers.flatten(),
      tf.layers.dense({name: 'dense', units: 64}),
    ],
  });

describe('audit', () => {
  test('leaves model, statistics, backend and memory as they were', async () => {
    const model = convnet();
    const before = model.getWeights().map(w => Array.from(w.dataSync()));
    const tensors = tf.memory().numTensors;
    const lines: string[] = [];
    const {backend, trains} = await audit(model, {backend: 'wasm', print: line => lines.push(line)});
    expect([backend, trains, tf.getBackend()]).toEqual(['wasm', true, 'cpu']);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(model.getWeights().map(w => Array.from(w.dataSync()))).toEqual(before);
    expect(lines.join('\n')).toMatch(/everything that is to be trained can be/);
    expect(lines.join('\n')).toMatch(/freezeBatchNorm/);
  });

  test('a model that was compiled and trained is audited as any other', async () => {
    const model = tf.sequential({layers: [tf.layers.dense({units: 32, inputShape: [16]})]});
    const bare = await audit(model, {print: null});
    for (const loss of [
      'meanSquaredError',
      (a: tf.Tensor, b: tf.Tensor) => tf.losses.meanSquaredError(a, b),
    ]) {
      const optimizer = loraAdam(1e-3, {rank: 2});
      model.compile({optimizer, loss: loss as never});
      await model.fit(tf.ones([4, 16]), tf.ones([4, 32]), {epochs: 1, verbose: 0});
      expect(await audit(model, {print: null})).toEqual(bare);
      expect((await audit(model, {optimizer, print: null})).trains).toBe(true);
      optimizer.dispose();
    }
    model.dispose();
  });

  test('a missing kernel is named with the weights it stops, those behind it are not, and the cure works', async () => {
    const [words, dense] = [tf.variable(normal([9, 8], 1)), tf.variable(normal([8, 7], 2))];
    const loss = () => {
      const rows = tf.gather(tf.matMul(tf.ones([5, 9]), words), tf.tensor1d([0, 4, 4], 'int32'));
      return tf.sum(tf.square(tf.matMul(rows as tf.Tensor2D, dense))) as tf.Scalar;
    };
    const model = {loss, variables: [words, dense]};
    const optimizer = loraAdam(1e-3, {rank: 2});
    const stock = await audit(model, {backend: 'wasm', optimizer, print: null});
    expect(stock.trains).toBe(false);
    expect(stock.weights[0]!.trains).toBe(false);
    expect(stock.weights[0]!.problem).toBe(
      'the wasm backend has no UnsortedSegmentSum: import "tfjs-lora/wasm", which brings it',
    );
    expect(stock.weights[1]).toMatchObject({trains: true, problem: null, treatment: 'lora', rank: 2});
    const conv = {backend: 'wasm', optimizer: loraAdam(1e-3, {rank: 2, targets: /conv.kernel/}), print: null};
    const pooling = await audit(convnet(), conv);
    expect(pooling.warnings.join()).toMatch(/gradient of max pooling is wrong/);
    const undo = installWasmKernels();
    expect((await audit(model, {backend: 'wasm', optimizer, print: null})).trains).toBe(true);
    expect((await audit(convnet(), conv)).warnings.join()).not.toMatch(/pooling/);
    undo();
  });

  test('bytes: weights and factors by arithmetic; a pass grows with the batch by what it really takes', async () => {
    const model = convnet();
    const optimizer = loraAdam(1e-3, {rank: 2, targets: /dense.kernel/});
    const {bytes} = await audit(model, {optimizer, batchSize: 8, print: null});
    expect(bytes.model).toBe(4 * model.countParams());
    expect(bytes.factors).toBe(4 * 2 * (200 + 64));
    expect(bytes.state).toBe(3 * bytes.factors);
    const x = tf.zeros([8, 12, 12, 3]);
    const before = tf.memory().numBytes;
    const {peakBytes} = await tf.profile(() => {
      const loss = () => tf.sum(tf.square(model.apply(x, {training: true}) as tf.Tensor)) as tf.Scalar;
      optimizer.minimize(loss, false, [model.getLayer('dense').weights[0]!.read() as tf.Variable]);
      return [];
    });
    expect(bytes.pass / (peakBytes - before)).toBeGreaterThan(0.7);
    expect(bytes.pass / (peakBytes - before)).toBeLessThan(1.3);
  });

  test('a loss and its variables: an op without a gradient and a variable that is not used are found', async () => {
    const [w, u, idle] = [normal([6, 5], 1), normal([6, 5], 2), normal([6, 5], 3)].map(t => tf.variable(t));
    const x = normal([4, 6], 4);
    const loss = () =>
      tf.add(
        tf.sum(tf.cumprod(tf.matMul(x, w!) as tf.Tensor2D, 1)),
        tf.sum(tf.square(tf.matMul(x, u!))),
      ) as tf.Scalar;
    const found = await audit(
      {loss, variables: [w!, u!, idle!]},
      {optimizer: loraAdam(1e-3, {rank: 1}), print: null},
    );
    expect(found.trains).toBe(false);
    expect(found.weights.map(row => row.trains)).toEqual([false, true, false]);
    expect(found.weights[0]!.problem).toMatch(/Cumprod/);
    expect(found.weights[2]!.problem).toMatch(/does not depend on it/);
  });

  test('a backend that is not there, and a model that fails forwards', async () => {
    const model = convnet();
    await expect(audit(model, 'abacus')).rejects.toThrow(/no backend 'abacus'.*cpu.*Import its package/);
    const broken = {
      loss: (): tf.Scalar => {
        throw new Error('no data');
      },
      variables: [tf.variable(tf.ones([9, 9]))],
    };
    await expect(audit(broken, {print: null})).rejects.toThrow(/fails already forwards: no data/);
    await expect(audit(model, {batch: 3} as never)).rejects.toThrow(/batchSize/);
  });

  test.each([
    ['lstm', false],
    ['gru', false],
    ['lstm', true],
  ] as const)(
    'the states of a stateful %s stay as they were (one that has seen nothing: %s)',
    async (kind, isNew) => {
      const options = {units: 3, stateful: true, batchInputShape: [2, 4, 3], resetAfter: false, name: kind};
      const rnn = kind === 'lstm' ? tf.layers.lstm(options) : tf.layers.gru(options);
      const model = tf.sequential({layers: [rnn, tf.layers.dense({units: 2})]});
      const states = () =>
        (rnn as unknown as {states_: tf.Tensor[] | null}).states_?.map(s => Array.from(s.dataSync()));
      if (!isNew) tf.dispose(model.predict(tf.ones([2, 4, 3])));
      const before = states();
      const optimizer = loraAdam(1e-3, {rank: 1});
      const tensors = tf.memory().numTensors;
      await audit(model, {optimizer, print: null});
      expect(tf.memory().numTensors).toBe(tensors);
      expect(states()).toEqual(before);
    },
  );

  test('a backend that does not start: the one in use goes on', async () => {
    const fail = () => Promise.reject(new Error('nope'));
    tf.registerBackend('broken', fail as never, 0);
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    await expect(audit(convnet(), 'broken')).rejects.toThrow(/'broken' is registered, and does not start/);
    vi.restoreAllMocks();
    tf.removeBackend('broken');
    expect(tf.getBackend()).toBe('cpu');
    expect(tf.add(1, 2).dataSync()[0]).toBe(3);
  });

  test('a backend that gives numbers at once only where it was asked before, as webgpu does, can be left', async () => {
    const inner = tf.findBackend('cpu') as tf.KernelBackend & {data: unknown};
    const Cpu = inner.constructor as new () => tf.KernelBackend;
    class Slow extends Cpu {
      private readonly asked = new WeakSet<object>();
      override read(dataId: object) {
        this.asked.add(dataId);
        return Promise.resolve(super.readSync(dataId));
      }
      override readSync(dataId: object) {
        if (!this.asked.has(dataId)) throw new Error('not at once');
        return super.readSync(dataId);
      }
    }
    tf.copyRegisteredKernels('cpu', 'slow');
    tf.registerBackend('slow', () => new Slow(), 0);
    await tf.setBackend('slow');
    const model = tf.sequential({
      layers: [tf.layers.dense({units: 20, inputShape: [20], kernelInitializer: 'ones'})],
    });
    const optimizer = loraAdam(1e-3, {rank: 2});
    expect((await audit(model, {backend: 'cpu', optimizer, print: null})).trains).toBe(true);
    expect(tf.getBackend()).toBe('slow');
    model.dispose();
    await tf.setBackend('cpu');
    tf.removeBackend('slow');
  });

  test('nothing to be trained is said, with the reason', async () => {
    const lines: string[] = [];
    const model = tf.sequential({layers: [tf.layers.dense({units: 3, inputShape: [3]})]});
    const {trains, warnings} = await audit(model, {print: line => lines.push(line)});
    expect(trains).toBe(false);
    expect(lines.join('\n')).toMatch(/on cpu: nothing is to be trained/);
    expect(warnings[0]).toMatch(/kernel is frozen \(too small for the rank to save anything\)/);
  });

  test('outputs that are counted are left out, and wrong arguments told', async () => {
    const x = tf.input({shape: [6]});
    const y = tf.layers.dense({units: 9}).apply(x) as tf.SymbolicTensor;
    class Best extends tf.layers.Layer {
      static className = 'Best';
      override computeOutputShape = () => [null];
      override call = (inputs: tf.Tensor | tf.Tensor[]) => tf.argMax([inputs].flat()[0]!, 1);
    }
    const model = tf.model({inputs: x, outputs: [y, new Best({}).apply(y) as tf.SymbolicTensor]});
    const optimizer = loraAdam(1e-3, {rank: 2});
    expect((await audit(model, {optimizer, print: null})).trains).toBe(true);
    for (const batchSize of [0, -3, 2.5, NaN, '8'])
      await expect(audit(model, {batchSize} as never)).rejects.toThrow(/batchSize/);
    await expect(audit(null as never)).rejects.toThrow(/audit takes a model of tfjs-layers, or/);
    await expect(audit({executor: {}} as never)).rejects.toThrow(/trainableGraphModel/);
    await expect(audit(model, {optimizer: tf.train.sgd(1)} as never)).rejects.toThrow(/one of tfjs-lora/);
  });
});
