import fc from 'fast-check';
import {describe, expect, test} from 'vitest';
import {decodeSafetensors, encodeSafetensors} from '../../src/adapter/safetensors.js';
import type {HostTensor} from '../../src/adapter/adapter.js';

const file = {
  tensors: new Map<string, HostTensor>([
    ['b', {shape: [2, 2], values: Float32Array.of(1, -2, 3.5, 4)}],
    ['empty', {shape: [0, 3], values: new Float32Array(0)}],
    ['counts', {shape: [3], values: Int32Array.of(1, -2, 2 ** 31 - 1)}],
    ['a', {shape: [], values: Float32Array.of(7)}],
  ]),
  metadata: {who: 'test'},
};

/** A file with this header, byte by byte, and this many bytes of data. */
function raw(header: string | Uint8Array, data: number | Uint8Array = 8): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const content = typeof data === 'number' ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + text.length + content.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(content, 8 + text.length);
  return bytes;
}
const entry = (dtype: string, shape: unknown, offsets: unknown) =>
  JSON.stringify({dtype, shape, data_offsets: offsets});

describe('a file', () => {
  test('has these very bytes', () => {
    const bytes = encodeSafetensors({
      tensors: new Map([
        ['z', {shape: [1, 2], values: Float32Array.of(1, -2)}],
        ['n', {shape: [1], values: Int32Array.of(-1)}],
      ]),
      metadata: {format: 'pt'},
    });
    const header =
      '{"__metadata__":{"format":"pt"},' +
      '"z":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},' +
      '"n":{"dtype":"I32","shape":[1],"data_offsets":[8,12]}}';
    expect(header.length).toBe(141);
    const text = [...header].map(character => character.charCodeAt(0));
    const numbers = [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xff];
    expect([...bytes]).toEqual([144, 0, 0, 0, 0, 0, 0, 0, ...text, 32, 32, 32, ...numbers]);
  });

  test('holds 16 bits as the standard has them', () => {
    const one = {tensors: new Map([['x', {shape: [2], values: Float32Array.of(1.5, -2)}]]), metadata: {}};
    expect([...encodeSafetensors(one, 'F16').slice(-4)]).toEqual([0x00, 0x3e, 0x00, 0xc0]);
    expect([...encodeSafetensors(one, 'BF16').slice(-4)]).toEqual([0xc0, 0x3f, 0x00, 0xc0]);
  });

  test('comes back as it was', () => {
    const read = decodeSafetensors(encodeSafetensors(file));
    expect(read.metadata).toEqual(file.metadata);
    expect(read.tensors.size).toBe(4);
    for (const [name, {shape, values}] of file.tensors) {
      const dtype = values instanceof Int32Array ? 'I32' : 'F32';
      expect(read.tensors.get(name)).toEqual({shape, values, dtype});
    }
  });

  test('comes back from a node Buffer, and from a view that begins anywhere', () => {
    const bytes = encodeSafetensors(file);
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    for (const view of [Buffer.from(bytes), shifted.subarray(3)]) {
      const read = decodeSafetensors(view);
      view.fill(0);
      expect(read.tensors.get('b')!.values).toEqual(file.tensors.get('b')!.values);
    }
  });

  test('is the same whatever the order of what goes in; larger numbers first, then by name', () => {
    const tensors = [...file.tensors];
    const bytes = encodeSafetensors(file, 'F16');
    expect(encodeSafetensors({...file, tensors: new Map(tensors.reverse())}, 'F16')).toEqual(bytes);
    expect([...decodeSafetensors(bytes).tensors.keys()]).toEqual(['counts', 'a', 'b', 'empty']);
    const names = ['\u{1f600}', '\uffee', 'b', 'a.b', 'a'];
    const sorted = encodeSafetensors({
      tensors: new Map(names.map(name => [name, {shape: [1], values: new Float32Array(1)}])),
      metadata: {},
    });
    expect([...decodeSafetensors(sorted).tensors.keys()]).toEqual(names.reverse());
  });

  test('of anything comes back as it was', () => {
    const text = fc.string({unit: 'binary', maxLength: 12}).filter(name => name !== '__metadata__');
    const tensor = fc
      .tuple(fc.array(fc.nat(3), {maxLength: 4}), fc.boolean(), fc.nat())
      .map(([shape, whole, seed]): HostTensor => {
        const size = shape.reduce((product, axis) => product * axis, 1);
        const value = (_: unknown, i: number) => (whole ? seed + i : Math.fround(seed / (i + 3)));
        return {
          shape,
          values: whole ? Int32Array.from({length: size}, value) : Float32Array.from({length: size}, value),
        };
      });
    const content = fc.tuple(
      fc.uniqueArray(fc.tuple(text, tensor), {selector: ([name]) => name, maxLength: 6}),
      fc.dictionary(text, fc.string({unit: 'binary'})),
    );
    fc.assert(
      fc.property(content, ([tensors, metadata]) => {
        const read = decodeSafetensors(encodeSafetensors({tensors: new Map(tensors), metadata}));
        expect(read.tensors.size).toBe(tensors.length);
        for (const [name, {shape, values}] of tensors) {
          expect(read.tensors.get(name)!.shape).toEqual(shape);
          expect(read.tensors.get(name)!.values).toEqual(values);
        }
        expect(Object.entries(read.metadata).sort()).toEqual(Object.entries(metadata).sort());
      }),
      {numRuns: 200},
    );
  });
});

