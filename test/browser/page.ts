/** What a page does with adapters and checkpoints; `run.mjs` calls it and judges what it gives. */
import * as tf from '@tensorflow/tfjs';
import {setWasmPaths} from '@tensorflow/tfjs-backend-wasm';
import {
  type Adapter,
  adapterOf,
  checkpoints,
  encodeAdapter,
  latestCheckpoint,
  loadAdapter,
  loadCheckpoint,
  readAdapter,
  saveAdapter,
} from '../../src/adapter/index.js';
import {loraAdam, type ProjectedOptimizer} from '../../src/index.js';

setWasmPaths('/wasm/');

const seeded = (seed: number) => tf.initializers.glorotUniform({seed});

/** The same at every call, on every page. Batch normalisation has weights that no optimizer moves. */
function build(): {model: tf.LayersModel; optimizer: ProjectedOptimizer} {
  const model = tf.sequential({
    layers: [
      tf.layers.conv2d({
        ...{filters: 6, kernelSize: 3, inputShape: [6, 6, 3], activation: 'relu', name: 'conv'},
        kernelInitializer: seeded(1),
      }),
      tf.layers.batchNormalization({name: 'norm'}),
      tf.layers.flatten({name: 'flat'}),
      tf.layers.dense({units: 12, activation: 'tanh', name: 'hidden', kernelInitializer: seeded(2)}),
      tf.layers.dense({units: 5, name: 'out', kernelInitializer: seeded(3)}),
    ],
  });
  const optimizer = loraAdam(0.01, {rank: 2, rest: 'train', keepBase: true});
  model.compile({optimizer, loss: 'meanSquaredError'});
  return {model, optimizer};
}

/** Takes the steps from one number to another; the data follows from the number. */
async function train(model: tf.LayersModel, from: number, to: number, after?: () => Promise<unknown>) {
  const numbers = (size: number, seed: number) =>
    Float32Array.from({length: size}, (_, i) => Math.sin(i * seed));
  for (let step = from; step < to; step++) {
    const x = tf.tensor(numbers(4 * 108, step + 1.3), [4, 6, 6, 3]);
    const y = tf.tensor(numbers(4 * 5, step + 2.7), [4, 5]);
    await model.trainOnBatch(x, y);
    tf.dispose([x, y]);
    await after?.();
  }
}

const bits = (weights: tf.LayerVariable[]) =>
  weights.map(weight => {
    const values = (weight.read().dataSync() as Float32Array).slice();
    return [...new Uint32Array(values.buffer)];
  });

async function trained() {
  const built = build();
  await train(built.model, 0, 4);
  return built;
}

/** The weights of a new model that an adapter is loaded into. */
async function loaded(source: string | tf.io.IOHandler): Promise<number[][]> {
  const {model} = build();
  await loadAdapter(model, source);
  return bits(model.trainableWeights);
}

const failing = (work: Promise<unknown>) =>
  work.then(
    () => 'it worked',
    (error: Error) => error.message,
  );

const page = {
  /** Whether there is such a backend. */
  start: (backend: string) => tf.setBackend(backend),

  async trained() {
    return {
      before: bits(build().model.trainableWeights),
      after: bits((await trained()).model.trainableWeights),
    };
  },

  /** IndexedDB and local storage, from the first save to an empty list. */
  async stores() {
    const {model} = await trained();
    const [first, second] = ['indexeddb://mine', 'localstorage://mine'];
    for (const address of [first, second]) await saveAdapter(model, address);
    const listed = Object.keys(await tf.io.listModels()).sort();
    const weights = [await loaded(first), await loaded(second)];
    await tf.io.copyModel(first, 'localstorage://copy');
    await tf.io.copyModel(second, 'indexeddb://copy');
    await tf.io.moveModel('localstorage://copy', 'localstorage://moved');
    for (const address of [first, second]) await tf.io.removeModel(address);
    const moved = Object.keys(await tf.io.listModels()).sort();
    for (const address of moved) weights.push(await loaded(address));
    const removed = [await failing(readAdapter(first)), await failing(readAdapter(second))];
    const asModel = await failing(tf.loadLayersModel('indexeddb://copy'));
    // A second save to one address takes the place of the first.
    const other = build();
    await train(other.model, 0, 1);
    await saveAdapter(other.model, 'indexeddb://copy');
    const isReplaced =
      String(await loaded('indexeddb://copy')) === String(bits(other.model.trainableWeights));
    for (const address of moved) await tf.io.removeModel(address);
    return {
      listed,
      moved,
      weights,
      removed,
      asModel,
      isReplaced,
      left: Object.keys(await tf.io.listModels()),
    };
  },

  /** Saves what was trained to any address: `downloads://`, or a server that takes uploads. */
  async save(address: string) {
    await saveAdapter((await trained()).model, address);
  },

  async safetensors(): Promise<number[]> {
    const {model, optimizer} = await trained();
    return [...encodeAdapter(await adapterOf(optimizer, model))];
  },

  loaded,

  /** Files that someone chose on the page. */
  async chosen(): Promise<number[][]> {
    const files = Array.from(document.querySelector('input')!.files!);
    const isOne = files.length === 1;
    return loaded(isOne ? ((await files[0]!.arrayBuffer()) as never) : tf.io.browserFiles(files));
  },

  refused: (address: string) => failing(readAdapter(address) as Promise<Adapter>),

  /** All the steps without a break, and all the weights. */
  async whole() {
    const {model} = build();
    await train(model, 0, 9);
    return bits(model.weights);
  },

  /** The first steps, saving every other; what is there in the end. */
  async begin(folder: string) {
    const {model} = build();
    const keeper = checkpoints(model, folder, {every: {steps: 2}, keep: 2, data: () => ({page: 1})});
    await train(model, 0, 7, () => keeper.step());
    return Object.keys(await tf.io.listModels())
      .filter(address => address.startsWith(folder))
      .sort();
  },

  /** Goes on from the newest that is whole. */
  async goOn(folder: string) {
    const {model, optimizer} = build();
    const address = await latestCheckpoint(folder);
    const {step, data} = await loadCheckpoint(optimizer, address!, {model});
    await train(model, step, 9);
    return {address, step, data, weights: bits(model.weights)};
  },

  async clear() {
    for (const address of Object.keys(await tf.io.listModels())) await tf.io.removeModel(address);
  },

  /** Changes one character of the numbers of a checkpoint in local storage. */
  damage(address: string) {
    const name = address.replace('localstorage://', '');
    const key = `tensorflowjs_models/${name}/weight_data`;
    const text = localStorage.getItem(key)!;
    localStorage.setItem(key, (text.startsWith('A') ? 'B' : 'A') + text.slice(1));
  },
};

export type Page = typeof page;
(globalThis as unknown as {page: Page}).page = page;
