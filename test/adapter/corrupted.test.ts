import {setFlagsFromString} from 'node:v8';
import {runInNewContext} from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import {beforeAll, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {toArtifacts} from '../../src/adapter/artifacts.js';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {fromKeras, toKeras} from '../../src/adapter/keras.js';
import {mergeAdapter} from '../../src/adapter/merge.js';
import {fromPeft, toPeft} from '../../src/adapter/index.js';
import {decodeSafetensors} from '../../src/adapter/safetensors.js';
import {readAdapter} from '../../src/adapter/save.js';
import {
  additive,
  dora,
  flora,
  full,
  galore,
  hadamard,
  kronecker,
  lora,
  loraAdam,
  loraXS,
  normal,
  randomProjection,
  vera,
} from '../../src/index.js';
import {loadCheckpoint, saveCheckpoint} from '../../src/resume/index.js';
import {numTensors, values} from '../helpers.js';
import {matrix} from '../parametrizations/exercise.js';
import {
  type Damage,
  dice,
  editHeader,
  fileDamages,
  type Json,
  listDamages,
  metadataDamage,
  NEVER_LOADED,
  NEVER_READ,
  open,
  type Stored,
  storedDamages,
  textDamages,
} from './damages.js';
import {
  type Meant,
  meantByKeras,
  meantByOurs,
  meantByPeft,
  type Numbers,
  readContainer,
  readStored,
} from './second-reader.js';
import {adapterWith, weightOf, wholeWeight} from './situations.js';

/**
 * Ten thousand files that somebody damaged, by accident or not. Each must end in one line that helps, with the model as
 * it was, or, where the damage says nothing false, in the weights that a second reader finds the file to mean.
 */
const CASES = {ours: 6800, 'tfjs artifacts': 1300, PEFT: 1100, Keras: 400, checkpoints: 400};

/** A damaged file may take so long, in milliseconds: far more than any takes, and far less than a trap would. */
const LONGEST = 5000;

beforeAll(() => tf.setBackend('cpu'));

const SHAPE = [6, 4] as const;
const parametrizations = {
  lora: lora({rank: 2}),
  dora: dora({rank: 2}),
  vera: vera({rank: 3}),
  flora: flora({rank: 2}),
  random: randomProjection({rank: 2}),
  left: randomProjection({rank: 1, sides: 'left', distribution: 'orthonormal'}),
  kronecker: kronecker({rank: 1}),
  hadamard: hadamard({rank: 1}),
  additive: additive({rank: 2, form: 'orthogonal'}),
  galore: galore({rank: 2, side: 'both'}),
  loraXS: loraXS({rank: 2}),
  full: full(),
};

type Model = Record<string, tf.Variable>;

const modelFor = (path: string, seed: number): Record<string, tf.Variable> => {
  const [weight, bias] = [matrix(SHAPE, seed), tf.zeros([3])];
  const model = {[path]: tf.variable(weight), bias: tf.variable(bias)};
  tf.dispose([weight, bias]);
  return model;
};

/** One kind of file, and what is done with it. */
interface Kind<T> {
  readonly files: readonly T[];
  readonly damages: Readonly<Record<string, Damage<T>>>;
  /** Damages after which no file may be used that has changed at all. */
  readonly never: readonly string[];
  isSame(a: T, b: T): boolean;
  /** What the i-th file is for. */
  make(i: number): {readonly model: Model; use(file: T): Promise<unknown>};
  /** What a file means; null where it must not be read. */
  meant(file: T): Meant | null;
}

/** What must never be read in a message: a bug of ours, or a machine that ran out of something. */
const ACCIDENT =
  /cannot read|cannot convert|is not a function|is not iterable|is not defined|call stack|out of memory|allocation|invalid array length|invalid typed array|\[object /i;

/** An error by its words alone. */
const kindOf = (message: string) =>
  message
    .replace(/"(?:[^"\\]|\\.)*"|'[^']*'/g, '…')
    .replace(/-?\d[\d.e+]*/g, '0')
    .slice(0, 60);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const memory = () => {
  const {heapUsed, arrayBuffers, external} = process.memoryUsage();
  return heapUsed + arrayBuffers + external;
};

const within = <T>(damages: Readonly<Record<string, Damage<T>>>): [string, Damage<T>][] =>
  Object.entries(damages);

/** Damages of a part of something, as damages of all of it. */
function lifted<T, Part>(
  damages: Readonly<Record<string, Damage<Part>>>,
  get: (whole: T) => Part,
  put: (whole: T, part: Part) => T,
): Record<string, Damage<T>> {
  return Object.fromEntries(
    within(damages).map(([name, damage]) => [name, (whole: T, d) => put(whole, damage(get(whole), d))]),
  );
}

/** Whatever fills the header up. */
function isSameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (Buffer.compare(a, b) === 0) return true;
  if (!readContainer(a) || !readContainer(b)) return false;
  const [left, right] = [open(a), open(b)];
  return left.header === right.header && Buffer.compare(left.data, right.data) === 0;
}
const isSameStored = (a: Stored, b: Stored) => {
  const flat = ({weightData, ...rest}: Stored) => {
    const pieces = (Array.isArray(weightData) ? weightData : [weightData]).map(piece =>
      piece instanceof ArrayBuffer ? Buffer.from(piece).toString('hex') : JSON.stringify(piece),
    );
    return JSON.stringify(rest) + pieces.join('');
  };
  return flat(a) === flat(b);
};

