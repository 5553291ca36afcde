import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {at, lora, normal, projected, type ProjectedOptions} from '../src/index.js';
import {Inner, type InnerState} from '../src/inner.js';
import {numTensors, values} from './helpers.js';
import {onEachBackend} from './host/backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './host/optimizers.js';

const makers: Record<string, () => tf.Optimizer> = {
  ...OPTIMIZERS,
  'centered rmsprop': () => tf.train.rmsprop(0.002, 0.9, 0.5, 1e-7, true),
};
const names = Object.keys(makers);

/** The same optimizer as one that the library does not know: its parameters are stepped one by one. */
function unknown(optimizer: tf.Optimizer): tf.Optimizer {
  return Object.assign(optimizer, {applyGradients: optimizer.applyGradients});
}

/** Small ones of every rank around one that is too large to be packed; on wasm they make two packs. */
const SHAPES = [[3, 4], [5], [260, 260], [2, 2, 2], [7, 1], [91, 90], [1, 6], [], [91, 90], [4, 3]];

const parametersOf = (shapes: readonly number[][], seed = 1) =>
  shapes.map((shape, i) => tf.variable(normal(shape, seed + i), false));

function gradientsOf(parameters: readonly (tf.Variable | undefined)[], step: number, missing: number[] = []) {
  return new Map(
    parameters.flatMap((p, i) =>
      p && !missing.includes(i) ? [[p, normal(p.shape, 1000 * step + i)] as const] : [],
    ),
  );
}

function step(inner: Inner, number: number, missing: number[] = []): void {
  tf.tidy(() => inner.apply(gradientsOf(inner.parameters, number, missing)));
}

function innerOf(make: () => tf.Optimizer, parameters: readonly tf.Variable[]): Inner {
  const inner = new Inner(make());
  for (const parameter of parameters) inner.add(parameter);
  return inner;
}

/** Numbers, not tensors; of a large one, a few. */
const sample = (tensor: tf.Tensor) => values(tensor).filter((_, i) => tensor.size < 100 || i % 997 === 0);

const numbersOf = ({iterations, scalars, slots}: InnerState) => ({
  iterations,
  scalars: Object.entries(scalars).map(([key, tensor]) => [key, values(tensor)]),
  slots: Object.fromEntries(
    Object.entries(slots).map(([key, tensor]) => [key, [tensor.shape, sample(tensor)]]),
  ),
});

async function launchesOf(work: () => void): Promise<number> {
  const {kernels} = await tf.profile(() => {
    work();
    return tf.scalar(0);
  });
  return kernels.filter(({name}) => name !== 'Identity' && name !== 'Reshape').length;
}

/** Steps with everything that can happen in between, mostly while there are packs; what there is after each. */
function history(make: () => tf.Optimizer): unknown[] {
  let parameters = parametersOf(SHAPES);
  let inner = innerOf(make, parameters);
  const events: Record<number, () => void> = {
    4: () => inner.reset(new Set([parameters[0]!, parameters[2]!])),
    7: () => inner.add(tf.variable(normal([2, 3], 77), false)),
    12: () => {
      const loaded = new Inner(make());
      loaded.restore(inner.state());
      parameters = inner.parameters.map(p => p!);
      for (const p of parameters) loaded.add(p);
      inner.dispose();
      inner = loaded;
    },
    15: () => {
      inner.drop(parameters[1]!);
    },
    18: () => inner.reset(new Set(parameters)),
    19: () => (inner.learningRate = 0.003),
    // A place that waits for its parameter, as after loading a model with frozen layers.
    20: () => inner.add(parametersOf([[2]], 5)[0]!, 13),
  };
  const missing: Record<number, number[]> = {9: [3], 23: [2, 4], 24: [0, 1, 3, 4, 5, 6, 7, 8, 9]};
  return Array.from({length: 28}, (_, i) => {
    events[i]?.();
    step(inner, i, missing[i]);
    const stateful = [1, 22, 27].includes(i);
    return [inner.parameters.map(p => p && sample(p)), stateful && numbersOf(inner.state()), inner.bytes];
  });
}

