import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {
  cosine,
  every,
  full,
  lora,
  loraAdam,
  orthogonal,
  projected,
  ProjectedOptimizer,
  recipe,
  symmetric,
} from '../../src/index.js';
import {expectClose, numTensors, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';
import {kernel, losses, mlp, variable, weightsOf} from './models.js';

/** Through the memory handler, as `model.save` and `tf.loadLayersModel` do it. */
async function throughMemory(model: tf.LayersModel): Promise<tf.io.ModelArtifacts> {
  let artifacts: tf.io.ModelArtifacts | undefined;
  const handler = tf.io.withSaveHandler(async given => {
    artifacts = given;
    return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
  });
  await model.save(handler, {includeOptimizer: true});
  return artifacts!;
}

/** As any file does it: all but the weight data becomes text. */
async function throughText(model: tf.LayersModel): Promise<tf.io.ModelArtifacts> {
  const {weightData, ...rest} = await throughMemory(model);
  const bytes = Array.from(new Uint8Array(weightData as ArrayBuffer));
  const {data, ...parsed} = JSON.parse(JSON.stringify({...rest, data: bytes})) as tf.io.ModelArtifacts & {
    data: number[];
  };
  return {...parsed, weightData: Uint8Array.from(data).buffer};
}

const load = async (artifacts: tf.io.ModelArtifacts) =>
  (await tf.loadLayersModel(tf.io.fromMemory(artifacts))) as tf.Sequential;

const optimizerOf = (model: tf.LayersModel) => model.optimizer as ProjectedOptimizer;

function compiled(optimizer: tf.Optimizer): tf.Sequential {
  const model = mlp();
  model.compile({optimizer, loss: 'meanSquaredError'});
  return model;
}

/** Bit by bit, on wasm too. */
const expectSame = (actual: number[], expected: number[]) => expect(actual).toEqual(expected);

/** Six steps, save, load, five more: the losses of the five, and of the run that was not interrupted. */
async function resume(make: () => tf.Optimizer, save = throughMemory, before = 6) {
  const whole = await losses(compiled(make()), before + 5);
  const model = compiled(make());
  await losses(model, before);
  const loaded = await load(await save(model));
  expect(loaded.optimizer).not.toBe(model.optimizer);
  expect(optimizerOf(loaded).iterations).toBe(optimizerOf(model).iterations);
  return {resumed: await losses(loaded, 5), uninterrupted: whole.slice(before), loaded, model};
}

onEachBackend('saving and loading with the optimizer in the model file', () => {
  it.each(OPTIMIZER_NAMES)('C42 the next five losses equal those of an uninterrupted run: %s', async name => {
    const {resumed, uninterrupted} = await resume(() => projected(OPTIMIZERS[name](), lora({rank: 2})));
    expectSame(resumed, uninterrupted);
    expect(new Set(resumed).size).toBe(5);
  });

  const options: [string, () => ProjectedOptimizer][] = [
    ['loraAdam', () => loraAdam(0.01, {rank: 2, alpha: 4, rankStabilised: true})],
    ['bias trained too', () => loraAdam(0.01, {rank: 2, rest: 'train'})],
    ['keepBase', () => loraAdam(0.01, {rank: 2, keepBase: true, rest: 'train'})],
    ['weightDecay', () => loraAdam(0.01, {rank: 2, weightDecay: 0.1, rest: 'train'})],
    ['clipNorm', () => loraAdam(0.01, {rank: 2, clipNorm: 0.01})],
    ['a schedule', () => loraAdam(cosine(0.02, {steps: 20, warmup: 3}), {rank: 2})],
    ['a symmetric start', () => loraAdam(0.01, {rank: 2, init: symmetric({std: 0.5})})],
    ['refresh, moments kept', () => loraAdam(0.01, {rank: 2, refresh: every(4), moments: 'keep', seed: 3})],
    ['refresh, moments reset', () => loraAdam(0.01, {rank: 2, refresh: every(4), moments: 'reset'})],
    [
      'refresh, keepBase and weightDecay',
      () => loraAdam(0.01, {rank: 2, refresh: every(4), moments: 'keep', keepBase: true, weightDecay: 0.1}),
    ],
    ['full', () => projected(OPTIMIZERS.adam(), full(), {targets: /.*/})],
    [
      'rules',
      () =>
        projected(OPTIMIZERS.momentum(), lora({rank: 2}), {
          targets: [
            [/hidden/, lora({rank: 1, init: orthogonal({gain: 0.5})})],
            [/bias/, 'train'],
            ['out', full()],
          ],
        }),
    ],
  ];
  it.each(options)('C42 also through JSON: %s', async (_, make) => {
    const {resumed, uninterrupted} = await resume(make, throughText);
    expectSame(resumed, uninterrupted);
  });

  it('C42 in the middle of a cycle of accumulated gradients', async () => {
    const make = () => loraAdam(0.02, {rank: 2, accumulate: 4});
    const {resumed, uninterrupted, loaded} = await resume(make, throughText, 6);
    expectSame(resumed, uninterrupted);
    // 6 + 5 gradients are two full cycles of four.
    expect(optimizerOf(loaded).iterations).toBe(2);
  });

  it('C42 in the middle of the very first cycle, when the inner optimizer has not moved yet', async () => {
    const make = () => loraAdam(0.02, {rank: 2, accumulate: 4});
    const {resumed, uninterrupted} = await resume(make, throughText, 2);
    expectSame(resumed, uninterrupted);
  });

  it('C42 before the first step', async () => {
    const {resumed, uninterrupted} = await resume(() => loraAdam(0.02, {rank: 2}), throughText, 0);
    expectSame(resumed, uninterrupted);
  });

  const perFactor = () =>
    projected(({factor}) => tf.train.adam(factor === 'b' ? 0.04 : 0.01, 0.9, 0.999, 1e-7), lora({rank: 2}));

  it('C42 with an inner optimizer for each factor', async () => {
    const {resumed, uninterrupted} = await resume(perFactor, throughText);
    expectSame(resumed, uninterrupted);
  });

  it.each([
    ['one inner optimizer', () => loraAdam(0.02, {rank: 2, weightDecay: 0.1})],
    ['one for each factor', perFactor],
  ])('C42 saved, loaded and saved again without a step in between: %s', async (_, make) => {
    const whole = await losses(compiled(make()), 11);
    const model = compiled(make());
    await losses(model, 6);
    const once = await throughText(model);
    const twice = await throughText(await load(once));
    expect(twice.weightSpecs).toEqual(once.weightSpecs);
    expect(twice.trainingConfig).toEqual(once.trainingConfig);
    expectSame(await losses(await load(twice), 5), whole.slice(6));
  });

  it('C42 loaded twice, both go on alike', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 6);
    const artifacts = await throughText(model);
    const [first, second] = [await load(artifacts), await load(artifacts)];
    const expected = await losses(model, 5);
    expectSame(await losses(first, 5), expected);
    expectSame(await losses(second, 5), expected);
  });

  it('C45 works when the names changed on loading, whatever kind of pattern names the targets', async () => {
    for (const targets of [/kernel$/, 'hidden/kernel', ['hidden', 'out'], /^out\/kernel$/]) {
      const {resumed, uninterrupted, model, loaded} = await resume(
        () => loraAdam(0.02, {rank: 2, targets}),
        throughText,
      );
      expectSame(resumed, uninterrupted);
      expect(variable(loaded, 'hidden').name).not.toBe(variable(model, 'hidden').name);
    }
  });

  it('C38 saving leaks nothing, and loading adds the weights and the state, all of it disposable', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2, keepBase: true}));
    await losses(model, 2);
    // Moments that were packed lie apart from now on, until the steps to come.
    const artifacts = await throughMemory(model);
    const before = numTensors();
    await throughMemory(model);
    await throughMemory(model);
    expect(numTensors()).toBe(before);
    const loaded = await load(artifacts);
    await losses(loaded, 3);
    loaded.optimizer.dispose();
    loaded.dispose();
    expect(numTensors()).toBe(before);
    const unused = await load(artifacts);
    unused.optimizer.dispose();
    unused.dispose();
    expect(numTensors()).toBe(before);
  });

  it('C38 two saves at once write the same file', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 2);
    const [first, second] = await Promise.all([throughText(model), throughText(model)]);
    expect(second).toEqual(first);
  });

  it('C40 the config is JSON, survives what tfjs does to keys and strings, and builds the same again', async () => {
    const make = () =>
      projected(tf.train.rmsprop(0.01, 0.9, 0, 1e-7), lora({rank: 2, init: symmetric({std: 0.5})}), {
        targets: [
          [/snake_case/i, lora({rank: 1})],
          ['a_b/c_d', 'train'],
        ],
        learningRate: cosine(0.01, {steps: 10}),
        clipNorm: 3,
      });
    const config = make().getConfig();
    expect(Object.keys(config)).toEqual(['name']);
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
    const again = ProjectedOptimizer.fromConfig(ProjectedOptimizer as never, {...config, customObjects: {}});
    expect((again as ProjectedOptimizer).getConfig()).toEqual(config);
  });

  it('C41 the inner optimizer is stored by class name and settings, a custom one too once it is registered', async () => {
    class HalfSpeed extends tf.SGDOptimizer {
      static override get className() {
        return 'HalfSpeedTest';
      }
      constructor(readonly rate: number) {
        super(rate / 2);
      }
      override getConfig() {
        return {rate: this.rate};
      }
      static override fromConfig(cls: never, config: {rate: number}) {
        return new (cls as typeof HalfSpeed)(config.rate) as never;
      }
    }
    const make = () => projected(new HalfSpeed(0.2), lora({rank: 2}));
    const artifacts = await throughText(compiled(make()));
    await expect(load(artifacts)).rejects.toThrow(/HalfSpeedTest, which is not registered/);
    tf.serialization.registerClass(HalfSpeed as never);
    const {resumed, uninterrupted} = await resume(make, throughText);
    delete tf.serialization.SerializationMap.getMap().classNameMap['HalfSpeedTest'];
    expectSame(resumed, uninterrupted);
  });

  it('C43 getWeights starts with iter, an int32 scalar; all names differ from each other and from the model', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2, keepBase: true, weightDecay: 0.1, accumulate: 2}));
    await losses(model, 3);
    const saved = await optimizerOf(model).getWeights();
    expect(saved[0]!.name).toBe('iter');
    expect(saved[0]!.tensor.dtype).toBe('int32');
    expect(saved[0]!.tensor.shape).toEqual([]);
    expect(values(saved[0]!.tensor)).toEqual([1]);
    const names = [...saved.map(({name}) => name), ...model.weights.map(w => w.name)];
    expect(new Set(names).size).toBe(names.length);
  });

  it('C44 setWeights copies what it is given, before any step, and binds by position when all names are new', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 4);
    const saved = (await optimizerOf(model).getWeights()).map(({name, tensor}) => ({
      name,
      tensor: tensor.clone(),
    }));
    const expected = await losses(model, 5);

    const other = tf.sequential({
      layers: [
        tf.layers.dense({name: 'first', inputShape: [6], units: 8, activation: 'tanh'}),
        tf.layers.dense({name: 'second', units: 3}),
      ],
    });
    const optimizer = loraAdam(0.02, {rank: 2});
    await optimizer.setWeights(saved);
    saved.forEach(({tensor}) => tensor.dispose());
    const again = compiled(loraAdam(0.02, {rank: 2}));
    await losses(again, 4);
    other.setWeights(again.getWeights());
    other.compile({optimizer, loss: 'meanSquaredError'});
    expectSame(await losses(other, 5), expected);
  });

  it('C44 setWeights checks shapes when it binds, and says for which weight', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 2);
    const other = tf.sequential({
      layers: [
        tf.layers.dense({name: 'hidden', inputShape: [6], units: 9}),
        tf.layers.dense({name: 'out', units: 3}),
      ],
    });
    const optimizer = loraAdam(0.02, {rank: 2});
    await optimizer.setWeights(await optimizerOf(model).getWeights());
    other.compile({optimizer, loss: 'meanSquaredError'});
    const before = weightsOf(other);
    await expect(losses(other, 1)).rejects.toThrow(/\[6,8\].*hidden\/kernel\S* \[6,9\]/);
    expect(weightsOf(other)).toEqual(before);

    const ranked = compiled(loraAdam(0.02, {rank: 1}));
    await ranked.optimizer.setWeights(await optimizerOf(model).getWeights());
    await expect(projected(tf.train.sgd(1), full()).setWeights([])).rejects.toThrow(/not the weights of/);
  });

  it('C44 an optimizer takes its own weights back', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 4);
    const artifacts = await throughText(model);
    const before = numTensors();
    await optimizerOf(model).setWeights(await optimizerOf(model).getWeights());
    const expected = await losses(await load(artifacts), 5);
    expectSame(await losses(model, 5), expected);
    expect(numTensors()).toBeGreaterThan(before);
  });

  it('C45 a weight that comes later under an unknown name starts anew, not with the state of another', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2}));
    await losses(model, 4);
    const loaded = await load(await throughText(model));
    const optimizer = optimizerOf(loaded);
    const hidden = variable(loaded, 'hidden');
    const loss = (w: tf.Variable) => () => tf.sum(tf.square(w)) as tf.Scalar;
    optimizer.minimize(loss(hidden), false, [hidden]);
    // As large as out/kernel, whose state is still waiting.
    const late = tf.variable(tf.ones([8, 3]), true, 'late');
    const a = values(variable(model, 'out')).length;
    expect(a).toBe(24);
    optimizer.minimize(loss(late), false, [late]);
    const saved = optimizerOf(model).factors(variable(model, 'out'));
    expect(values(optimizer.factors(late)['a']!)).not.toEqual(values(saved['a']!));
    expectClose(values(optimizer.base(late)), values(tf.ones([8, 3])), 1e-6);
    const out = variable(loaded, 'out');
    optimizer.setLearningRate(0);
    optimizer.minimize(loss(out), false, [out]);
    expect(values(optimizer.factors(out)['a']!)).toEqual(values(saved['a']!));
  });

  it('C45 numbered names of one model find their own state after loading', async () => {
    const [w1, w2, k] = ['w_1', 'w_2', 'k'].map((name, i) =>
      tf.variable(tf.ones([8, 6]).mul(i + 1), true, `numbered/${name}`),
    ) as [tf.Variable, tf.Variable, tf.Variable];
    const loss =
      (...weights: tf.Variable[]) =>
      () =>
        tf.addN(weights.map(w => tf.sum(tf.square(w)))) as tf.Scalar;
    const optimizer = loraAdam(0.02, {rank: 2});
    optimizer.minimize(loss(w1, w2, k), false, [w1, w2, k]);
    const other = loraAdam(0.02, {rank: 2});
    await other.setWeights(await optimizer.getWeights());
    // What tfjs calls them when the same model is made again beside the first.
    const again = [w1, w2, k].map(w => tf.variable(w, true, `${w.name}_1`));
    other.setLearningRate(0);
    other.minimize(loss(...again), false, again);
    again.forEach((w, i) => {
      const known = optimizer.factors([w1, w2, k][i]!);
      expect(values(other.factors(w)['b']!)).toEqual(values(known['b']!));
    });
  });

  it('C44 state that waits for a weight that is frozen now is kept, and saved again', async () => {
    const model = compiled(perFactor());
    await losses(model, 4);
    const loaded = await load(await throughText(model));
    loaded.getLayer('hidden').trainable = false;
    loaded.compile({optimizer: loaded.optimizer, loss: 'meanSquaredError'});
    await losses(loaded, 2);
    const again = await load(await throughText(loaded));
    const state = async (of: tf.LayersModel) => {
      const saved = await optimizerOf(of).getWeights();
      return values(saved.find(({name}) => name === 'tfjs-lora/weight/0/factors/b')!.tensor);
    };
    const hidden = variable(model, 'hidden');
    expect(await state(again)).toEqual(values(optimizerOf(model).factors(hidden)['b']!));
    again.getLayer('hidden').trainable = true;
    again.compile({optimizer: again.optimizer, loss: 'meanSquaredError'});
    await losses(again, 2);
    expect(await state(again)).not.toEqual(await state(loaded));
  });

  it('C44 in the first cycle of accumulation a state can be loaded for some of its weights only', async () => {
    const model = compiled(loraAdam(0.02, {rank: 2, accumulate: 2}));
    await losses(model, 1);
    const loaded = await load(await throughText(model));
    loaded.getLayer('hidden').trainable = false;
    loaded.compile({optimizer: loaded.optimizer, loss: 'meanSquaredError'});
    const before = kernel(loaded, 'out');
    await losses(loaded, 1);
    expect(kernel(loaded, 'out')).not.toEqual(before);
    // The others come back, and their moments have the shapes that are theirs.
    loaded.getLayer('hidden').trainable = true;
    loaded.compile({optimizer: loaded.optimizer, loss: 'meanSquaredError'});
    const hidden = kernel(loaded, 'hidden');
    await losses(loaded, 2);
    expect(kernel(loaded, 'hidden')).not.toEqual(hidden);
  });

  it('C40 what a file cannot hold says so when it is needed, not when the model is loaded', async () => {
    const mine = (): number => 0.01;
    const make = () => loraAdam(mine, {rank: 2, targets: ({name}) => name.includes('kernel')});
    const model = compiled(make());
    await losses(model, 2);
    const artifacts = await throughText(model);
    const loaded = await load(artifacts);
    await expect(losses(loaded, 1)).rejects.toThrow(
      /`targets` was a function of yours.*getWeights|saved weights/s,
    );
    // The way out that the message names.
    const optimizer = make();
    await optimizer.setWeights(await optimizerOf(loaded).getWeights());
    const expected = await losses(model, 5);
    loaded.compile({optimizer, loss: 'meanSquaredError'});
    expectSame(await losses(loaded, 5), expected);
  });

  it('C40 a factory of your own is written by its recipe', async () => {
    const constant = recipe('savingTest/constant', (rate: number) => () => rate);
    const {resumed, uninterrupted} = await resume(() => loraAdam(constant(0.02), {rank: 2}), throughText);
    expectSame(resumed, uninterrupted);
  });

  it('C46 importing the package registers the class, and in another copy of tfjs-core it can be registered by hand', () => {
    const map = tf.serialization.SerializationMap.getMap().classNameMap;
    expect(map['ProjectedOptimizer']![0]).toBe(ProjectedOptimizer);
  });

  it("C47 without the package a file with this optimizer fails with tfjs's own message", async () => {
    const artifacts = await throughText(compiled(loraAdam(0.02, {rank: 2})));
    const map = tf.serialization.SerializationMap.getMap().classNameMap;
    const entry = map['ProjectedOptimizer']!;
    delete map['ProjectedOptimizer'];
    await expect(load(artifacts)).rejects.toThrow(/Unknown layer: ProjectedOptimizer/);
    map['ProjectedOptimizer'] = entry;
  });
});
