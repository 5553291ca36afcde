/** Runs the matrix in one place, be it Node or a page, and hands over numbers alone. */
import * as tf from '@tensorflow/tfjs';
import type {ProjectedOptimizer} from '../../src/index.js';
import {installWasmKernels} from '../../src/wasm/install.js';
import {type Feature, features, methods} from './methods.js';
import {type Built, optimizerOf, type Scenario, scenarios} from './scenarios.js';

export interface Setting {
  readonly backend: string;
  /** Whether `tfjs-lora/wasm` is installed. */
  readonly kernels: boolean;
  /** Part of the names of what to run; default: everything. */
  readonly only?: string;
  /** Also what takes long. */
  readonly full?: boolean;
}

/** Steps through taps, and with formed gradients; plain tfjs takes one, to see whether it can. */
export const STEPS = {auto: 5, dense: 3, plain: 1};

/** What one training came to. */
export interface Trained {
  readonly losses: readonly number[];
  /** How far every weight moved, one after the other. */
  readonly changes: readonly number[];
  /** Tensors and buffers that further steps left, and those that were there after all was disposed. */
  readonly left: {readonly steps: number; readonly buffers: number; readonly disposed: number};
}

/** What a feature came to, and the tensors it left. */
export interface Felt {
  readonly values: readonly number[];
  readonly left: number;
}

type Outcome<T> = T | {readonly error: string};

export interface Measured {
  readonly description: string;
  readonly scenarios: Readonly<
    Record<string, {auto: Outcome<Trained>; dense?: Outcome<Trained>; plain?: Outcome<Trained>}>
  >;
  readonly features: Readonly<Record<string, Outcome<Felt>>>;
  /** What the library said on the console. */
  readonly warnings: readonly string[];
}

const buffers = () => tf.backend().numDataIds();
const read = async (weights: readonly tf.Tensor[]) =>
  (await Promise.all(weights.map(async weight => Array.from(await weight.data())))).flat();

/** On webgpu our optimizers are still waiting for a number after a step. */
const settled = async (optimizer: tf.Optimizer | ProjectedOptimizer) => {
  if ('checked' in optimizer) await optimizer.checked();
};

async function train(scenario: Scenario, steps: number, make: () => tf.Optimizer): Promise<Trained> {
  const tensors = tf.memory().numTensors;
  let built: Built | undefined;
  const optimizer = make();
  try {
    built = scenario.build();
    const before = await read(built.weights);
    const losses: number[] = [];
    let warm = {tensors: 0, buffers: 0};
    for (let i = 0; i < steps; i++) {
      losses.push(await built.step(optimizer));
      // Small factors are stepped together from their second step on.
      if (i === 1) await settled(optimizer);
      if (i === 1) warm = {tensors: tf.memory().numTensors, buffers: buffers()};
    }
    await settled(optimizer);
    const tensorsMore = tf.memory().numTensors - warm.tensors;
    const buffersMore = buffers() - warm.buffers;
    const changes = (await read(built.weights)).map((value, i) => value - before[i]!);
    optimizer.dispose();
    built.dispose();
    const disposed = tf.memory().numTensors - tensors;
    return {losses, changes, left: {steps: tensorsMore, buffers: buffersMore, disposed}};
  } catch (error) {
    optimizer.dispose();
    built?.dispose();
    tf.disposeVariables();
    throw error;
  }
}

async function attempt<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return await work();
  } catch (error) {
    return {error: String((error as Error)?.message ?? error).split('\n')[0]!};
  }
}

/** All of it. Throws where the backend cannot be had. */
export async function measure(
  {backend, kernels, only = '', full = false}: Setting,
  description: string,
): Promise<Measured> {
  const warnings: string[] = [];
  const {warn} = console;
  console.warn = (...parts: unknown[]) => {
    const text = parts.map(String).join(' ');
    if (text.startsWith('tfjs-lora')) warnings.push(text);
  };
  const undo = kernels ? installWasmKernels() : () => {};
  try {
    await tf.setBackend(backend);
    await tf.ready();
    if (tf.getBackend() !== backend)
      throw new Error(`no ${backend} here: tfjs fell back to ${tf.getBackend()}`);
    // Otherwise tfjs computes small tensors on the CPU, and nothing here would run on the GPU.
    if (backend === 'webgpu') tf.env().set('WEBGPU_CPU_FORWARD', false);
    // In software webgpu is slow: there each model is trained once.
    const once = backend === 'webgpu' && !full;
    const trained: Record<string, Measured['scenarios'][string]> = {};
    for (const [name, scenario] of Object.entries(scenarios)) {
      if (!name.includes(only) || (once && scenario.slow)) continue;
      console.debug(`${(performance.now() / 1000).toFixed(1)} s: ${name}`);
      const ours = (capture: 'auto' | 'dense') =>
        attempt(() => train(scenario, STEPS[capture], () => optimizerOf(scenario, capture)));
      const plain = () => tf.train.adam(0.02, 0.9, 0.999, 1e-7);
      trained[name] = {
        auto: await ours('auto'),
        ...(!once && {dense: await ours('dense')}),
        ...(!/^webg/.test(backend) && {plain: await attempt(() => train(scenario, STEPS.plain, plain))}),
      };
    }
    const found: Record<string, Outcome<Felt>> = {};
    for (const [name, feature] of Object.entries<Feature>({...methods, ...features}).filter(([name]) =>
      name.includes(only),
    )) {
      console.debug(`${(performance.now() / 1000).toFixed(1)} s: ${name}`);
      found[name] = await attempt(async () => {
        const tensors = tf.memory().numTensors;
        const values = await feature();
        return {values, left: tf.memory().numTensors - tensors};
      });
      tf.disposeVariables();
    }
    return {description, scenarios: trained, features: found, warnings};
  } finally {
    undo();
    console.warn = warn;
  }
}