const numbersOf = (model: Model): Map<string, Numbers> =>
  new Map(
    Object.entries(model).map(([path, variable]) => [
      path,
      {shape: variable.shape, values: values(variable)},
    ]),
  );

/** Why these are not the numbers that were meant, or null. */
function unlike(model: Model, before: ReadonlyMap<string, Numbers>, meant: Meant | null): string | null {
  if (!meant) return 'it was used, and breaks a rule of its format';
  let after: Map<string, ArrayLike<number>>;
  try {
    after = meant(before);
  } catch (error) {
    return `it was used, and nobody can say what it means: ${(error as Error).message}`;
  }
  const strange = [...after.keys()].find(path => !before.has(path));
  if (strange !== undefined) return `it was used, and has ${strange}, which the model has not`;
  for (const [path, {values: was}] of before) {
    const want = Array.from(after.get(path) ?? was);
    const got = values(model[path]!);
    const size = Math.max(...[...want, ...Array.from(was)].map(Math.abs));
    if (got.length !== want.length || !want.every(value => Number.isFinite(Math.fround(value)))) {
      return `it was used, and makes of ${path} what no weight can be`;
    }
    const isClose = got.every((value, i) => Math.abs(value - want[i]!) <= 1e-5 * size);
    if (!isClose) return `${path} is not what the file means`;
  }
  return null;
}