describe('what is read of files others wrote', () => {
  test('a header that is not padded, in any order of names', () => {
    const data = new Uint8Array(Float32Array.of(5, 6).buffer);
    const read = decodeSafetensors(
      raw(`{"b":${entry('F32', [1], [4, 8])}, "a":${entry('F32', [1], [0, 4])} }  `, data),
    );
    expect([...read.tensors].map(([name, {values}]) => [name, ...values])).toEqual([
      ['a', 5],
      ['b', 6],
    ]);
  });

  test('F64, where float32 has room for it', () => {
    const double = (value: number) => new Uint8Array(Float64Array.of(value).buffer);
    const header = `{"x":${entry('F64', [1], [0, 8])}}`;
    expect(decodeSafetensors(raw(header, double(0.1))).tensors.get('x')!.values).toEqual(
      Float32Array.of(0.1),
    );
    expect(decodeSafetensors(raw(header, double(-Infinity))).tensors.get('x')!.values[0]).toBe(-Infinity);
    expect(() => decodeSafetensors(raw(header, double(1e300)))).toThrow(
      /'x' holds 1e\+300, which float32 cannot/,
    );
  });

  test('metadata that is null, as the reference implementation reads it', () => {
    const header = `{"__metadata__":null,"a":${entry('F32', [2], [0, 8])}}`;
    expect(decodeSafetensors(raw(header)).metadata).toEqual({});
  });

  test('names that mean something to JavaScript are names', () => {
    const header = `{"__metadata__":{"__proto__":"p"},"__proto__":${entry('F32', [1], [0, 4])},"constructor":${entry('F32', [1], [4, 8])}}`;
    const {tensors, metadata} = decodeSafetensors(raw(header));
    expect([...tensors.keys()]).toEqual(['__proto__', 'constructor']);
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
    expect(Object.keys(metadata)).toEqual(['__proto__']);
    expect(({} as Record<string, unknown>)['p']).toBeUndefined();
  });
});

