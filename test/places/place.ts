/** Runs the matrix in one place, be it Node or a page, and hands over numbers alone. */
import * as tf from '@tensorflow/tfjs';
import {installWasmKernels} from '../../src/wasm/install.js';
import {type Feature, features, methods} from './methods.js';
import {type Built, optimizerOf, type Scenario, scenarios} from './scenarios.js';

export interface Setting {
  readonly backend: string;
  /** Whether `tfjs-lora/wasm` is installed. */
  readonly kernels: boolean;
}

export const STEPS = 5;

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
    Record<string, {auto: Outcome<Trained>; dense: Outcome<Trained>; plain: Outcome<Trained>}>
  >;
  readonly features: Readonly<Record<string, Outcome<Felt>>>;
  /** What the library said on the console. */
  readonly warnings: readonly string[];
}

const buffers = () => tf.backend().numDataIds();
const read = async (weights: readonly tf.Tensor[]) =>
  (await Promise.all(weights.map(async weight => Array.from(await weight.data())))).flat();

async function train(scenario: Scenario, make: () => tf.Optimizer): Promise<Trained> {
  const tensors = tf.memory().numTensors;
  let built: Built | undefined;
  const optimizer = make();
  try {
    built = scenario.build();
    const before = await read(built.weights);
    const losses: number[] = [];
    let warm = {tensors: 0, buffers: 0};
    for (let i = 0; i < STEPS; i++) {
      losses.push(await built.step(optimizer));
      // Small factors are stepped together from their second step on.
      if (i === 1) warm = {tensors: tf.memory().numTensors, buffers: buffers()};
    }
    const steps = tf.memory().numTensors - warm.tensors;
    const more = buffers() - warm.buffers;
    const changes = (await read(built.weights)).map((value, i) => value - before[i]!);
    optimizer.dispose();
    built.dispose();
    const disposed = tf.memory().numTensors - tensors;
    return {losses, changes, left: {steps, buffers: more, disposed}};
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
export async function measure({backend, kernels}: Setting, description: string): Promise<Measured> {
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
    const trained: Record<string, Measured['scenarios'][string]> = {};
    for (const [name, scenario] of Object.entries(scenarios)) {
      trained[name] = {
        auto: await attempt(() => train(scenario, () => optimizerOf(scenario, 'auto'))),
        dense: await attempt(() => train(scenario, () => optimizerOf(scenario, 'dense'))),
        plain: await attempt(() => train(scenario, () => tf.train.adam(0.02, 0.9, 0.999, 1e-7))),
      };
    }
    const found: Record<string, Outcome<Felt>> = {};
    for (const [name, feature] of Object.entries<Feature>({...methods, ...features})) {
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