async function damaged<T>(name: keyof typeof CASES, kind: Kind<T>): Promise<void> {
  const counts = {used: 0, refused: 0};
  const [kinds, byDamage] = [new Map<string, number>(), new Map<string, number[]>()];
  const properties = Object.getOwnPropertyNames(Object.prototype).join();
  const names = Object.keys(kind.damages);
  expect(kind.never.filter(never => !names.includes(never))).toEqual([]);
  const d = dice(1);
  const subjects = kind.files.map((_, i) => kind.make(i));
  const befores = subjects.map(({model}) => numbersOf(model));
  const before = numTensors();
  const cases = CASES[name];
  let [slowest, slowestAt, base, peak] = [0, '', 0, 0];
  const failing: string[] = [];

  for (let i = 0; i < cases; i++) {
    if (i === Math.floor(cases / 10)) {
      collect();
      base = memory();
    }
    const damage = names[i % names.length]!;
    const complain = (what: string) => failing.push(`${damage}, case ${i}: ${what}`);
    const at = d.below(kind.files.length);
    const file = kind.damages[damage]!(kind.files[at]!, d);
    const {model, use} = subjects[at]!;
    const start = performance.now();
    let thrown: unknown;
    let isUsed = false;
    try {
      await use(file);
      isUsed = true;
    } catch (error) {
      thrown = error;
    }
    const took = performance.now() - start;
    if (took > slowest) [slowest, slowestAt] = [took, `${damage}, case ${i}`];
    if (isUsed) {
      counts.used++;
      if (kind.never.includes(damage) && !kind.isSame(file, kind.files[at]!)) complain('it was used');
      const how = unlike(model, befores[at]!, kind.meant(file));
      if (how !== null) complain(how);
      tf.dispose(Object.values(model));
      subjects[at] = kind.make(at);
    } else {
      counts.refused++;
      const message = thrown instanceof Error ? thrown.message : `no error: ${String(thrown)}`;
      const isFine =
        thrown instanceof Error &&
        message.length >= 20 &&
        message.length <= 700 &&
        !/[\r\n\u2028]/.test(message);
      if (!isFine || ACCIDENT.test(message)) complain(message.slice(0, 300));
      kinds.set(kindOf(message), (kinds.get(kindOf(message)) ?? 0) + 1);
      for (const [path, {values: was}] of befores[at]!) {
        if (String(values(model[path]!)) !== String(was)) complain(`${path} moved`);
      }
    }
    const tally = byDamage.get(damage) ?? [0, 0];
    tally[isUsed ? 1 : 0]!++;
    byDamage.set(damage, tally);
    if (numTensors() !== before) {
      complain(`${numTensors() - before} tensors are left`);
      break;
    }
    if (Object.getOwnPropertyNames(Object.prototype).join() !== properties) complain('polluted');
    if (i % 50 === 0) peak = Math.max(peak, memory());
  }
  collect();
  const growth = memory() - base;
  subjects.forEach(({model}) => tf.dispose(Object.values(model)));

  if (process.env['VERBOSE']) {
    console.log(name, counts, {slowest, slowestAt, growth, peak, kinds: kinds.size});
    console.log([...byDamage].map(([each, [no, yes]]) => `${each}: ${no} refused, ${yes} used`).join('\n'));
    const sorted = [...kinds].sort((a, b) => b[1] - a[1]);
    console.log(sorted.map(([each, count]) => `${count} ${each}`).join('\n'));
  }
  expect(failing.slice(0, 20)).toEqual([]);
  // That the damage is done, and of many kinds: each is refused in words of its own.
  expect(counts.refused).toBeGreaterThan(0.6 * cases);
  expect(counts.used).toBeGreaterThan(0.01 * cases);
  expect(kinds.size).toBeGreaterThan(name === 'checkpoints' ? 5 : 20);
  expect(slowest, slowestAt).toBeLessThan(LONGEST);
  expect(growth).toBeLessThan(16 * 2 ** 20);
  expect(peak).toBeLessThan(900 * 2 ** 20);
}

/** Our own files, one of each parametrization. */
const owns = () =>
  Object.entries(parametrizations).map(([name, p], i) => ({
    path: `${name}/kernel`,
    seed: i + 1,
    adapter: adapterWith(weightOf(p, SHAPE, `${name}/kernel`, i + 1), wholeWeight('bias', [1, 2, 3])),
  }));
const merging = (model: Model, adapter: Adapter) => mergeAdapter(model, adapter);

test('ten thousand', () => {
  expect(Object.values(CASES).reduce((sum, count) => sum + count)).toBe(10_000);
});

