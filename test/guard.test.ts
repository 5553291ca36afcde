import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeEach, describe, expect, test, vi} from 'vitest';
import {
  additive,
  dora,
  every,
  flora,
  full,
  hadamard,
  lora,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptions,
} from '../src/index.js';
import type {HostGradients} from '../src/capture/dense.js';
import {OPTIMIZERS, type OptimizerName} from './host/optimizers.js';

// A backend that says it is webgpu; test/places runs the real one.
tf.copyRegisteredKernels('cpu', 'webgpu');
const engine = tf.engine() as unknown as {backendName: string};

/** Runs `work` where a step may read nothing but what never left the host: seeds, of so many numbers. */
async function onGpu<T>(work: () => T | Promise<T>, seed = 0): Promise<T> {
  const {readSync} = tf.engine();
  const cpu = tf.backend() as unknown as {readSync(id: object): ArrayLike<number>; tensorMap?: object};
  const isSeed = (id: object) => cpu.readSync(id).length <= seed;
  cpu.tensorMap = {get: (id: object) => ({values: isSeed(id) || null})};
  const sync = vi.spyOn(tf.engine(), 'readSync').mockImplementation(id => {
    if (!isSeed(id)) throw new Error('webgpu hands nothing over at once');
    return readSync.call(tf.engine(), id);
  });
  engine.backendName = 'webgpu';
  try {
    return await work();
  } finally {
    engine.backendName = 'cpu';
    delete cpu.tensorMap;
    sync.mockRestore();
  }
}

beforeEach(async () => {
  await tf.setBackend('cpu');
});
afterEach(() => {
  tf.disposeVariables();
  expect(tf.memory().numTensors).toBe(0);
});

const SHAPES = {kernel: [8, 6], other: [5, 7], bias: [6]};

/** What is wrong with the gradient of `kernel` at a step. */
const SPOILS: Record<string, number> = {NaN: NaN, infinity: -Infinity, 'a number too large to square': 1e30};

const weightOf = (name: string, shape: number[], seed: number) =>
  tf.tidy(() => tf.variable(normal(shape, seed), true, name));

interface Run {
  readonly inner?: tf.Optimizer;
  readonly parametrization?: Parametrization;
  readonly options?: ProjectedOptions;
  /** For each step, the seed of its gradients, or that with what spoils it. */
  readonly steps: readonly (number | readonly [seed: number, spoil: number])[];
}

/** Weights and state after all steps, by name. */
async function run({inner = OPTIMIZERS.adam(), parametrization = lora({rank: 2}), options, steps}: Run) {
  const weights = Object.entries(SHAPES).map(([name, shape], i) => weightOf(name, shape, i + 1));
  const optimizer = projected(inner, parametrization, {targets: /kernel|other/, rest: 'train', ...options});
  const errors: string[] = [];
  for (const step of steps) {
    const [seed, spoil] = typeof step === 'number' ? [step] : step;
    const gradients = Object.fromEntries(
      weights.map(({name, shape}, i) => [name, normal(shape, 100 * seed + i)]),
    );
    if (spoil !== undefined) {
      const spoiled = tf.tidy(() => tf.add(gradients['kernel']!, tf.fill([8, 6], spoil)));
      gradients['kernel']!.dispose();
      gradients['kernel'] = spoiled;
    }
    optimizer.applyGradients(gradients as HostGradients);
    tf.dispose(gradients);
    await optimizer.checked().catch((error: Error) => errors.push(error.message));
  }
  const state = optimizer.checkpoint();
  const moments = state.inners.flatMap(inner => Object.entries({...inner!.scalars, ...inner!.slots}));
  const factors = optimizer.attached.flatMap(({name, factors}) =>
    Object.entries(factors).map(([key, factor]) => [`${name}/${key}`, factor] as const),
  );
  const read = async (tensors: readonly (readonly [string, tf.Tensor])[]) =>
    Object.fromEntries(
      await Promise.all(tensors.map(async ([name, tensor]) => [name, [...(await tensor.data())]])),
    );
  const all = {
    weights: await read(weights.map(weight => [weight.name, weight])),
    factors: await read(factors),
    moments: await read(moments),
  };
  const {skipped, iterations} = optimizer;
  optimizer.dispose();
  tf.dispose(weights);
  return {all, errors, skipped, iterations};
}

const PARAMETRIZATIONS = {
  lora: () => lora({rank: 2}),
  dora: () => dora({rank: 2}),
  additive: () => additive(),
  full: () => full(),
  hadamard: () => hadamard({rank: 2}),
};

