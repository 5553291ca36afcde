import {setFlagsFromString} from 'node:v8';
import {runInNewContext} from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import {beforeAll, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {decodeAdapter, encodeAdapter} from '../../src/adapter/format.js';
import {mergeAdapter} from '../../src/adapter/merge.js';
import {
  additive,
  dora,
  flora,
  full,
  galore,
  hadamard,
  kronecker,
  lora,
  loraXS,
  randomProjection,
  vera,
} from '../../src/index.js';
import {numTensors, values} from '../helpers.js';
import {matrix} from '../parametrizations/exercise.js';
import {adapterWith, weightOf, wholeWeight} from './situations.js';

/**
 * Ten thousand files that somebody damaged, by accident or not. Each must end in one line that helps, with the model as
 * it was, or, where the damage says nothing false, in an adapter.
 */
const CASES = 10_000;

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

/** What is done with each file that could be read, on a model of its own. Its errors count as errors of the file. */
const uses: ((model: Record<string, tf.Variable>, adapter: Adapter) => Promise<unknown>)[] = [mergeAdapter];

const modelFor = (path: string, seed: number): Record<string, tf.Variable> => {
  const [weight, bias] = [matrix(SHAPE, seed), tf.zeros([3])];
  const model = {[path]: tf.variable(weight), bias: tf.variable(bias)};
  tf.dispose([weight, bias]);
  return model;
};

/** Numbers of one seed. Source: mulberry32, Tommy Ettinger, public domain. */
function dice(seed: number) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n: number) => Math.floor(next() * n);
  return {below, one: <T>(list: readonly T[]): T => list[below(list.length)]!};
}
type Dice = ReturnType<typeof dice>;
type Json = Record<string, any>;

/** A file in its three parts, and together again, whatever they say. */
function open(bytes: Uint8Array) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd();
  return {header, data: bytes.slice(8 + length)};
}
function close({header, data}: {header: string; data: Uint8Array}, claimed?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

const HOSTILE: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  1.5,
  2 ** 31,
  2 ** 53,
  1e308,
  '',
  'x',
  '__proto__',
  'constructor',
  'toString',
  '../../etc/passwd',
  'two\nlines\u2028three',
  '\u0000',
  'x'.repeat(5000),
  [],
  {},
  [[[]]],
  [2 ** 31, 2 ** 31],
  [65536, 65536, 65536, 65536],
  [1e9, 1],
  {$recipe: 'lora', args: []},
  {$recipe: 'lora', args: [{rank: 1e12}]},
  {$recipe: 'lora', args: [{rank: {$number: 'Infinity'}}]},
  {$recipe: 'vera', args: [{rank: 2 ** 40}]},
  {$recipe: 'every', args: [1]},
  {$recipe: 'nobody', args: []},
  {$recipe: 'constructor', args: []},
  {$recipe: '__proto__', args: [{}]},
  {$recipe: 'kronecker', args: [{factor: 2 ** 52}]},
  {$recipe: 'lora', args: 7},
  {$recipe: 'lora', args: [{init: {$recipe: 'lora', args: []}}]},
  {$regexp: '(', flags: 'q'},
  {$yours: 'a function'},
];

/** Something somewhere in a tree is replaced, left out, doubled, renamed or exchanged. */
function disturb(tree: unknown, {below, one}: Dice): void {
  const places: [any, string | number][] = [];
  const walk = (node: unknown) => {
    if (node === null || typeof node !== 'object') return;
    for (const key of Object.keys(node)) {
      places.push([node, Array.isArray(node) ? Number(key) : key]);
      walk((node as Json)[key]);
    }
  };
  walk(tree);
  if (places.length === 0) return;
  const [parent, key] = one(places);
  const [other, otherKey] = one(places);
  const put = (at: string | number, value: unknown) =>
    Object.defineProperty(parent, at, {value, enumerable: true, writable: true, configurable: true});
  switch (below(5)) {
    case 0:
      put(key, structuredClone(one(HOSTILE)));
      break;
    case 1:
      if (Array.isArray(parent)) parent.splice(key as number, 1);
      else delete parent[key];
      break;
    case 2:
      if (Array.isArray(parent)) parent.push(structuredClone(parent[key as number]));
      else put(one(['__proto__', 'constructor', 'more']), structuredClone(parent[key]));
      break;
    case 3:
      if (typeof parent[key] === 'number') put(key, parent[key] + one([1, -1, 7, 2 ** 20]));
      else if (typeof parent[key] !== 'object') put(key, `${parent[key]}?`);
      break;
    default:
      put(key, structuredClone(other[otherKey] ?? null));
  }
}

