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
  type ProjectedOptimizer,
  type ProjectedOptions,
} from '../src/index.js';
import type {HostGradients} from '../src/capture/dense.js';
import {expectClose} from './helpers.js';
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
  /** For each step, the seed of its gradients; with it what spoils that of `kernel`, and whose there are. */
  readonly steps: readonly (number | readonly [seed: number, spoil?: number | undefined, of?: RegExp])[];
}

/** Weights and state after all steps, by name. */
async function run({inner = OPTIMIZERS.adam(), parametrization = lora({rank: 2}), options, steps}: Run) {
  const weights = Object.entries(SHAPES).map(([name, shape], i) => weightOf(name, shape, i + 1));
  const optimizer = projected(inner, parametrization, {targets: /kernel|other/, rest: 'train', ...options});
  const errors: string[] = [];
  for (const step of steps) {
    const [seed, spoil, of = /./] = typeof step === 'number' ? [step] : step;
    const gradients = Object.fromEntries(
      weights.map(({name, shape}, i) => [name, normal(shape, 100 * seed + i)]),
    );
    if (spoil !== undefined) {
      const spoiled = tf.tidy(() => tf.add(gradients['kernel']!, tf.fill([8, 6], spoil)));
      gradients['kernel']!.dispose();
      gradients['kernel'] = spoiled;
    }
    for (const {name} of weights.filter(({name}) => !of.test(name))) {
      gradients[name]!.dispose();
      delete gradients[name];
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

  test.each(Object.keys(OPTIMIZERS) as OptimizerName[])(
    'weights that had no gradient at a spoiled step keep their moments: %s',
    async name => {
      for (const options of [{}, {keepBase: true, clipNorm: 1}, {weightDecay: 0.1}]) {
        const make = (steps: Run['steps']) => ({
          inner: OPTIMIZERS[name](),
          options: {...options, nonFinite: 'skip'} as const,
          steps,
        });
        const good: Run['steps'] = [1, [2, undefined, /other/], 3, [4, undefined, /kernel/], 5];
        const {all} = await run(make(good));
        for (const at of [1, 2, 3, 4, 5]) {
          const spoiled = await onGpu(() => run(make(good.toSpliced(at, 0, [9, NaN, /kernel/]))));
          expect(spoiled.all).toEqual(all);
          expect(spoiled.skipped).toBe(1);
        }
      }
    },
  );

  test.each(['throw', 'skip'] as const)(
    'an inner optimizer with a memory of its own goes on: %s',
    async nonFinite => {
      class Wrapper extends tf.Optimizer {
        readonly inner = OPTIMIZERS.adam();
        /** Never finite, and nobody's business. */
        readonly best = tf.tidy(() => tf.variable(tf.scalar(Infinity), false));
        override applyGradients(gradients: Parameters<tf.Optimizer['applyGradients']>[0]) {
          this.inner.applyGradients(gradients as never);
        }
        getConfig() {
          return {};
        }
      }
      for (const steps of [
        [1, 2],
        [1, [9, NaN], 2],
      ] as const) {
        const {all, skipped, errors} = await onGpu(() =>
          run({inner: new Wrapper(), options: {nonFinite}, steps}),
        );
        expect(
          Object.values({...all.weights, ...all.factors})
            .flat()
            .every(Number.isFinite),
        ).toBe(true);
        expect([skipped, errors.length]).toEqual(
          steps.length === 2 ? [0, 0] : nonFinite === 'skip' ? [1, 0] : [0, 1],
        );
      }
    },
  );

  test('what waits to be bound is as it was', async () => {
    const train = async (resumed: boolean, steps: Run['steps']) => {
      const first = projected(OPTIMIZERS.adam(), lora({rank: 2}), {nonFinite: 'skip'});
      const weights = ['u', 'v'].map((name, i) => weightOf(name, [8, 6], i + 1));
      const step = (of: ProjectedOptimizer, [seed, value = 0]: readonly [number, number?], names: string[]) =>
        tf.tidy(() =>
          of.applyGradients(
            Object.fromEntries(
              names.map((name, i) => [name, tf.add(normal([8, 6], seed + i), value)]),
            ) as HostGradients,
          ),
        );
      step(first, [10], ['u', 'v']);
      step(first, [20], ['u', 'v']);
      let last = first;
      if (resumed) {
        last = projected(OPTIMIZERS.adam(), lora({rank: 2}), {nonFinite: 'skip'});
        await last.setWeights(await first.getWeights());
      }
      for (const each of steps) step(last, each as [number, number], ['u']);
      step(last, [30], ['u', 'v']);
      await last.checked();
      const all = await Promise.all(weights.map(weight => weight.data()));
      for (const optimizer of new Set([first, last])) optimizer.dispose();
      tf.dispose(weights);
      return all;
    };
    const wanted = await train(false, [[40]]);
    expect(await train(true, [[40]])).toEqual(wanted);
    expect(await train(true, [[40], [41], [42]])).toEqual(await train(false, [[40], [41], [42]]));
    expect(await onGpu(() => train(true, [[40]]))).toEqual(wanted);
    expect(await onGpu(() => train(true, [[50, NaN], [40], [60, Infinity]]))).toEqual(wanted);
  });

  test('checked() waits for the steps before it, and not for those after', async () => {
    await onGpu(async () => {
      const weight = weightOf('w', [4, 3], 1);
      const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 1}));
      let isDone = false;
      let steps = 0;
      for (; steps < 50 && !isDone; steps++) {
        tf.tidy(() => optimizer.applyGradients({w: tf.ones([4, 3])} as HostGradients));
        if (steps === 3) void optimizer.checked().then(() => (isDone = true));
        await Promise.resolve();
      }
      expect(steps).toBeLessThan(50);
      await optimizer.checked();
      optimizer.dispose();
      weight.dispose();
    });
  });

  test('moments are transported without a read', async () => {
    const make = () => ({
      parametrization: flora({rank: 2}),
      options: {refresh: every(2), moments: 'transport'} as const,
      steps: [1, 2, 3, 4, 5],
    });
    const [there, here] = [await onGpu(() => run(make()), 2), await run(make())];
    expect(there.errors).toEqual([]);
    for (const [name, values] of Object.entries(here.all.weights as Record<string, number[]>)) {
      expectClose(there.all.weights[name]!, values, 1e-5);
    }
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
      step(NaN);
      // What can be saved is sound, so that this is no place for the error.
      expect((await optimizer.getWeights()).length).toBeGreaterThan(0);
      await expect(optimizer.checked()).rejects.toThrow('at step 2');
      await expect(optimizer.checked()).rejects.toThrow('at step 3');
      await optimizer.checked();
      optimizer.dispose();
      weight.dispose();
    });
  });

  test('where the inner optimizer makes NaN of finite gradients, that is said', async () => {
    const rogueOf = () => {
      const rogue = OPTIMIZERS.sgd();
      const apply = rogue.applyGradients.bind(rogue);
      rogue.applyGradients = gradients => {
        const all = gradients as unknown as {name: string; tensor: tf.Tensor}[];
        apply(all.map(({name, tensor}) => ({name, tensor: tensor && tf.mul(tensor, NaN)})) as never);
      };
      return rogue;
    };
    const {errors} = await onGpu(() => run({inner: rogueOf(), steps: [1]}));
    const said = expect.stringMatching(
      /inner optimizer made NaN or infinity out of finite gradients at step 0/,
    );
    expect(errors).toEqual([said]);
    const skipping = await onGpu(() => run({inner: rogueOf(), options: {nonFinite: 'skip'}, steps: [1]}));
    expect([skipping.errors, skipping.skipped]).toEqual([[said], 0]);
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
      expect(tf.memory().numTensors).toBe(0);
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