onEachBackend('small parameters are stepped together', backend => {
  it.each(names)('and every number is what it is one by one: %s', name => {
    const make = makers[name]!;
    const apart = history(() => unknown(make()));
    const together = history(make);
    together.forEach((now, i) => expect([i, now]).toEqual([i, apart[i]]));
  });

  it.each(names)('which takes fewer launches: %s', async name => {
    const shapes = SHAPES.filter(([rows = 1]) => rows < 90);
    const count = async (make: () => tf.Optimizer) => {
      const inner = innerOf(make, parametersOf(shapes));
      for (const i of [0, 1, 2]) step(inner, i);
      const gradients = gradientsOf(inner.parameters, 3);
      return launchesOf(() => tf.tidy(() => inner.apply(gradients)));
    };
    const apart = await count(() => unknown(makers[name]!()));
    const together = await count(makers[name]!);
    // One Concat of the gradients, one of the parameters, a Slice for each.
    const constant = name === 'adam' || name === 'adamax' ? 6 : 0;
    const each = (apart - constant) / shapes.length;
    expect(together).toBeLessThan(apart);
    expect(together).toBeLessThanOrEqual(Math.ceil(each) + constant + 2 + shapes.length);
  });

  it.each(names)('nothing is left behind, and the moments take no more room: %s', name => {
    const parameters = parametersOf(SHAPES);
    const before = tf.memory();
    const inner = innerOf(makers[name]!, parameters);
    step(inner, 0);
    const [bytes, tensors] = [inner.bytes, numTensors()];
    const held = () => tf.memory().numBytes - before.numBytes;
    expect(held()).toBe(bytes);
    for (const i of [1, 2, 3, 4]) {
      step(inner, i);
      expect([inner.bytes, held()]).toEqual([bytes, bytes]);
    }
    const moments = parameters.map(p => inner.bytesOf(p));
    expect(moments).toEqual(parameters.map(p => p.size * (moments[0]! / parameters[0]!.size)));
    inner.state();
    expect(held()).toBe(bytes);
    for (const i of [5, 6, 7]) step(inner, i);
    expect([numTensors(), held()]).toEqual([tensors, bytes]);
    inner.dispose();
    expect(tf.memory()).toMatchObject({numTensors: before.numTensors, numBytes: before.numBytes});
    tf.dispose(parameters);
  });

  it.each(names)('a step that fails loses no moment: %s', name => {
    const parameters = parametersOf([[3, 4], [5], [2, 2], [4], [3], [2]]);
    const inner = innerOf(makers[name]!, parameters);
    for (const i of [0, 1, 2]) step(inner, i);
    const twin = innerOf(() => unknown(makers[name]!()), parametersOf([[3, 4], [5], [2, 2], [4], [3], [2]]));
    for (const i of [0, 1, 2]) step(twin, i);
    const tensors = numTensors();
    const wrong = gradientsOf(parameters, 3, [0]);
    wrong.set(parameters[0]!, tf.ones([2, 4]));
    expect(() => tf.tidy(() => inner.apply(wrong))).toThrow();
    tf.dispose([...wrong.values()]);
    expect(numTensors()).toBe(tensors);
    expect(parameters.map(values)).toEqual(twin.parameters.map(p => values(p!)));
    const state = numbersOf(inner.state());
    expect(state).toEqual(numbersOf(twin.state()));
    for (const i of [4, 5, 6]) {
      step(inner, i);
      step(twin, i);
    }
    expect(parameters.map(values)).toEqual(twin.parameters.map(p => values(p!)));
  });

  it('what state() gave lives until after the next step', () => {
    const inner = innerOf(OPTIMIZERS.adam, parametersOf([[3, 4], [5], [2, 2]]));
    for (const i of [0, 1, 2]) step(inner, i);
    const {slots} = inner.state();
    step(inner, 3);
    expect(numbersOf(inner.state()).slots).toEqual(
      Object.fromEntries(Object.entries(slots).map(([key, tensor]) => [key, [tensor.shape, sample(tensor)]])),
    );
  });

  it('a class of the user’s own is given its parameters one by one', () => {
    const seen: string[][] = [];
    class Watching extends tf.SGDOptimizer {
      override applyGradients(gradients: never) {
        seen.push((gradients as {name: string}[]).map(({name}) => name));
        super.applyGradients(gradients);
      }
    }
    const inner = innerOf(() => new Watching(0.1), parametersOf([[3], [4], [5], [6], [7], [8]]));
    for (const i of [0, 1, 2]) step(inner, i);
    expect(seen).toEqual([0, 1, 2].map(() => inner.parameters.map(p => p!.name)));
  });

  const options: [string, ProjectedOptions][] = [
    ['by default', {}],
    ['refresh, moments reset', {refresh: at([4, 9]), moments: 'reset'}],
    ['refresh, moments kept', {refresh: at([4, 9]), moments: 'keep', keepBase: true}],
    ['weightDecay, clipNorm, accumulate', {weightDecay: 0.1, clipNorm: 0.5, accumulate: 2}],
  ];
  it.each(options)(
    'through the whole optimizer too, saved and loaded in the middle: %s',
    async (_, given) => {
      const run = async (make: () => tf.Optimizer) => {
        const weights = [
          [6, 5],
          [5, 8],
          [8, 9],
        ].map((shape, i) => tf.variable(normal(shape, i + 1), true, `w${i}`));
        const bias = tf.variable(normal([9], 9), true, 'bias');
        const build = () => projected(make(), lora({rank: 2, alpha: 3}), {rest: 'train', ...given});
        let optimizer = build();
        const ends = [];
        for (let i = 0; i < 20; i++) {
          if (i === 12) {
            const loaded = build();
            await loaded.setWeights(await optimizer.getWeights());
            optimizer.dispose();
            optimizer = loaded;
          }
          const all = [...weights, bias].filter((_, j) => i % 7 !== 6 || j !== 1);
          const gradients = Object.fromEntries(all.map((w, j) => [w.name, normal(w.shape, 100 * i + j)]));
          optimizer.applyGradients(gradients);
          tf.dispose(gradients);
          ends.push([...weights, bias].map(values));
        }
        optimizer.dispose();
        tf.dispose([...weights, bias]);
        return ends;
      };
      for (const name of OPTIMIZER_NAMES) {
        const apart = await run(() => unknown(OPTIMIZERS[name]()));
        expect([backend, name, await run(OPTIMIZERS[name])]).toEqual([backend, name, apart]);
      }
    },
  );
});