test('files of ours', async () => {
  const all = owns();
  const textOf = (bytes: Uint8Array) => {
    let text = '';
    editHeader(bytes, header => (text = header['__metadata__'].adapter));
    return text;
  };
  const withText = (bytes: Uint8Array, text: string) =>
    editHeader(bytes, header => (header['__metadata__'].adapter = text));
  await damaged<Uint8Array>('ours', {
    files: all.map(({adapter}) => encodeAdapter(adapter)),
    damages: {
      ...fileDamages,
      ...lifted(listDamages, textOf, withText),
      'other metadata': (bytes, d) =>
        editHeader(bytes, header => (header['__metadata__'] = metadataDamage(header['__metadata__'], d))),
    },
    never: [...NEVER_READ, 'a key of the list twice'],
    isSame: isSameBytes,
    make: i => {
      const model = modelFor(all[i]!.path, all[i]!.seed);
      return {model, use: async bytes => merging(model, decodeAdapter(bytes))};
    },
    meant: bytes => {
      const container = readContainer(bytes);
      return container && meantByOurs(container);
    },
  });
});

test('adapters as tfjs stores them', async () => {
  const all = owns();
  const metadataOf = ({userDefinedMetadata}: Stored): Json => userDefinedMetadata.tfjsLora;
  const withMetadata = (stored: Stored, tfjsLora: Json): Stored => ({
    ...stored,
    userDefinedMetadata: {tfjsLora},
  });
  const inList = lifted(
    listDamages,
    (stored: Stored) => metadataOf(stored)['adapter'] as string,
    (stored, adapter) => withMetadata(stored, {...metadataOf(stored), adapter}),
  );
  await damaged<Stored>('tfjs artifacts', {
    files: all.map(({adapter}) => toArtifacts(adapter) as Stored),
    damages: {
      ...storedDamages,
      ...inList,
      ...lifted({'other metadata': metadataDamage}, metadataOf, withMetadata),
    },
    never: [...NEVER_LOADED, 'a key of the list twice'],
    isSame: isSameStored,
    make: i => {
      const model = modelFor(all[i]!.path, all[i]!.seed);
      const use = async (stored: Stored) =>
        merging(model, await readAdapter({load: async () => stored as tf.io.ModelArtifacts}));
      return {model, use};
    },
    meant: stored => {
      const container = readStored(stored);
      return container && meantByOurs(container);
    },
  });
});

/** Two kernels of different ranks, one of them rank-stabilised, and a bias. */
const two = () =>
  adapterWith(
    weightOf(lora({rank: 2, alpha: 3}), SHAPE, 'first/kernel', 1),
    weightOf(lora({rank: 3, alpha: 5, rankStabilised: true}), [4, 5], 'second/kernel', 2),
    wholeWeight('first/bias', [1, 2, 3, 4]),
  );
function makeTwo(): Model {
  const made = {
    'first/kernel': matrix(SHAPE, 1),
    'second/kernel': matrix([4, 5], 2),
    'first/bias': tf.zeros([4]),
  };
  const model = Object.fromEntries(
    Object.entries(made).map(([path, start]) => [path, tf.variable(start, true, path)]),
  );
  tf.dispose(made);
  return model;
}

test('files of PEFT', async () => {
  const files = toPeft(two());
  interface Peft {
    readonly config: string;
    readonly weights: Uint8Array;
  }
  const inWeights = lifted(
    fileDamages,
    ({weights}: Peft) => weights,
    (peft, weights) => ({...peft, weights}),
  );
  const inConfig = lifted(
    textDamages,
    ({config}: Peft) => config,
    (peft, config) => ({...peft, config}),
  );
  await damaged<Peft>('PEFT', {
    files: [{config: files['adapter_config.json'], weights: files['adapter_model.safetensors']}],
    damages: {...inWeights, ...inConfig},
    never: NEVER_READ,
    isSame: (a, b) => a.config === b.config && isSameBytes(a.weights, b.weights),
    make: () => {
      const model = makeTwo();
      return {model, use: async peft => merging(model, fromPeft(peft, {model}))};
    },
    meant: ({config, weights}) => {
      const container = readContainer(weights);
      return container && meantByPeft(container, JSON.parse(config) as Json);
    },
  });
});

