import type {Tensor} from '@tensorflow/tfjs-core';

/** What tfjs-layers' BaseCallback has, which is more than a callback needs: that of a list must have all of it. */
export interface FitCallback {
  validationData: Tensor | Tensor[];
  params: Record<string, number | string | boolean | number[] | string[] | boolean[]>;
  setParams(params: unknown): void;
  setModel(model: unknown): void;
  onTrainBegin(logs?: unknown): Promise<void>;
  onTrainEnd(logs?: unknown): Promise<void>;
  onEpochBegin(epoch: number, logs?: unknown): Promise<void>;
  onEpochEnd(epoch: number, logs?: unknown): Promise<void>;
  onBatchBegin(batch: number, logs?: unknown): Promise<void>;
  onBatchEnd(batch: number, logs?: unknown): Promise<void>;
}

type Hooks = Partial<Pick<FitCallback, 'onTrainEnd' | 'onEpochBegin' | 'onEpochEnd' | 'onBatchEnd'>>;

/**
 * A callback for `model.fit` of tfjs-layers, alone or in a list with others of either kind.
 *
 * tfjs takes a list as it is when its first is a BaseCallback, such as tf.callbacks.earlyStopping or tf.CustomCallback;
 * else it makes a CustomCallback of each, which BaseCallbacks do not survive. So ours is to be what the others are, and
 * tells when it is asked: `instanceof` is answered for it, and for nothing else, by the list that was asked about just
 * before. Nothing but tfjs-core is imported here, so the class comes from the model.
 *
 * @param model The model that is trained. Of another kind than tfjs-layers', the callback is a plain object.
 */
export function fitCallback(model: unknown, hooks: Hooks): FitCallback {
  const nothing = async () => {};
  const callback: FitCallback = {
    validationData: null as never,
    params: {},
    setParams: () => {},
    setModel: () => {},
    onTrainBegin: nothing,
    onTrainEnd: nothing,
    onEpochBegin: nothing,
    onEpochEnd: nothing,
    onBatchBegin: nothing,
    onBatchEnd: nothing,
    ...hooks,
  };
  const base = baseCallbackOf(model);
  if (base) {
    kinds.set(callback, 'base');
    answerFor(base);
  }
  return callback;
}

type Class = abstract new () => object;

/** What each of ours is to be taken for. */
const kinds = new WeakMap<object, 'base' | 'plain'>();
const answering = new WeakSet<Class>();

function answerFor(base: Class): void {
  if (answering.has(base)) return;
  answering.add(base);
  const usual = (cls: unknown, value: unknown) =>
    Function.prototype[Symbol.hasInstance].call(cls as Class, value);
  // Where the class is frozen, the callback stays a plain object.
  Reflect.defineProperty(base, Symbol.hasInstance, {
    configurable: true,
    value(this: unknown, value: unknown): boolean {
      // Subclasses inherit this.
      if (this !== base || value === null || typeof value !== 'object') return usual(this, value);
      if (Array.isArray(value)) {
        const ours = value.filter(each => kinds.has(each as object)) as object[];
        const others = value.filter(each => !kinds.has(each as object));
        const arePlain = others.length > 0 && !others.some(each => usual(base, each));
        for (const each of ours) kinds.set(each, arePlain ? 'plain' : 'base');
      }
      return kinds.get(value) === 'base' || usual(base, value);
    },
  });
}

const found = new WeakMap<object, Class | null>();

/**
 * tfjs-layers' BaseCallback, of the copy that a model is from: `fitDataset`, before it waits for anything, hands the
 * model its History, which is one. The model it is run on here is none, and ends it there.
 */
function baseCallbackOf(model: unknown): Class | null {
  let fitDataset: unknown;
  for (let at: unknown = model; at && typeof at === 'object'; at = Object.getPrototypeOf(at) as unknown) {
    fitDataset = Object.getOwnPropertyDescriptor(at, 'fitDataset')?.value ?? fitDataset;
  }
  if (typeof fitDataset !== 'function') return null;
  const known = found.get(fitDataset);
  if (known !== undefined) return known;
  let history: unknown;
  const nobody = {
    optimizer: {},
    makeTrainFunction: () => () => [],
    getDedupedMetricsNames: () => [],
    set history(given: unknown) {
      history = given;
      throw new Error('this is all there is to see');
    },
  };
  const dataset = {size: 1, iterator: () => Promise.reject(new Error('no data'))};
  try {
    const running: unknown = fitDataset.call(nobody, dataset, {epochs: 1, batchesPerEpoch: 1, verbose: 0});
    Promise.resolve(running).catch(() => {});
  } catch {
    // Another tfjs-layers than those known: the callback stays a plain object.
  }
  const base = rootOf(history);
  found.set(fitDataset, base);
  return base;
}

function rootOf(history: unknown): Class | null {
  let base: Class | null = null;
  for (let at = history; at && typeof at === 'object'; at = Object.getPrototypeOf(at) as unknown) {
    if (Object.hasOwn(at, 'setParams') && Object.hasOwn(at, 'constructor')) base = at.constructor as Class;
  }
  return base;
}