describe('what is refused', () => {
  test('every truncation, and every byte too many', () => {
    const bytes = encodeSafetensors(file);
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeSafetensors(bytes.subarray(0, length))).toThrow(/^not a readable safetensors file/);
    }
    expect(() => decodeSafetensors(Uint8Array.of(...bytes, 0))).toThrow(/1 bytes belong to no tensor/);
  });

  const a = entry('F32', [1], [0, 4]);
  test.each([
    ['overlapping tensors', `{"a":${a},"b":${a}}`, /starts at 0 where 4 is next/],
    ['a hole', `{"a":${entry('F32', [1], [4, 8])}}`, /starts at 4 where 0 is next/],
    ['a shape that lies', `{"a":${entry('F32', [3], [0, 8])}}`, /8 bytes for F32 of the shape \[3\]/],
    ['a dtype that lies', `{"a":${entry('F16', [2], [0, 8])}}`, /8 bytes for F16/],
    ['an end behind the file', `{"a":${entry('F32', [4], [0, 16])}}`, /ends at 16, behind the 8 bytes/],
    ['an end far behind the file', `{"a":${entry('F32', [2 ** 50], [0, 2 ** 52])}}`, /behind the 8 bytes/],
    ['a product that overflows', `{"a":${entry('F32', [2 ** 40, 2 ** 40], [0, 8])}}`, /of the shape/],
    [
      'a product that overflows to zero',
      `{"a":${entry('F32', [2 ** 40, 2 ** 40, 0], [0, 0])}}`,
      /of the shape/,
    ],
    [
      'a product of infinity and zero',
      `{"a":${entry('F32', [...Array(7).fill(2 ** 52), 0], [0, 0])}}`,
      /of the shape/,
    ],
    ['a negative axis', `{"a":${entry('F32', [-2], [0, 8])}}`, /-2 is no whole number/],
    ...['1.0', '-0', '1e0', '10e-1', '2E0'].map((number): [string, string, RegExp] => [
      `the axis ${number}`,
      `{"a":{"dtype":"F32","shape":[${number}],"data_offsets":[0,8]}}`,
      new RegExp(`${number} is no whole number`),
    ]),
    ['an offset 8.0', `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}}`, /8\.0 is no whole number/],
    ['an axis that begins with 0', `{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}`, /no JSON/],
    ['I64 of a size that lies', `{"a":${entry('I64', [2], [0, 8])}}`, /8 bytes for I64/],
    ['an axis with a fraction', `{"a":${entry('F32', [0.5], [0, 2])}}`, /0\.5 is no whole number/],
    [
      'an axis beyond whole numbers',
      `{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}}`,
      /no shape/,
    ],
    ['too many axes', `{"a":${entry('F32', Array(9).fill(1), [0, 4])}}`, /at most 8/],
    ['a shape that is no list', `{"a":${entry('F32', '1', [0, 4])}}`, /no shape/],
    ['offsets the wrong way round', `{"a":${entry('F32', [1], [4, 0])}}`, /no data_offsets/],
    ['three offsets', `{"a":${entry('F32', [1], [0, 4, 8])}}`, /no data_offsets/],
    ['I64', `{"a":${entry('I64', [1], [0, 8])}}`, /'a' is I64; F64, F32, I32, F16, BF16 are read/],
    ['an unknown dtype', `{"a":${entry('F8', [8], [0, 8])}}`, /'a' is F8/],
    ['a dtype from the prototype', `{"a":${entry('toString', [8], [0, 8])}}`, /'a' is toString/],
    ['no dtype', '{"a":{"shape":[2],"data_offsets":[0,8]}}', /no dtype/],
    [
      'an unknown member',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}}',
      /unknown member 'strides'/,
    ],
    ['an entry that is null', '{"a":null}', /'a' is no object/],
    ['a header that is a list', '[]', /does not begin with '\{'/],
    ['a header after a space', ' {}', /does not begin with '\{'/],
    ['no header', '', /does not begin with '\{'/],
    ['a key twice', `{"a":${a},"a":${entry('F32', [1], [4, 8])}}`, /'a' stands twice/],
    ['a key twice, once escaped', `{"a":${a},"\\u0061":${entry('F32', [1], [4, 8])}}`, /'a' stands twice/],
    [
      'a member twice',
      '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
      /'dtype' stands twice/,
    ],
    ['metadata twice', '{"__metadata__":{},"__metadata__":{}}', /stands twice/],
    ['metadata that is no object', '{"__metadata__":"x"}', /metadata is no object/],
    ['metadata with a number', '{"__metadata__":{"x":1}}', /metadata 'x' is no string/],
    ['half a surrogate pair', '{"\\ud800":null}', /surrogate/],
    ['a second value', `{"a":${a}}{}`, /something is left/],
    ['deep nesting', `{"a":${'['.repeat(1000)}${']'.repeat(1000)}}`, /more than 3 levels/],
    ['a trailing comma', `{"a":${a},}`, /no JSON/],
    ['a string without end', '{"a', /does not end/],
    ['NaN', '{"a":NaN}', /no JSON/],
  ])('%s', (_, header, message) => {
    expect(() => decodeSafetensors(raw(header))).toThrow(/^not a readable safetensors file/);
    expect(() => decodeSafetensors(raw(header))).toThrow(message);
  });

  test('a key that stands twice only inside of a string is none', () => {
    const header = `{"__metadata__":{"x":"\\"a\\":1,\\"a\\":2"},"a":${entry('F32', [2], [0, 8])}}`;
    expect(decodeSafetensors(raw(header)).metadata).toEqual({x: '"a":1,"a":2'});
  });

  test('bytes that are no UTF-8, and a byte order mark', () => {
    const text = (...bytes: number[]) => Uint8Array.of(0x7b, 0x22, ...bytes, 0x22, 0x3a, 0x30, 0x7d);
    expect(() => decodeSafetensors(raw(text(0xff)))).toThrow(/no UTF-8/);
    expect(() => decodeSafetensors(raw(text(0xc0, 0x80)))).toThrow(/no UTF-8/);
    expect(() => decodeSafetensors(raw(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d)))).toThrow(/begin with/);
  });

  test.each([2n ** 64n - 1n, 2n ** 63n, 2n ** 32n, 9n])('a header that claims %s bytes', claim => {
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setBigUint64(0, claim, true);
    expect(() => decodeSafetensors(bytes)).toThrow(`its header claims ${claim} bytes of the 8 there are`);
  });

  test('a header of more than 8 MiB, though the file has it', () => {
    const bytes = new Uint8Array(8 + 2 ** 23 + 8).fill(0x20);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(2 ** 23 + 8), true);
    expect(() => decodeSafetensors(bytes)).toThrow(/8388608 is the most/);
  });

  test('100,001 tensors, before they are made', () => {
    const header = (count: number) =>
      `{"__metadata__":{},${Array.from({length: count}, (_, i) => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`).join()}}`;
    expect(decodeSafetensors(raw(header(100_000), 0)).tensors.size).toBe(100_000);
    const start = performance.now();
    expect(() => decodeSafetensors(raw(header(120_000), 0))).toThrow(/more than 100001 members/);
    expect(performance.now() - start).toBeLessThan(5000);
    const one = {shape: [0], values: new Float32Array(0)};
    const tensors = new Map(Array.from({length: 100_001}, (_, i) => [`${i}`, one] as const));
    expect(() => encodeSafetensors({tensors, metadata: {}})).toThrow(
      /100001 tensors, and 100000 are the most/,
    );
  });

  test('no change of a byte does anything but an error or another file', () => {
    const bytes = encodeSafetensors(file, 'F16');
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
        const changed = bytes.slice();
        changed[at] = value;
        try {
          const {tensors} = decodeSafetensors(changed);
          let numbers = 0;
          for (const {values} of tensors.values()) numbers += values.length;
          expect(numbers).toBeLessThan(bytes.length);
        } catch (error) {
          expect(String(error)).toMatch(/not a readable safetensors file/);
        }
      }),
      {numRuns: 2000},
    );
  });

  const write =
    (name: string, tensor: HostTensor, metadata = {}, dtype?: 'F16') =>
    () =>
      encodeSafetensors({tensors: new Map([[name, tensor]]), metadata}, dtype);
  test('to write what could not be read', () => {
    const values = Float32Array.of(1e5);
    expect(write('a', {shape: [2], values})).toThrow(/'a' has 1 numbers for the shape \[2\]/);
    expect(write('a', {shape: [-1], values})).toThrow(/for the shape \[-1\]/);
    expect(write('__metadata__', {shape: [1], values})).toThrow(/cannot be the name/);
    expect(write('\ud800', {shape: [1], values})).toThrow(/cannot be the name/);
    expect(write('a', {shape: [1], values}, {x: 1})).toThrow(/metadata 'x' must be a string/);
    expect(write('a', {shape: [1], values}, {}, 'F16')).toThrow(
      /'a' holds 100000, which F16 cannot; write F32/,
    );
    expect(write('a', {shape: [1], values}, {}, 'F8' as 'F16')).toThrow(/dtype must be/);
    expect(write('a', {shape: [1], values: Float32Array.of(-Infinity)}, {}, 'F16')).not.toThrow();
  });
});
