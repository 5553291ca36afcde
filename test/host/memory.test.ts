import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {every, full, lora, loraAdam, normal, projected, type ProjectedOptions} from '../../src/index.js';
import {numTensors, tensorsLeftBy, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';
import {data, losses, mlp, weightsOf} from './models.js';

const weight = (name = 'w') => tf.variable(normal([6, 5], 1), true, name);
const lossOf = (w: tf.Variable) => () => tf.mean(tf.square(tf.add(w, tf.mul(w, w)))) as tf.Scalar;

onEachBackend('memory', () => {
  const options: [string, ProjectedOptions][] = [
    ['by default', {}],
    ['keepBase', {keepBase: true}],
    ['weightDecay and clipNorm', {weightDecay: 0.1, clipNorm: 1}],
    ['refresh, moments kept', {refresh: every(2), moments: 'keep'}],
    ['refresh, moments reset', {refresh: every(2), moments: 'reset', keepBase: true}],
    ["rest 'train'", {rest: 'train'}],
    ['nonFinite ignore', {nonFinite: 'ignore'}],
  ];
  it.each(options)('C33 minimize keeps the count of tensors from the second step on: %s', (_, given) => {
    const [w, bias] = [weight(), tf.variable(tf.ones([5]), true, 'bias')];
    const loss = () => tf.mean(tf.square(tf.add(w, bias))) as tf.Scalar;
    const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 2}), given);
    // The first refresh, before step 3, may add the base of the beginning.
    for (let i = 0; i < 3; i++) optimizer.minimize(loss);
    const flat = numTensors();
    for (let i = 0; i < 6; i++) {
      optimizer.minimize(loss);
      expect(numTensors()).toBe(flat);
    }
  });

  it.each(OPTIMIZER_NAMES)('C33 minimize keeps the count of tensors with %s inside', name => {
    const w = weight();
    const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}));
    optimizer.minimize(lossOf(w));
    const flat = numTensors();
    for (let i = 0; i < 3; i++) optimizer.minimize(lossOf(w));
    expect(numTensors()).toBe(flat);
  });

  it('C33 accumulation keeps only the sums between steps', () => {
    const w = weight();
    const optimizer = loraAdam(0.01, {rank: 2, accumulate: 3});
    const counts = Array.from({length: 9}, () => {
      optimizer.minimize(lossOf(w));
      return numTensors();
    });
    expect(counts.slice(3, 6)).toEqual(counts.slice(6, 9));
    // sums of a and b
    expect(counts[3]! - counts[5]!).toBe(2);
  });

  it('C33 fit, fitDataset and trainOnBatch leave nothing behind', async () => {
    const model = mlp();
    const optimizer = loraAdam(0.01, {rank: 2, rest: 'train'});
    model.compile({optimizer, loss: 'meanSquaredError'});
    const {x, y} = data();
    const rows = tf.data.zip({
      xs: tf.data.array(await x.array()),
      ys: tf.data.array(await y.array()),
    } as never);
    const dataset = rows.batch(8) as unknown as tf.data.Dataset<tf.TensorContainer>;
    const ways: [string, () => Promise<unknown>][] = [
      ['fit', () => model.fit(x, y, {epochs: 2, batchSize: 8, verbose: 0})],
      ['fitDataset', () => model.fitDataset(dataset as never, {epochs: 2, verbose: 0})],
      ['trainOnBatch', () => model.trainOnBatch(x, y)],
    ];
    for (const [name, way] of ways) {
      await way();
      const left = await tensorsLeftBy(way);
      // the same call with a plain optimizer
      expect([name, left]).toEqual([name, 0]);
    }
  });

  it('C33 the state survives a tidy of the user’s around the step, and the steps are the same', () => {
    const run = (around: (work: () => void) => void) => {
      const w = weight();
      let optimizer: tf.Optimizer | undefined;
      for (let i = 0; i < 4; i++) {
        around(() => {
          optimizer ??= projected(OPTIMIZERS.momentum(), lora({rank: 2}), {keepBase: true, accumulate: 2});
          optimizer.minimize(lossOf(w));
        });
      }
      const end = values(w);
      optimizer!.dispose();
      w.dispose();
      return end;
    };
    expect(run(work => tf.tidy(work))).toEqual(run(work => work()));
  });

  it.each(OPTIMIZER_NAMES)('C34 a %s made inside tf.tidy survives it', name => {
    const w = weight();
    let optimizer!: tf.Optimizer;
    tf.tidy(() => {
      optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}));
    });
    const before = values(w);
    optimizer.minimize(lossOf(w));
    optimizer.minimize(lossOf(w));
    expect(values(w)).not.toEqual(before);
  });

  it.each(OPTIMIZER_NAMES)('C35 dispose gives everything back, twice is once: %s', name => {
    const w = weight();
    const before = numTensors();
    const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}), {keepBase: true, weightDecay: 0.1});
    for (let i = 0; i < 3; i++) optimizer.minimize(lossOf(w));
    optimizer.dispose();
    expect(numTensors()).toBe(before);
    optimizer.dispose();
    expect(numTensors()).toBe(before);
    expect(values(w).every(Number.isFinite)).toBe(true);
  });

  it('C35 dispose in every state gives everything back: new, mid-cycle, per factor, restored and unbound', async () => {
    const w = weight();
    const v = tf.variable(normal([6, 5], 2), true, 'v');
    const both = () => tf.mean(tf.add(tf.square(w), tf.square(v))) as tf.Scalar;
    const before = numTensors();
    loraAdam(0.01).dispose();
    expect(numTensors()).toBe(before);
    const accumulating = loraAdam(0.01, {rank: 2, accumulate: 2});
    accumulating.minimize(both);
    accumulating.dispose();
    expect(numTensors()).toBe(before);
    const each = () => projected(() => tf.train.adam(0.01), lora({rank: 2}));
    const source = each();
    source.minimize(both);
    const [unbound, half] = [each(), each()];
    await unbound.setWeights(await source.getWeights());
    await half.setWeights(await source.getWeights());
    half.minimize(lossOf(w), false, [w]);
    for (const optimizer of [source, unbound, half]) optimizer.dispose();
    expect(numTensors()).toBe(before);
  });

  it('C36 after dispose every use says so, and the model still predicts', async () => {
    const model = mlp();
    const optimizer = loraAdam(0.01, {rank: 2});
    model.compile({optimizer, loss: 'meanSquaredError'});
    await losses(model, 2);
    const {x} = data();
    const before = values(model.predict(x) as tf.Tensor);
    optimizer.dispose();
    await expect(losses(model, 1)).rejects.toThrow('this ProjectedOptimizer was disposed');
    expect(() => optimizer.applyGradients({})).toThrow('disposed');
    expect(() => optimizer.explain()).toThrow('disposed');
    await expect(optimizer.getWeights()).rejects.toThrow('disposed');
    expect(values(model.predict(x) as tf.Tensor)).toEqual(before);
  });

  it('C36 when its variables were disposed behind its back, the next step says so', () => {
    const w = weight();
    const optimizer = projected(OPTIMIZERS.sgd(), lora({rank: 2}));
    optimizer.minimize(lossOf(w));
    optimizer.factors(w)['a']!.dispose();
    expect(() => optimizer.minimize(lossOf(w))).toThrow(/factors of w \[6,5\] were disposed/);
  });

  it('C35 dispose after tf.disposeVariables breaks no tensor of the user’s', () => {
    for (const name of OPTIMIZER_NAMES) {
      const w = weight();
      const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}), {keepBase: true, weightDecay: 0.1});
      optimizer.minimize(lossOf(w));
      const copies = Object.values(optimizer.factors(w)).map(factor => factor.clone());
      const expected = copies.map(values);
      const base = optimizer.base(w);
      const start = values(base);
      tf.disposeVariables();
      const left = numTensors();
      optimizer.dispose();
      expect(copies.map(values)).toEqual(expected);
      expect(values(base)).toEqual(start);
      // At most the constants that are no variables went with it.
      expect(left - numTensors()).toBeGreaterThanOrEqual(0);
      tf.dispose([copies, base]);
    }
  });

  it('the base is a tensor of the caller’s, whichever way it is known', () => {
    const w = weight();
    const start = values(w);
    for (const keepBase of [true, false]) {
      const optimizer = projected(tf.train.sgd(0), lora({rank: 2}), {keepBase});
      optimizer.minimize(lossOf(w));
      for (let i = 0; i < 2; i++) {
        const before = numTensors();
        const base = optimizer.base('w');
        expect(numTensors()).toBe(before + 1);
        expect(values(base)).toEqual(start);
        base.dispose();
      }
      optimizer.minimize(lossOf(w));
    }
  });

  it('C37 model.dispose leaves the optimizer alone; the optimizer goes on with another model', async () => {
    const optimizer = loraAdam(0.01, {rank: 2});
    const first = mlp();
    first.compile({optimizer, loss: 'meanSquaredError'});
    await losses(first, 2);
    expect(first.dispose().refCountAfterDispose).toBe(0);
    const second = mlp();
    second.compile({optimizer, loss: 'meanSquaredError'});
    const before = weightsOf(second);
    await losses(second, 2);
    expect(weightsOf(second)).not.toEqual(before);
    expect(optimizer.iterations).toBe(4);
  });

  it('C37 a model that goes in the middle of a cycle takes its gradients along', async () => {
    const optimizer = loraAdam(0.01, {rank: 2, accumulate: 2});
    const first = mlp();
    first.compile({optimizer, loss: 'meanSquaredError'});
    await losses(first, 1);
    first.dispose();
    const second = mlp();
    second.compile({optimizer, loss: 'meanSquaredError'});
    const before = weightsOf(second);
    await losses(second, 1);
    expect(weightsOf(second)).not.toEqual(before);
    expect(optimizer.iterations).toBe(1);
  });

  it.each(OPTIMIZER_NAMES)('C39 the state bytes it tells are those that tf.memory() counts: %s', name => {
    const w = weight();
    const bias = tf.variable(tf.ones([5]), true, 'bias');
    const loss = () => tf.mean(tf.square(tf.add(w, bias))) as tf.Scalar;
    const all: ProjectedOptions[] = [{}, {keepBase: true, rest: 'train'}, {weightDecay: 0.1, accumulate: 2}];
    for (const given of all) {
      const before = tf.memory().numBytes;
      const measured = () => tf.memory().numBytes - before;
      const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}), given);
      expect(optimizer.stateBytes).toBe(measured());
      for (let i = 0; i < 3; i++) {
        optimizer.minimize(loss);
        expect(optimizer.stateBytes).toBe(measured());
      }
      optimizer.dispose();
    }
  });

  it('C39 also with full, and with an inner optimizer for each factor', async () => {
    const w = weight();
    const makers = [
      () => projected(OPTIMIZERS.adam(), full(), {targets: 'w'}),
      () => projected(() => OPTIMIZERS.adamax(), lora({rank: 2})),
    ];
    for (const make of makers) {
      const before = tf.memory().numBytes;
      const measured = () => tf.memory().numBytes - before;
      const optimizer = make();
      optimizer.minimize(lossOf(w));
      expect(optimizer.stateBytes).toBe(measured());
      await optimizer.getWeights();
      expect(optimizer.stateBytes).toBe(measured());
      const restored = make();
      await restored.setWeights(await optimizer.getWeights());
      expect(optimizer.stateBytes + restored.stateBytes).toBe(measured());
      optimizer.dispose();
      restored.dispose();
    }
  });
});