describe('steps on a backend that hands over no number at once', () => {
  test.each(Object.keys(OPTIMIZERS) as OptimizerName[])('sound ones are those of the cpu: %s', async name => {
    for (const options of [{}, {clipNorm: 0.1, weightDecay: 0.1, accumulate: 2}, {keepBase: true}]) {
      const make = () => ({inner: OPTIMIZERS[name](), options, steps: [1, 2, 3, 4]});
      const there = await onGpu(() => run(make()));
      expect(there).toEqual(await run(make()));
      expect(there.errors).toEqual([]);
    }
  });

  describe.each(Object.keys(OPTIMIZERS) as OptimizerName[])('a spoiled one has not been: %s', name => {
    test.each(Object.keys(PARAMETRIZATIONS) as (keyof typeof PARAMETRIZATIONS)[])('%s', async key => {
      const make = (steps: Run['steps'], options: ProjectedOptions = {}) => ({
        inner: OPTIMIZERS[name](),
        parametrization: PARAMETRIZATIONS[key](),
        options: {nonFinite: 'skip', ...options} as const,
        steps,
      });
      const good = await run(make([1, 2, 3, 4]));
      for (const spoil of Object.values(SPOILS)) {
        // These square nothing, so nothing overflows.
        if (spoil === 1e30 && /sgd|momentum|nesterov|adamax/.test(name)) continue;
        for (const at of [0, 1, 3, 4]) {
          const steps: (number | [number, number])[] = [1, 2, 3, 4];
          steps.splice(at, 0, [9, spoil]);
          const spoiled = await onGpu(() => run(make(steps)));
          expect(spoiled.all).toEqual(good.all);
          expect([spoiled.skipped, spoiled.errors]).toEqual([1, []]);
        }
      }
    });
  });

  test('subspaces that are chosen anew, their moments forgotten', async () => {
    const make = (steps: Run['steps']) => ({
      parametrization: flora({rank: 2}),
      options: {refresh: every(2), moments: 'reset', nonFinite: 'skip'} as const,
      steps,
    });
    expect(await onGpu(() => run(make([1, 2, 3, 4, 5])), 2)).toEqual(await run(make([1, 2, 3, 4, 5])));
    for (const steps of [[1], [1, 2], [1, 2, 3]]) {
      const {all, skipped} = await onGpu(() => run(make([...steps, [9, NaN]])), 2);
      expect(all.weights).toEqual((await run(make(steps))).all.weights);
      expect(skipped).toBe(1);
      expect(
        Object.values({...all.factors, ...all.moments})
          .flat()
          .every(Number.isFinite),
      ).toBe(true);
    }
  });

  test('it is told of by the next step and by checked(), once, with weight and step', async () => {
    const {errors, skipped} = await onGpu(() => run({steps: [1, [2, NaN], 3, [4, Infinity]]}));
    expect(errors).toEqual([
      expect.stringMatching(/^the gradient of kernel \[8,6\] held NaN .* at step 1; nothing was moved/),
      expect.stringMatching(/^the gradient of kernel \[8,6\] held NaN .* at step 3; nothing was moved/),
    ]);
    expect(skipped).toBe(0);

    await onGpu(async () => {
      const weight = weightOf('w', [4, 3], 1);
      const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 1}));
      const step = (value: number) =>
        tf.tidy(() => optimizer.applyGradients({w: tf.fill([4, 3], value)} as HostGradients));
      const before = await weight.data();
      step(NaN);
      await tf.nextFrame();
      expect(() => step(1)).toThrow('the gradient of w [4,3] held NaN');
      expect(await weight.data()).toEqual(before);
      step(1);
      await optimizer.checked();
      expect(await weight.data()).not.toEqual(before);
      step(NaN);
      await expect(optimizer.getWeights()).rejects.toThrow('the gradient of w [4,3] held NaN');
      expect((await optimizer.getWeights()).length).toBeGreaterThan(0);
      optimizer.dispose();
      weight.dispose();
    });
  });

  test('where the inner optimizer makes NaN of finite gradients, that is said', async () => {
    const rogue = OPTIMIZERS.sgd();
    const apply = rogue.applyGradients.bind(rogue);
    rogue.applyGradients = gradients => {
      const all = gradients as unknown as {name: string; tensor: tf.Tensor}[];
      apply(all.map(({name, tensor}) => ({name, tensor: tensor && tf.mul(tensor, NaN)})) as never);
    };
    const {errors} = await onGpu(() => run({inner: rogue, steps: [1]}));
    expect(errors).toEqual([
      expect.stringMatching(/inner optimizer made NaN or infinity out of finite gradients at step 0/),
    ]);
  });

  test("nonFinite: 'ignore' lets everything pass", async () => {
    const {all, errors} = await onGpu(() => run({options: {nonFinite: 'ignore'}, steps: [[1, NaN]]}));
    expect(all.weights['kernel']!.some(Number.isNaN)).toBe(true);
    expect(errors).toEqual([]);
  });

  test('an optimizer may be disposed before it is known', async () => {
    await onGpu(async () => {
      const weight = weightOf('w', [4, 3], 1);
      const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 1}));
      tf.tidy(() => optimizer.applyGradients({w: tf.ones([4, 3])} as HostGradients));
      optimizer.dispose();
      weight.dispose();
      await tf.nextFrame();
    });
  });

  test('what was undone before a state was taken over is not told of', async () => {
    await onGpu(async () => {
      const weight = weightOf('w', [4, 3], 1);
      const [first, second] = [0, 1].map(() => projected(OPTIMIZERS.adam(), lora({rank: 1})));
      const step = (of: tf.Optimizer, value: number) =>
        tf.tidy(() => of.applyGradients({w: tf.fill([4, 3], value)} as HostGradients));
      step(first!, 1);
      step(second!, NaN);
      await second!.setWeights(await first!.getWeights());
      await second!.checked();
      first!.dispose();
      second!.dispose();
      weight.dispose();
    });
  });
});
