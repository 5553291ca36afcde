/** What happens to files, by accident or not, from a seed. */

/** Numbers of one seed. Source: mulberry32, Tommy Ettinger, public domain. */
export function dice(seed: number) {
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
export type Dice = ReturnType<typeof dice>;
export type Json = Record<string, any>;

/** A file in its three parts, and together again, whatever they say. */
export function open(bytes: Uint8Array) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd();
  return {header, data: bytes.slice(8 + length)};
}
export function close({header, data}: {header: string; data: Uint8Array}, claimed?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

export const HOSTILE: readonly unknown[] = [
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
export function disturb(tree: unknown, {below, one}: Dice): void {
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

export const editHeader = (bytes: Uint8Array, edit: (header: Json) => void): Uint8Array => {
  const {header, data} = open(bytes);
  const json = JSON.parse(header) as Json;
  edit(json);
  return close({header: JSON.stringify(json), data});
};
export const tensorsOf = (header: Json) => Object.keys(header).filter(key => key !== '__metadata__');

/** The same with what is wrong in it; the dice decide what. */
export type Damage<T> = (whole: T, d: Dice) => T;

/** Every number times so much, as far as float32 goes. */
export function enlarged(data: Uint8Array, factor: number): Uint8Array {
  const values = new Float32Array(data.slice().buffer, 0, data.length >> 2);
  const most = 3e38;
  return new Uint8Array(values.map(value => Math.max(-most, Math.min(most, value * factor))).buffer);
}

function deep(below: Dice['below'], one: Dice['one']): string {
  const depth = one([9, 33, 1000, 100_000]);
  const [open_, close_] = one([
    ['[', ']'],
    ['{"a":', '}'],
  ]);
  return open_!.repeat(depth) + '1' + close_!.repeat(depth * below(2));
}

/** Of any safetensors file. */
export const fileDamages: Record<string, Damage<Uint8Array>> = {
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
    const {header, data} = open(bytes);
    return close({header: header.replace(/^\{/, `{"x":${deep(below, one)},`), data});
  },
  'a key twice': (bytes, {one}) => {
    const {header, data} = open(bytes);
    const json = JSON.parse(header) as Json;
    const name = one(Object.keys(json));
    const again = `{${JSON.stringify(name)}:${JSON.stringify(json[name])},`;
    return close({header: header.replace(/^\{/, () => again), data});
  },
  'a header of other things': (bytes, d) => editHeader(bytes, header => disturb(header, d)),
  'a member nobody knows': (bytes, {one}) =>
    editHeader(bytes, header => {
      header[one(tensorsOf(header))][one(['more', 'constructor', 'strides', ''])] = one(HOSTILE);
    }),
  'huge numbers': (bytes, {one}) => {
    const {header, data} = open(bytes);
    return close({header, data: enlarged(data, one([1e18, 1e25, 1e35]))});
  },
  'bytes that belong to nothing': (bytes, {below}) => {
    const {header, data} = open(bytes);
    const at = below(2) * data.length;
    const more = new Uint8Array(1 + below(9));
    return close({header, data: Uint8Array.from([...data.subarray(0, at), ...more, ...data.subarray(at)])});
  },
};

/** Damages of files after which nothing may be read, unless the bytes are the same as before. */
export const NEVER_READ: readonly string[] = [
  'truncated',
  'bytes put in',
  'a header of another length',
  'noise',
  'offsets that lie',
  'tensors that overlap',
  'another dtype',
  'hostile names',
  'deep JSON',
  'a key twice',
  'a member nobody knows',
  'bytes that belong to nothing',
];

/** Of any JSON text. */
export const textDamages: Record<string, Damage<string>> = {
  'text cut off': (text, {below}) => text.slice(0, below(text.length)),
  'a character put in': (text, {below, one}) => {
    const at = below(text.length);
    return text.slice(0, at) + one(['{', '"', '0', '\\', '\u2028', '\ud800', ',']) + text.slice(at);
  },
  'deep text': (text, {below, one}) => text.replace(/^\{/, () => `{"deep":${deep(below, one)},`),
  'other things in the text': (text, d) => edited(text, json => disturb(json, d)),
  'much in the text that is wrong': (text, d) =>
    edited(text, json => {
      for (let i = 0; i < 5; i++) disturb(json, d);
    }),
};

export function edited(text: string, edit: (json: Json) => void): string {
  const json = JSON.parse(text) as Json;
  edit(json);
  return JSON.stringify(json);
}

/** Of the list of weights of an adapter of ours. */
export const listDamages: Record<string, Damage<string>> = {
  ...textDamages,
  'a key of the list twice': (text, {one}) => {
    const key = one(['path', 'shape', 'factors', 'parametrization', 'frozen', 'base']);
    return text.replace(`"${key}":`, () => `"${key}":${JSON.stringify(one(HOSTILE))},"${key}":`);
  },
  'options of other kinds': (text, d) =>
    edited(text, described => {
      const weight = described['weights'][0];
      if (d.below(2)) disturb(weight.parametrization, d);
      else weight.parametrization.args = [d.one(HOSTILE), d.one(HOSTILE)].slice(d.below(2));
    }),
  'another parametrization': (text, {one}) =>
    edited(text, described => {
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
  'a weight of another size': (text, {one}) =>
    edited(text, described => {
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
};

/** Of the strings beside the tensors of an adapter of ours. */
export const metadataDamage: Damage<Json> = (metadata, {one}) => ({
  ...metadata,
  [one(['format', 'version', 'generated_by', 'adapter', 'user'])]: one([
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
  ]),
});

/** An adapter or a checkpoint as tfjs stores it. */
export interface Stored {
  [field: string]: any;
  weightSpecs: any;
  weightData: any;
}

/** Of what tfjs stores, in whatever it stores it. */
export const storedDamages: Record<string, Damage<Stored>> = {
  'data cut off': (stored, {below}) => withData(stored, data => data.slice(0, below(data.length))),
  'more data': (stored, {below}) =>
    withData(stored, data => Uint8Array.from([...data, ...new Uint8Array(1 + below(9))])),
  'bits of the data flipped': (stored, {below}) =>
    withData(stored, data => {
      for (let i = 1 + below(3); i > 0; i--) data[below(data.length)]! ^= 1 << below(8);
      return data;
    }),
  'NaN and infinity in the data': (stored, {below, one}) =>
    withData(stored, data => {
      const bad = one([0x7fc00000, 0x7f800000, 0xff800000]);
      new DataView(data.buffer).setUint32(4 * below(data.length >> 2), bad, true);
      return data;
    }),
  'huge numbers in the data': (stored, {one}) =>
    withData(stored, data => enlarged(data, one([1e18, 1e25, 1e35]))),
  'data in pieces': (stored, {below}) => {
    const at = below(stored.weightData.byteLength);
    return {...stored, weightData: [stored.weightData.slice(0, at), stored.weightData.slice(at)]};
  },
  'a piece of the data twice': stored => ({
    ...stored,
    weightData: [stored.weightData, stored.weightData.slice(0, 4)],
  }),
  'other data': (stored, {one}) => ({...stored, weightData: structuredClone(one(HOSTILE))}),
  'other specs': (stored, d) => {
    const weightSpecs = structuredClone(stored.weightSpecs);
    disturb(weightSpecs, d);
    return {...stored, weightSpecs};
  },
  'another dtype of a spec': (stored, {one}) =>
    withSpec(stored, one, spec => {
      spec.dtype = one(['float32', 'int32', 'bool', 'complex64', 'string', 'float16', '__proto__', null, 7]);
    }),
  'another shape of a spec': (stored, {one}) =>
    withSpec(stored, one, spec => {
      spec.shape = one([
        [...spec.shape].reverse(),
        [...spec.shape, 1],
        [],
        [0],
        [-1],
        [2 ** 31, 2 ** 31],
        'x',
      ]);
    }),
  'other names': (stored, {one}) =>
    withSpec(stored, one, spec => {
      spec.name = one(['__proto__', 'constructor', '', `${spec.name} `, stored.weightSpecs[0].name, 7]);
    }),
  'specs in another order': stored => ({...stored, weightSpecs: [...stored.weightSpecs].reverse()}),
  'other things beside': (stored, d) => {
    const {weightData, ...rest} = stored;
    const other = structuredClone(rest);
    disturb(other, d);
    return {...other, weightData} as Stored;
  },
};

/** As `NEVER_READ`. */
export const NEVER_LOADED: readonly string[] = [
  'data cut off',
  'more data',
  'a piece of the data twice',
  'other data',
];

function withData(stored: Stored, edit: (data: Uint8Array) => Uint8Array): Stored {
  return {...stored, weightData: edit(new Uint8Array(stored.weightData.slice(0))).slice().buffer};
}

function withSpec(stored: Stored, one: Dice['one'], edit: (spec: Json) => void): Stored {
  const weightSpecs = structuredClone(stored.weightSpecs) as Json[];
  edit(one(weightSpecs));
  return {...stored, weightSpecs};
}