test('files in the names of Keras', async () => {
  const layersOf = (bytes: Uint8Array) => {
    let text = '';
    editHeader(bytes, header => (text = header['__metadata__'].layers));
    return text;
  };
  const withLayers = (bytes: Uint8Array, text: string) =>
    editHeader(bytes, header => (header['__metadata__'].layers = text));
  await damaged<Uint8Array>('Keras', {
    files: [toKeras(two())],
    damages: {...fileDamages, ...lifted(textDamages, layersOf, withLayers)},
    never: NEVER_READ,
    isSame: isSameBytes,
    make: () => {
      const model = makeTwo();
      return {model, use: async bytes => merging(model, fromKeras(bytes))};
    },
    meant: bytes => {
      const container = readContainer(bytes);
      return container && meantByKeras(container);
    },
  });
});

test('checkpoints', async () => {
  const make = () => {
    const model = makeTwo();
    const optimizer = loraAdam(0.05, {rank: 2, rest: 'train'});
    const step = (i: number) =>
      tf.tidy(() =>
        optimizer.applyGradients(
          Object.values(model).map(({name, shape}, k) => ({name, tensor: normal(shape, 10 * i + k)})),
        ),
      );
    for (let i = 0; i < 3; i++) step(i);
    return {model, optimizer, step};
  };
  const first = make();
  let stored: Stored | undefined;
  await saveCheckpoint(
    first.optimizer,
    tf.io.withSaveHandler(async artifacts => {
      stored = artifacts as Stored;
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
    {model: first.model},
  );
  const saved = numbersOf(first.model);
  first.optimizer.dispose();
  tf.dispose(Object.values(first.model));
  const key = 'tfjs-lora-checkpoint';
  const inContents = lifted(
    textDamages,
    ({userDefinedMetadata}: Stored) => userDefinedMetadata[key].contents as string,
    (whole, contents) => ({
      ...whole,
      userDefinedMetadata: {[key]: {...whole['userDefinedMetadata'][key], contents}},
    }),
  );
  let optimizer: ReturnType<typeof make>['optimizer'] | undefined;
  await damaged<Stored>('checkpoints', {
    files: [stored!],
    damages: {...storedDamages, ...inContents},
    never: [
      ...NEVER_LOADED,
      ...Object.keys(textDamages),
      'bits of the data flipped',
      'specs in another order',
    ],
    isSame: isSameStored,
    make: () => {
      optimizer?.dispose();
      const run = make();
      ({optimizer} = run);
      run.step(3);
      const use = (file: Stored) =>
        loadCheckpoint(run.optimizer, {load: async () => file as tf.io.ModelArtifacts}, {model: run.model});
      return {model: run.model, use};
    },
    // What a checkpoint says is what was saved, or it is damaged.
    meant: () => () => new Map([...saved].map(([path, {values: numbers}]) => [path, numbers])),
  });
  optimizer?.dispose();
});

test('bytes that break a rule of safetensors are refused by the reader of the format itself', () => {
  const files = [
    toPeft(two())['adapter_model.safetensors'],
    toKeras(two()),
    ...owns().map(o => encodeAdapter(o.adapter)),
  ];
  const d = dice(2);
  let broken = 0;
  for (let i = 0; i < 2000; i++) {
    const [name, damage] = d.one(within(fileDamages));
    const bytes = damage(d.one(files), d);
    if (readContainer(bytes) !== null) continue;
    broken++;
    expect(() => decodeSafetensors(bytes), `${name}, case ${i}`).toThrow();
  }
  expect(broken).toBeGreaterThan(1000);
});

test('an intact adapter is not merged into a model it was not trained on', async () => {
  for (const [i, [name, p]] of Object.entries(parametrizations).entries()) {
    const path = `${name}/kernel`;
    const bytes = encodeAdapter(adapterWith(weightOf(p, SHAPE, path, i + 1)));
    const other = modelFor(path, i + 100);
    const [was, before] = [values(other[path]!), numTensors()];
    await expect(mergeAdapter(other, decodeAdapter(bytes))).rejects.toThrow(path);
    expect(values(other[path]!)).toEqual(was);
    expect(numTensors()).toBe(before);
    tf.dispose(Object.values(other));
  }
});