const editHeader = (bytes: Uint8Array, edit: (header: Json) => void): Uint8Array => {
  const {header, data} = open(bytes);
  const json = JSON.parse(header) as Json;
  edit(json);
  return close({header: JSON.stringify(json), data});
};
const tensorsOf = (header: Json) => Object.keys(header).filter(key => key !== '__metadata__');
const editList = (bytes: Uint8Array, edit: (described: Json) => void): Uint8Array =>
  editHeader(bytes, header => {
    const described = JSON.parse(header['__metadata__'].adapter) as Json;
    edit(described);
    header['__metadata__'].adapter = JSON.stringify(described);
  });

const damages: Record<string, (bytes: Uint8Array, d: Dice) => Uint8Array> = {
  truncated: (bytes, {below}) => bytes.slice(0, below(bytes.length)),
  'bits flipped': (bytes, {below}) => {
    const damaged = bytes.slice();
    for (let i = 1 + below(8); i > 0; i--) damaged[below(bytes.length)]! ^= 1 << below(8);
    return damaged;
  },
  'bits of the header flipped': (bytes, {below}) => {
    const damaged = bytes.slice();
    const {header} = open(bytes);
    for (let i = 1 + below(3); i > 0; i--) damaged[below(8 + header.length)]! ^= 1 << below(8);
    return damaged;
  },
  'bits of the numbers flipped': (bytes, {below}) => {
    const {header, data} = open(bytes);
    data[below(data.length)]! ^= 1 << below(8);
    return close({header, data});
  },
  'bytes put in': (bytes, {below}) => {
    const at = below(bytes.length);
    const extra = Uint8Array.from({length: 1 + below(64)}, () => below(256));
    return Uint8Array.from([...bytes.subarray(0, at), ...extra, ...bytes.subarray(at)]);
  },
  'a header of another length': (bytes, {below, one}) =>
    close(
      open(bytes),
      one([0n, 1n, BigInt(below(5000)), BigInt(bytes.length), 2n ** 31n, 2n ** 53n, 2n ** 64n - 1n]),
    ),
  noise: (_, {below}) => Uint8Array.from({length: below(300)}, () => below(256)),
  'offsets that lie': (bytes, {below, one}) =>
    editHeader(bytes, header => {
      const entry = header[one(tensorsOf(header))];
      entry.data_offsets[below(2)] += one([1, -1, 4, -4, 8, 2 ** 31, -(2 ** 40)]);
    }),
  'tensors that overlap': (bytes, {one}) =>
    editHeader(bytes, header => {
      header[one(tensorsOf(header))].data_offsets = [...header[one(tensorsOf(header))].data_offsets];
      header[one(tensorsOf(header))].data_offsets = [0, 4];
    }),
  'another dtype': (bytes, {one}) =>
    editHeader(bytes, header => {
      const entry = header[one(tensorsOf(header))];
      entry.dtype = one(['F16', 'BF16', 'I32', 'F32', 'F64', 'I64', 'U8', 'BOOL', '', '__proto__', null, 7]);
    }),
  'another shape': (bytes, {below, one}) =>
    editHeader(bytes, header => {
      const entry = header[one(tensorsOf(header))];
      entry.shape = one([
        [...entry.shape].reverse(),
        [...entry.shape, 1],
        [],
        [0],
        [-1],
        [2 ** 31, 2 ** 31],
        [entry.shape.reduce((x: number, y: number) => x * y, 1)],
        Array.from({length: below(40)}, () => 1),
        'x',
      ]);
    }),
  'hostile names': (bytes, {one}) =>
    editHeader(bytes, header => {
      const from = one(tensorsOf(header));
      const value = header[from];
      delete header[from];
      Object.defineProperty(
        header,
        one(['__proto__', 'constructor', 'toString', '', 'k/__proto__', from + ' ']),
        {
          value,
          enumerable: true,
        },
      );
    }),
  'NaN and infinity': (bytes, {below, one}) => {
    const {header, data} = open(bytes);
    const at = 4 * below(Math.floor(data.length / 4));
    new DataView(data.buffer).setUint32(at, one([0x7fc00000, 0x7f800000, 0xff800000, 0x7f800001]), true);
    return close({header, data});
  },
  'deep JSON': (bytes, {below, one}) => {
    const depth = one([9, 33, 1000, 100_000]);
    const [open_, close_] = one([
      ['[', ']'],
      ['{"a":', '}'],
    ]);
    const deep = open_!.repeat(depth) + '1' + close_!.repeat(depth * below(2));
    const {header, data} = open(bytes);
    if (below(2)) return close({header: header.replace(/^\{/, `{"x":${deep},`), data});
    return editHeader(bytes, json => {
      const key = one(['adapter', 'user']);
      json['__metadata__'][key] = json['__metadata__'][key]
        .replace(/^\{/, `{"deep":${deep},`)
        .replace(/,\}$/, '}');
    });
  },
  'a key twice': (bytes, {below, one}) => {
    const {header, data} = open(bytes);
    if (below(2)) {
      const json = JSON.parse(header) as Json;
      const name = one(Object.keys(json));
      return close({
        header: header.replace(/^\{/, `{${JSON.stringify(name)}:${JSON.stringify(json[name])},`),
        data,
      });
    }
    return editHeader(bytes, json => {
      const text = json['__metadata__'].adapter as string;
      const key = one(['path', 'shape', 'factors', 'parametrization', 'frozen', 'base']);
      json['__metadata__'].adapter = text.replace(
        `"${key}":`,
        `"${key}":${JSON.stringify(one(HOSTILE))},"${key}":`,
      );
    });
  },
  'a header of other things': (bytes, d) => editHeader(bytes, header => disturb(header, d)),
  'a list of other things': (bytes, d) => editList(bytes, described => disturb(described, d)),
  'much in the list that is wrong': (bytes, d) =>
    editList(bytes, described => {
      for (let i = 0; i < 5; i++) disturb(described, d);
    }),
  'options of other kinds': (bytes, d) =>
    editList(bytes, described => {
      const weight = described['weights'][0];
      if (d.below(2)) disturb(weight.parametrization, d);
      else weight.parametrization.args = [d.one(HOSTILE), d.one(HOSTILE)].slice(d.below(2));
    }),
  'another parametrization': (bytes, {one}) =>
    editList(bytes, described => {
      const names = [
        'lora',
        'dora',
        'vera',
        'flora',
        'randomProjection',
        'kronecker',
        'hadamard',
        'additive',
      ];
      const others = [...names, 'galore', 'loraXS', 'full', 'loraFA', 'mica', 'osf', 'loraSB'];
      const args = [one([{}, {rank: 1}, {rank: 2}, {rank: 2 ** 30}])];
      described['weights'][0].parametrization = {$recipe: one(others), args};
    }),
  'a weight of another size': (bytes, {one}) =>
    editList(bytes, described => {
      described['weights'][0].shape = one([
        [4, 6],
        [24],
        [2 ** 31, 2 ** 31],
        [2 ** 15, 2 ** 15],
        [1, 24],
        [2 ** 30, 1],
        [3, 2, 4],
        [600, 4000],
      ]);
    }),
  'other metadata': (bytes, {one}) =>
    editHeader(bytes, header => {
      const key = one(['format', 'version', 'generated_by', 'adapter', 'user']);
      header['__metadata__'][key] = one([
        '',
        'x',
        '[]',
        'null',
        '{',
        '{"__proto__":"x"}',
        '{"a":1}',
        '2',
        7,
        null,
      ]);
    }),
};

/** What must never be read in a message: a bug of ours, or a machine that ran out of something. */
const ACCIDENT =
  /cannot read|cannot convert|is not a function|is not iterable|is not defined|call stack|out of memory|allocation|invalid array length|invalid typed array|\[object /i;

/** An error by its words alone. */
const kindOf = (message: string) =>
  message
    .replace(/"(?:[^"\\]|\\.)*"|'[^']*'/g, '…')
    .replace(/-?\d[\d.e+]*/g, '0')
    .slice(0, 60);

function timeOf(bytes: Uint8Array): number {
  const start = performance.now();
  try {
    decodeAdapter(bytes);
  } catch {
    // Its words are looked at elsewhere.
  }
  return performance.now() - start;
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const memory = () => {
  const {heapUsed, arrayBuffers, external} = process.memoryUsage();
  return heapUsed + arrayBuffers + external;
};

test('ten thousand damaged files end in an error that helps, or in an adapter', async () => {
  const files = Object.entries(parametrizations).map(([name, p], i) => {
    const path = `${name}/kernel`;
    const adapter = adapterWith(weightOf(p, SHAPE, path, i + 1), wholeWeight('bias', [1, 2, 3]));
    return {path, seed: i + 1, bytes: encodeAdapter(adapter)};
  });
  const counts = {read: 0, used: 0, refused: 0};
  const [kinds, byDamage] = [new Map<string, number>(), new Map<string, number[]>()];
  const properties = Object.getOwnPropertyNames(Object.prototype).join();
  const names = Object.keys(damages);
  const d = dice(1);
  const models = files.map(({path, seed}) => modelFor(path, seed));
  const untouched = models.map(model => Object.values(model).map(values));
  const before = numTensors();
  let [slowest, slowestAt, base, peak] = [0, '', 0, 0];
  const failing: string[] = [];

  for (let i = 0; i < CASES; i++) {
    if (i === CASES / 10) {
      collect();
      base = memory();
    }
    const damage = names[i % names.length]!;
    const at = d.below(files.length);
    const file = files[at]!;
    const bytes = damages[damage]!(file.bytes, d);
    const model = models[at]!;
    const start = performance.now();
    let thrown: unknown;
    let adapter: Adapter | undefined;
    let isUsed = false;
    try {
      adapter = decodeAdapter(bytes);
      for (const use of uses) await use(model, adapter);
      isUsed = true;
    } catch (error) {
      thrown = error;
    }
    let took = performance.now() - start;
    // A busy machine is slow once; a file that takes long does so each time.
    for (let again = 0; again < 2 && took > 250; again++) took = Math.min(took, timeOf(bytes));
    if (took > slowest) [slowest, slowestAt] = [took, `${damage}, case ${i}`];
    if (adapter) counts.read++;
    if (isUsed) {
      counts.used++;
      // The damage said nothing false, and the model has moved: another in its place.
      tf.dispose(Object.values(model));
      models[at] = modelFor(file.path, file.seed);
    } else {
      counts.refused++;
      const message = thrown instanceof Error ? thrown.message : `no error: ${String(thrown)}`;
      const isFine =
        thrown instanceof Error &&
        message.length >= 20 &&
        message.length <= 700 &&
        !/[\r\n\u2028]/.test(message);
      if (!isFine || ACCIDENT.test(message)) failing.push(`${damage}, case ${i}: ${message.slice(0, 300)}`);
      kinds.set(kindOf(message), (kinds.get(kindOf(message)) ?? 0) + 1);
      Object.values(model).forEach((variable, k) => {
        if (String(values(variable)) !== String(untouched[at]![k]))
          failing.push(`${damage}, case ${i}: it moved`);
      });
    }
    const tally = byDamage.get(damage) ?? [0, 0];
    tally[isUsed ? 1 : 0]!++;
    byDamage.set(damage, tally);
    if (numTensors() !== before) {
      failing.push(`${damage}, case ${i}: ${numTensors() - before} tensors are left`);
      break;
    }
    if (Object.getOwnPropertyNames(Object.prototype).join() !== properties)
      failing.push(`case ${i}: polluted`);
    if (i % 50 === 0) peak = Math.max(peak, memory());
  }
  collect();
  const growth = memory() - base;
  models.forEach(model => tf.dispose(Object.values(model)));

  if (process.env['VERBOSE']) {
    console.log(counts, {slowest, slowestAt, growth, peak, kinds: kinds.size});
    console.log([...byDamage].map(([name, [no, yes]]) => `${name}: ${no} refused, ${yes} used`).join('\n'));
    console.log(
      [...kinds]
        .sort((a, b) => b[1] - a[1])
        .map(([kind, count]) => `${count} ${kind}`)
        .join('\n'),
    );
  }
  expect(failing).toEqual([]);
  // That the damage is done, and of many kinds: each is refused in words of its own.
  expect(counts.refused).toBeGreaterThan(0.8 * CASES);
  expect(counts.used).toBeGreaterThan(100);
  expect(kinds.size).toBeGreaterThan(40);
  for (const [name, [refused]] of byDamage) expect(refused, name).toBeGreaterThan(0);
  expect(slowest, slowestAt).toBeLessThan(250);
  expect(growth).toBeLessThan(16 * 2 ** 20);
  expect(peak).toBeLessThan(700 * 2 ** 20);
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
