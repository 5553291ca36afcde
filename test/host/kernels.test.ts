import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeEach, expect, it} from 'vitest';
import {every, full, lora, loraAdam, normal, projected, symmetric} from '../../src/index.js';
import {randomOrthonormal} from '../../src/linalg/orthonormal.js';
import {expectClose, values} from '../helpers.js';
import {OPTIMIZERS} from './optimizers.js';

beforeEach(() => tf.engine().startScope());
afterEach(() => {
  tf.disposeVariables();
  tf.engine().endScope();
});

const gradient = (i: number) => normal([8, 6], 10 + i);

it('C48 changing the backend between steps keeps the state', async () => {
  const run = async (backends: string[]) => {
    await tf.setBackend('cpu');
    const w = tf.variable(normal([8, 6], 1), true, 'w');
    const optimizer = loraAdam(0.05, {rank: 2, keepBase: true, clipNorm: 1, accumulate: 2});
    for (const [i, backend] of backends.entries()) {
      await tf.setBackend(backend);
      optimizer.applyGradients({w: gradient(i)});
    }
    const end = values(w);
    optimizer.dispose();
    w.dispose();
    return end;
  };
  const onCpu = await run(['cpu', 'cpu', 'cpu', 'cpu', 'cpu', 'cpu']);
  expectClose(await run(['cpu', 'cpu', 'wasm', 'wasm', 'cpu', 'cpu']), onCpu, 1e-6);
  expectClose(await run(['wasm', 'cpu', 'wasm', 'cpu', 'wasm', 'cpu']), onCpu, 1e-6);
});

it('C15 cpu and wasm start from the same random numbers, and train alike', async () => {
  const run = async (backend: string) => {
    await tf.setBackend(backend);
    const w = tf.variable(normal([8, 6], 1), true, 'w');
    const optimizer = loraAdam(0.05, {rank: 2, init: symmetric(), seed: 0});
    optimizer.applyGradients({w: tf.zeros([8, 6])});
    const start = values(optimizer.factors(w)['a']!);
    for (let i = 0; i < 20; i++) optimizer.applyGradients({w: gradient(i)});
    const end = values(w);
    tf.disposeVariables();
    return {start, end};
  };
  const [cpu, wasm] = [await run('cpu'), await run('wasm')];
  expect(wasm.start).toEqual(cpu.start);
  expectClose(wasm.end, cpu.end, 1e-5);
});

it('C49 a step runs only kernels that cpu, wasm and webgl all have', async () => {
  await tf.setBackend('cpu');
  const w = tf.variable(normal([8, 6], 1), true, 'w');
  const names = new Set<string>();
  const engine = tf.engine();
  const {runKernel} = engine;
  engine.runKernel = (name, ...rest) => {
    names.add(name);
    return runKernel.call(engine, name, ...rest) as never;
  };
  try {
    for (const parametrization of [lora({rank: 2}), lora({rank: 2, init: symmetric()}), full()]) {
      const optimizer = projected(OPTIMIZERS.adam(), parametrization, {
        targets: 'w',
        keepBase: true,
        clipNorm: 1,
        weightDecay: 0.1,
        accumulate: 2,
        refresh: every(1),
        moments: 'reset',
      });
      for (let i = 0; i < 6; i++) optimizer.applyGradients({w: gradient(i)});
      optimizer.base(w).dispose();
      // What looks closer when a sum of squares overflows.
      optimizer.applyGradients({w: tf.fill([8, 6], 1e25)});
    }
  } finally {
    engine.runKernel = runKernel;
  }
  expect(names.size).toBeGreaterThan(10);
  for (const backend of ['cpu', 'wasm', 'webgl']) {
    expect([backend, [...names].filter(name => !tf.getKernel(name, backend))]).toEqual([backend, []]);
  }
});

it('C49 our own operations record no gradient: a step runs the same inside tf.grad', async () => {
  await tf.setBackend('cpu');
  const w = tf.variable(normal([8, 6], 1), true, 'w');
  const optimizer = loraAdam(0.05, {rank: 2});
  const before = values(w);
  const outer = tf.grad((x: tf.Tensor) => {
    optimizer.applyGradients({w: gradient(0)});
    return tf.sum(tf.square(x));
  });
  expect(values(outer(tf.tensor1d([3])))).toEqual([6]);
  expect(values(w)).not.toEqual(before);
});

it('C51 orthonormal starts are orthonormal to float32 rounding, made without tf.linalg.qr', async () => {
  await tf.setBackend('cpu');
  const q = randomOrthonormal(768, 16, 1);
  expectClose(values(tf.matMul(q, q, true)), values(tf.eye(16)), 1e-6);
});
