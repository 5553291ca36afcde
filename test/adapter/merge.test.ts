import * as tf from '@tensorflow/tfjs';
import {describe, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {adapterOf} from '../../src/adapter/adapter-of.js';
import {forgetBases, mergeAdapter, unmergeAdapter} from '../../src/adapter/merge.js';
import {namedWeights} from '../../src/adapter/paths.js';
import {dora, full, lora, never, normal, symmetric} from '../../src/index.js';
import {numTensors, relativeError, tensorsLeftBy, values} from '../helpers.js';
import {onEachBackend} from '../host/backends.js';
import {members} from '../parametrizations/members.js';
import {learned, mlp, numbers, reloaded, restore, train, worst, zoo, zooInput} from './models.js';

/** A matrix, a kernel of a convolution, a vector. */
const weights = (seed = 1) => ({
  'a/kernel': tf.variable(normal([40, 30], seed)),
  'b/conv': tf.variable(normal([3, 3, 4, 20], seed + 1)),
  'b/bias': tf.variable(tf.zeros([20])),
});

const isMatrix = ({shape}: {shape: readonly number[]}) => shape[0] === 40;

/** The same adapter as it comes from a file: other objects. */
const copy = (adapter: Adapter): Adapter => ({
  ...adapter,
  weights: adapter.weights.map(entry => ({
    ...entry,
    factors: Object.fromEntries(
      Object.entries(entry.factors).map(([key, {shape, values}]) => [key, {shape, values: values.slice()}]),
    ),
  })),
});

onEachBackend('base and adapter make the trained weights', () => {
  const all = Object.values(members).flatMap(forms => Object.entries(forms));

  test.each(all)('%s', async (_, p) => {
    for (const keepBase of [false, true]) {
      const model = weights();
      const {adapter, base, trained} = await learned(model, p, {
        refresh: never,
        rest: 'train',
        keepBase,
        moments: 'reset',
      });
      const [kernel] = adapter.weights;
      expect(kernel!.parametrization).not.toBeNull();
      expect(adapter.weights.map(({path}) => path)).toEqual(Object.keys(model));
      expect(worst(base, trained)).toBeGreaterThan(1e-3);
      expect(
        await tensorsLeftBy(async () => {
          expect(await mergeAdapter(model, adapter)).toEqual(Object.keys(model));
        }),
      ).toBe(0);
      // From a base that is kept W is computed in one go, here as there.
      const error = worst(numbers(model), trained);
      if (keepBase) expect(numbers(model)).toEqual(trained);
      else expect(error).toBeLessThan(5e-6);

      if ('compose' in p || adapter.weights.some(({parametrization}) => !parametrization)) {
        const merged = numbers(model);
        await expect(unmergeAdapter(model, adapter)).rejects.toThrow(
          /cannot be freed .* the base was not kept/,
        );
        expect(numbers(model)).toEqual(merged);
      } else {
        await unmergeAdapter(model, adapter);
        expect(worst(numbers(model), base)).toBeLessThan(5e-6);
      }
      restore(model, base);
      expect(
        await tensorsLeftBy(async () => {
          await mergeAdapter(model, adapter, {keepBase: true});
          await unmergeAdapter(model, copy(adapter));
        }),
      ).toBe(0);
      expect(numbers(model)).toEqual(base);
    }
  });
});

onEachBackend('models', () => {
  test('with convolution, embedding, batch normalisation, a shared nested model and an LSTM both ways', async () => {
    const model = zoo();
    const fresh = await reloaded(model);
    const [x] = [zooInput()];
    const {adapter, base, trained} = await learned(model, lora({rank: 1, init: symmetric()}), {
      rest: 'train',
      keepBase: true,
    });
    expect(adapter.weights.map(({path}) => path)).toEqual([
      'conv/kernel',
      'conv/bias',
      'norm/gamma',
      'norm/beta',
      'embed/embeddings',
      expect.stringMatching(/^both\/.*kernel$/),
      expect.stringMatching(/^both\/.*recurrent_kernel$/),
      expect.stringMatching(/^both\/.*bias$/),
      expect.stringMatching(/^both\/.*kernel$/),
      expect.stringMatching(/^both\/.*recurrent_kernel$/),
      expect.stringMatching(/^both\/.*bias$/),
      'block/mix/kernel',
      'block/mix/bias',
      'block/shape/kernel',
      'block/shape/bias',
      'head/kernel',
      'head/bias',
    ]);
    restore(model, trained);
    const wanted = values(model.predict(x!) as tf.Tensor);
    const before = values(fresh.predict(x!) as tf.Tensor);
    expect(relativeError(wanted, before)).toBeGreaterThan(0.01);
    expect(numbers(fresh)).toEqual(base);
    await mergeAdapter(fresh, adapter, {keepBase: true});
    expect(numbers(fresh)).toEqual(trained);
    expect(values(fresh.predict(x!) as tf.Tensor)).toEqual(wanted);
    await unmergeAdapter(fresh);
    expect(numbers(fresh)).toEqual(base);
    expect(values(fresh.predict(x!) as tf.Tensor)).toEqual(before);
  });

  test('that a program builds again, with other numbers of tfjs', async () => {
    const build = (seed: number) => {
      const model = mlp([], seed);
      return model;
    };
    const {adapter, trained} = await learned(build(1), undefined, {rest: 'train', keepBase: true});
    const again = build(1);
    expect(Object.keys(numbers(again))).not.toEqual(adapter.weights.map(({path}) => path));
    await mergeAdapter(again, adapter);
    expect(Object.values(numbers(again))).toEqual(Object.values(trained));
    const other = build(5);
    await expect(mergeAdapter(other, adapter)).rejects.toThrow(/trained on another model/);
  });

  test('trained through compile and fit, then saved merged and freed of it again', async () => {
    const model = mlp();
    const base = numbers(model);
    const optimizer = train(model, lora({rank: 2}), {rest: 'train'}, 0);
    model.compile({optimizer, loss: 'meanSquaredError'});
    await model.fit(normal([16, 6], 1), normal([16, 3], 2), {epochs: 5, verbose: 0});
    const adapter = await adapterOf(optimizer, model, {metadata: {task: 'none'}});
    expect(adapter.metadata).toEqual({task: 'none'});
    expect(adapter.generatedBy).toMatch(/^tfjs-lora \d+\.\d+\.\d+, tfjs-core \d+\.\d+\.\d+$/);
    const kernels = {...adapter, weights: adapter.weights.filter(({parametrization}) => parametrization)};
    expect(kernels.weights).toHaveLength(3);
    const merged = await reloaded(model);
    await expect(mergeAdapter(merged, kernels)).rejects.toThrow(
      /merged into it already: hidden\/kernel without/,
    );
    await unmergeAdapter(merged, kernels);
    const left = numbers(merged);
    for (const {path} of kernels.weights) expect(relativeError(left[path]!, base[path]!)).toBeLessThan(1e-5);
    // Taken off twice it would be subtracted from the base.
    await expect(unmergeAdapter(merged, kernels)).rejects.toThrow(
      /does not have this adapter merged into it/,
    );
    expect(numbers(merged)).toEqual(left);
  });
});

onEachBackend('merging', () => {
  test('by part: W0 + scale (Phi - W0), and off again', async () => {
    for (const p of [lora({rank: 2, alpha: 6}), dora({rank: 2})]) {
      const model = weights();
      const {adapter, base, trained} = await learned(model, p, {rest: 'train', keepBase: true});
      for (const scale of [0.5, -1, 2, 0]) {
        await mergeAdapter(model, adapter, {scale, keepBase: true});
        const wanted = Object.fromEntries(
          Object.entries(base).map(([path, w0]) => [
            path,
            w0.map((v, i) => v + scale * (trained[path]![i]! - v)),
          ]),
        );
        expect(worst(numbers(model), wanted)).toBeLessThan(2e-6);
        if (scale === 0) expect(numbers(model)).toEqual(base);
        await unmergeAdapter(model, adapter);
        expect(numbers(model)).toEqual(base);
      }
    }
    const model = weights();
    const {adapter, base} = await learned(model, lora({rank: 2}), {targets: isMatrix});
    await mergeAdapter(model, adapter, {scale: 0.25});
    await unmergeAdapter(model, copy(adapter));
    expect(worst(numbers(model), base)).toBeLessThan(1e-6);
  });

  test('one on top of another, and off in any order', async () => {
    const model = weights();
    const one = await learned(model, lora({rank: 2}), {}, 1);
    const two = await learned(model, lora({rank: 3}), {}, 2);
    const {base} = one;
    await mergeAdapter(model, one.adapter, {keepBase: true});
    await expect(mergeAdapter(model, two.adapter)).rejects.toThrow(/trained on another model/);
    const first = numbers(model);
    await mergeAdapter(model, two.adapter, {keepBase: true, base: 'ignore'});
    await unmergeAdapter(model);
    expect(numbers(model)).toEqual(first);
    await unmergeAdapter(model);
    expect(numbers(model)).toEqual(base);
    await expect(unmergeAdapter(model)).rejects.toThrow(/merged no adapter/);

    await mergeAdapter(model, one.adapter, {keepBase: true});
    await mergeAdapter(model, two.adapter, {keepBase: true, base: 'ignore'});
    await unmergeAdapter(model, one.adapter);
    await unmergeAdapter(model, two.adapter);
    expect(worst(numbers(model), base)).toBeLessThan(2e-6);
  });

  test('keeps bases until they are given back or forgotten', async () => {
    const model = weights();
    const {adapter, base} = await learned(model, lora({rank: 2}));
    const start = numTensors();
    await mergeAdapter(model, adapter, {keepBase: true});
    expect(numTensors()).toBe(start + adapter.weights.length);
    forgetBases(model);
    expect(numTensors()).toBe(start);
    await unmergeAdapter(model);
    expect(worst(numbers(model), base)).toBeLessThan(2e-6);
    expect(numTensors()).toBe(start);
  });

  test('leaves the arrays of the adapter alone', async () => {
    const model = weights();
    const {adapter} = await learned(model, lora({rank: 2}), {rest: 'train', keepBase: true});
    await mergeAdapter(model, adapter);
    adapter.weights.at(-1)!.factors['weight']!.values.fill(7);
    expect(values(model['b/bias'])).not.toContain(7);
  });

  test('while an optimizer is attached: differences are added to what was merged', async () => {
    const model = weights();
    const {adapter, base} = await learned(model, lora({rank: 2}), {targets: isMatrix}, 1);
    const optimizer = train(model, lora({rank: 2}), {targets: isMatrix}, 2, 2);
    const moved = numbers(model);
    await mergeAdapter(model, adapter, {base: 'ignore'});
    const both = numbers(model);
    const step = () =>
      tf.tidy(() => optimizer.applyGradients([{name: model['a/kernel'].name, tensor: normal([40, 30], 77)}]));
    step();
    // The same step without the merge goes the same way.
    const after = numbers(model);
    const optimizer2 = (restore(model, base), train(model, lora({rank: 2}), {targets: isMatrix}, 2, 2));
    tf.tidy(() => optimizer2.applyGradients([{name: model['a/kernel'].name, tensor: normal([40, 30], 77)}]));
    const alone = numbers(model);
    const difference = (x: typeof base, y: typeof base) =>
      x['a/kernel']!.map((v, i) => v - y['a/kernel']![i]!);
    expect(relativeError(difference(after, both), difference(alone, moved))).toBeLessThan(1e-3);
    restore(model, after);
    // What was learned since stays when the adapter is taken off; it is not certain that it is there, so it is asked for.
    await expect(unmergeAdapter(model, adapter)).rejects.toThrow(/or was trained on since/);
    await unmergeAdapter(model, adapter, {base: 'ignore'});
    expect(worst(numbers(model), alone)).toBeLessThan(1e-5);
    // And the base that such an optimizer implies has the merge in it.
    optimizer.dispose();
    optimizer2.dispose();
  });

  test('while an optimizer with a kept base is attached is undone by its next step', async () => {
    const model = weights();
    const {adapter, base} = await learned(model, lora({rank: 2}), {targets: isMatrix}, 1);
    const run = async (merge: boolean) => {
      restore(model, base);
      const optimizer = train(model, lora({rank: 2}), {targets: isMatrix, keepBase: true}, 2, 2);
      if (merge) await mergeAdapter(model, adapter, {base: 'ignore'});
      tf.tidy(() => optimizer.applyGradients([{name: model['a/kernel'].name, tensor: normal([40, 30], 77)}]));
      optimizer.dispose();
      return numbers(model);
    };
    expect(await run(true)).toEqual(await run(false));
  });
});

onEachBackend('what does not fit changes nothing', () => {
  const attempts: [
    string,
    () => Promise<{model: tf.LayersModel; adapter: Adapter; options?: object}>,
    RegExp,
  ][] = [
    [
      'a layer that is not there',
      async () => ({model: mlp(['hidden', 'midle', 'out']), adapter: (await learned(mlp())).adapter}),
      /the adapter is for another model: it has no middle\/kernel \[8,8\]; the nearest are midle\/kernel \[8,8\], .*Nothing was changed/,
    ],
    [
      'another shape',
      async () => {
        const {adapter} = await learned(mlp());
        const model = tf.sequential({
          layers: [
            tf.layers.dense({name: 'hidden', inputShape: [7], units: 8}),
            tf.layers.dense({name: 'middle', units: 8}),
          ],
        });
        return {model, adapter};
      },
      /hidden\/kernel is \[7,8\] in it and \[6,8\] in the adapter/,
    ],
    [
      'another seed',
      async () => ({model: mlp(undefined, 5), adapter: (await learned(mlp())).adapter}),
      /trained on another model: hidden\/kernel has norm [\d.]+ there and [\d.]+ here; other numbers also in middle\/kernel, out\/kernel\. Nothing/,
    ],
    [
      'a model that has it merged already',
      async () => {
        const model = mlp();
        const {adapter} = await learned(model);
        await mergeAdapter(model, adapter);
        return {model, adapter: copy(adapter)};
      },
      /has this adapter merged into it already \(hidden\/kernel\)/,
    ],
    [
      'a scale that overflows',
      async () => {
        const model = mlp();
        return {model, adapter: (await learned(model)).adapter, options: {scale: 1e300}};
      },
      /hidden\/kernel with the adapter holds NaN or infinity/,
    ],
    [
      'NaN in a factor',
      async () => {
        const model = mlp();
        const adapter = copy((await learned(model)).adapter);
        adapter.weights[1]!.factors['a']!.values[0] = NaN;
        return {model, adapter};
      },
      /middle\/kernel with the adapter holds NaN/,
    ],
    [
      'factors of another shape, that would be broadcast',
      async () => {
        const model = mlp();
        const adapter = copy((await learned(model)).adapter);
        const {factors} = adapter.weights[1]! as {factors: Record<string, object>};
        factors['a'] = {shape: [1, 2], values: new Float32Array(2)};
        return {model, adapter};
      },
      /a \[1,2\], b \[2,8\] are no factors of lora for middle\/kernel \[8,8\]: they make a change of \[1,8\] where \[8,8\]/,
    ],
    [
      'a factor that is missing',
      async () => {
        const model = mlp();
        const adapter = copy((await learned(model)).adapter);
        delete (adapter.weights[1]!.factors as Record<string, object>)['b'];
        return {model, adapter};
      },
      /are no factors of lora for middle\/kernel/,
    ],
    [
      'an empty adapter',
      async () => ({model: mlp(), adapter: {weights: [], generatedBy: '', metadata: {}}}),
      /the adapter is empty/,
    ],
    [
      'a weight named twice',
      async () => {
        const model = mlp();
        const {adapter} = await learned(model);
        return {model, adapter: {...adapter, weights: [...adapter.weights, adapter.weights[0]!]}};
      },
      /two weights for hidden\/kernel/,
    ],
    [
      'an option that is none',
      async () => ({model: mlp(), adapter: (await learned(mlp())).adapter, options: {skale: 1}}),
      /unknown option 'skale'/,
    ],
    [
      'a scale that is none',
      async () => ({model: mlp(), adapter: (await learned(mlp())).adapter, options: {scale: NaN}}),
      /scale must be a number/,
    ],
  ];

  test.each(attempts)('%s', async (_, prepare, message) => {
    const {model, adapter, options} = await prepare();
    const before = numbers(model);
    const left = await tensorsLeftBy(() =>
      expect(mergeAdapter(model, adapter, options)).rejects.toThrow(message),
    );
    expect(left).toBe(0);
    expect(numbers(model)).toEqual(before);
  });

  test('a step in between', async () => {
    const model = mlp();
    const {adapter, base} = await learned(model);
    const variable = namedWeights(model).get('middle/kernel')!;
    const merging = mergeAdapter(model, adapter);
    tf.tidy(() => variable.assign(tf.ones(variable.shape)));
    await expect(merging).rejects.toThrow(/middle\/kernel was changed by something else/);
    expect({...numbers(model), 'middle/kernel': base['middle/kernel']}).toEqual(base);
  });

  test('unmerge of what cannot be taken off', async () => {
    const model = weights();
    const {adapter} = await learned(model, dora({rank: 2}), {keepBase: true});
    await expect(unmergeAdapter(model, adapter)).rejects.toThrow(
      /depends on the base, and this program has not merged it/,
    );
    await mergeAdapter(model, adapter, {keepBase: true});
    tf.tidy(() => model['a/kernel'].assign(tf.ones([40, 30])));
    await expect(unmergeAdapter(model, adapter)).rejects.toThrow(/a\/kernel cannot .* was changed since/);
    forgetBases(model);
  });
});

describe('what an optimizer has no adapter of', () => {
  test('nothing, refreshed weights, weights of another model', async () => {
    await tf.setBackend('cpu');
    const model = mlp();
    const idle = train(model, lora({rank: 2}), {}, 0);
    const refreshed = train(model, lora({rank: 2}), {refresh: step => step % 2 === 1, moments: 'reset'}, 4);
    const trained = train(model, lora({rank: 2}), {}, 2);
    const other = mlp(['x', 'y', 'z']);
    const left = await tensorsLeftBy(async () => {
      await expect(adapterOf(idle, model)).rejects.toThrow(/nothing was trained yet/);
      await expect(adapterOf(refreshed, model)).rejects.toThrow(
        /hidden\/kernel.* \[6,8\], middle\/kernel.* \[8,8\], out\/kernel.* \[8,3\] were refreshed.*extractAdapter/,
      );
      await expect(adapterOf(trained, other)).rejects.toThrow(
        /hidden\/kernel.* were trained, and the model given does not/,
      );
      await expect(adapterOf(trained, model, {metadata: {n: 1} as never})).rejects.toThrow(
        /'n' must be text/,
      );
      await adapterOf(trained, model);
    });
    expect(left).toBe(0);
    for (const optimizer of [idle, refreshed, trained]) optimizer.dispose();
  });

  test('is one moment, though training goes on while it is read', async () => {
    await tf.setBackend('cpu');
    const model = weights();
    const optimizer = train(model, lora({rank: 2}), {rest: 'train', keepBase: true}, 2);
    const then = await adapterOf(optimizer, model);
    const later = adapterOf(optimizer, model);
    tf.tidy(() =>
      optimizer.applyGradients(Object.values(model).map(w => ({name: w.name, tensor: normal(w.shape, 5)}))),
    );
    expect((await later).weights).toEqual(then.weights);
    expect((await adapterOf(optimizer, model)).weights).not.toEqual(then.weights);
    optimizer.dispose();
  });

  test('of weights that nobody has the base of comes no print', async () => {
    await tf.setBackend('cpu');
    const model = weights();
    for (const keepBase of [false, true]) {
      const {adapter} = await learned(model, full(), {
        targets: [
          [isMatrix, full()],
          [/./, 'train'],
        ],
        keepBase,
      });
      expect(adapter.weights.map(({base}) => base !== null)).toEqual([true, keepBase, keepBase]);
    }
  });
});
