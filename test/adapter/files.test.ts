import {execFileSync} from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterEach, beforeEach, describe, expect, test, vi} from 'vitest';
import {digest} from '../../src/adapter/digest.js';
import {filePath, node, placeOfProcess} from '../../src/adapter/file-system.js';
import {nodeFiles} from '../../src/adapter/files.js';
import {writeWhole} from '../../src/adapter/whole-file.js';
import {changesOf, failingAt} from './failing-files.js';
import {CUTS, Disk} from './power-cut.js';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'tfjs-lora files 100%-'))));
afterEach(() => rmSync(folder, {recursive: true}));

const bytes = (text: string) => new TextEncoder().encode(text);
const all = () => readdirSync(folder).sort();

function artifacts(seed: number, size = 5): tf.io.ModelArtifacts {
  const values = Float32Array.from({length: size + 2}, (_, i) => Math.sin(seed + i));
  return {
    modelTopology: {class_name: 'test', seed},
    format: 'test',
    generatedBy: 'a test',
    convertedBy: null,
    userDefinedMetadata: {seed},
    weightSpecs: [
      {name: 'a', shape: [size], dtype: 'float32'},
      {name: 'b', shape: [1, 2], dtype: 'float32'},
    ],
    weightData: values.buffer,
  };
}

const seedIn = (loaded: tf.io.ModelArtifacts) => (loaded.userDefinedMetadata as {seed: number}).seed;
const dataOf = ({weightData}: tf.io.ModelArtifacts) => [...new Uint8Array(weightData as ArrayBuffer)];

describe('writeWhole', () => {
  test('writes a file, makes folders, replaces what was there, and leaves nothing else', async () => {
    const path = join(folder, 'a/b/file');
    await writeWhole(path, bytes('first'));
    await writeWhole(path, bytes('second'));
    expect(readFileSync(path, 'utf8')).toBe('second');
    expect(readdirSync(join(folder, 'a/b'))).toEqual(['file']);
  });

  test.each([false, true])(
    'broken off anywhere it leaves the old file whole or the new one (half written: %s)',
    async half => {
      const path = join(folder, 'file');
      await writeWhole(path, bytes('old and long'));
      const count = await changesOf(fs => writeWhole(path, bytes('old and long'), fs));
      expect(count).toBeGreaterThanOrEqual(5);
      const seen = new Set<string>();
      for (let n = 0; n < count; n++) {
        await expect(writeWhole(path, bytes(`new ${n}`), failingAt(n, half).fs)).rejects.toThrow(/no more/);
        const text = readFileSync(path, 'utf8');
        expect(['old and long', `new ${n}`]).toContain(text);
        seen.add(text.slice(0, 3));
        await writeWhole(path, bytes('old and long'));
        expect(all()).toEqual(['file']);
      }
      expect([...seen].sort()).toEqual(['new', 'old']);
    },
  );

  test('an error removes the temporary file', async () => {
    const path = join(folder, 'file');
    const {fs} = node();
    const rename = () => Promise.reject(new Error('no space'));
    await expect(writeWhole(path, bytes('x'), {...fs, open: fs.open, rename} as typeof fs)).rejects.toThrow(
      'no space',
    );
    expect(all()).toEqual([]);
  });

  test('what killed writers of the same path left is removed, and nothing else', async () => {
    const here = digest(bytes(placeOfProcess())).slice(0, 8);
    const gone = Number(execFileSync(process.execPath, ['-p', 'process.pid'], {encoding: 'utf8'}));
    const dead = `.file.${here}-${gone}-01234567-1.tmp`;
    // Another thread's: its number is ours.
    const ours = `.file.${here}-${process.pid}-01234567-1.tmp`;
    const living = `.file.${here}-${process.ppid}-01234567-1.tmp`;
    const elsewhere = `.file.00000000-${gone}-01234567-1.tmp`;
    const old = `.file.${here}-${process.pid}-01234567-2.tmp`;
    const other = `.other.${here}-${gone}-01234567-1.tmp`;
    for (const name of [dead, ours, living, elsewhere, old, other, 'file.tmp', '.file.tmp']) {
      writeFileSync(join(folder, name), 'x');
    }
    utimesSync(join(folder, old), new Date(0), new Date(0));
    await writeWhole(join(folder, 'file'), bytes('x'));
    expect(all()).toEqual(['file', 'file.tmp', '.file.tmp', ours, living, elsewhere, other].sort());
  });

  test('two writers at once: one of the two', async () => {
    const path = join(folder, 'file');
    await Promise.all(['one', 'two', 'three'].map(text => writeWhole(path, bytes(text))));
    expect(['one', 'two', 'three']).toContain(readFileSync(path, 'utf8'));
    expect(all()).toEqual(['file']);
  });
});

test('threads of one process, each with this module for itself, write one file at once', async () => {
  const path = join(folder, 'file');
  vi.resetModules();
  const other = await import('../../src/adapter/whole-file.js');
  const modules = [{writeWhole}, other];
  expect(modules[0]!.writeWhole).not.toBe(modules[1]!.writeWhole);
  const each = modules.map(async (module, thread) => {
    for (let i = 0; i < 100; i++) await module.writeWhole(path, bytes(`${thread} ${i}`));
  });
  await Promise.all(each);
  expect(readFileSync(path, 'utf8')).toMatch(/^[01] 99$/);
  expect(all()).toEqual(['file']);
});

test.each([181, 240, 255])('a name of %i characters', async length => {
  const name = 'n'.repeat(length);
  const path = join(folder, name);
  const left: string[] = [];
  const {fs} = node();
  const rename = () => Promise.reject(new Error('gone'));
  const rm = () => (left.push(...all()), Promise.resolve());
  await expect(writeWhole(path, bytes('a'), {...fs, open: fs.open, rename, rm})).rejects.toThrow('gone');
  expect(left).toEqual(all());
  await writeWhole(path, bytes('b'));
  expect(readFileSync(path, 'utf8')).toBe('b');
  // With what the first left.
  expect(all()).toEqual([name]);
});

describe('what a system does not do', () => {
  const refusing = (code: string) => Object.assign(new Error(code), {code});
  afterEach(() => Object.defineProperty(process, 'platform', {value: platform}));
  const {platform} = process;

  test.each(['EPERM', 'EACCES', 'EBUSY'])('on Windows a rename is tried again after %s', async code => {
    Object.defineProperty(process, 'platform', {value: 'win32'});
    const {fs} = node();
    let [left, tried] = [3, 0];
    const rename = (from: string, to: string) => {
      tried++;
      return left-- > 0 ? Promise.reject(refusing(code)) : fs.rename(from, to);
    };
    await writeWhole(join(folder, 'file'), bytes('x'), {...fs, rename});
    expect(tried).toBe(4);
    expect(all()).toEqual(['file']);
    left = Infinity;
    await expect(writeWhole(join(folder, 'file'), bytes('y'), {...fs, rename})).rejects.toThrow(code);
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('x');
    expect(all()).toEqual(['file']);
  });

  test('elsewhere it is an error at once', async () => {
    Object.defineProperty(process, 'platform', {value: 'linux'});
    let tried = 0;
    const rename = () => (tried++, Promise.reject(refusing('EACCES')));
    await expect(writeWhole(join(folder, 'file'), bytes('y'), {...node().fs, rename})).rejects.toThrow(
      'EACCES',
    );
    expect(tried).toBe(1);
  });

  test('a folder that may be written to and not read: the save is over', async () => {
    const {fs} = node();
    const open = (path: string, flags: string) =>
      flags === 'r' ? Promise.reject(refusing('EACCES')) : fs.open(path, flags);
    await writeWhole(join(folder, 'file'), bytes('x'), {...fs, open});
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('x');
    const broken = (path: string, flags: string) =>
      flags === 'r' ? Promise.reject(refusing('EIO')) : fs.open(path, flags);
    await expect(writeWhole(join(folder, 'file'), bytes('y'), {...fs, open: broken})).rejects.toThrow('EIO');
  });
});

describe('nodeFiles', () => {
  test('gives back what it was given, from the folder or its model.json', async () => {
    const given = artifacts(1);
    await nodeFiles(folder).save!(given);
    for (const path of [folder, join(folder, 'model.json')]) {
      const {weightData, ...rest} = await nodeFiles(path).load!();
      const {weightData: expected, ...others} = given;
      expect(rest).toEqual(others);
      expect(dataOf({weightData: weightData!})).toEqual(dataOf({weightData: expected!}));
    }
  });

  test('weights in several pieces, none at all, and tensors without numbers', async () => {
    const whole = artifacts(1);
    const data = whole.weightData as ArrayBuffer;
    await nodeFiles(folder).save!({...whole, weightData: [data.slice(0, 7), data.slice(7)]});
    expect(dataOf(await nodeFiles(folder).load!())).toEqual(dataOf(whole));
    await nodeFiles(folder).save!({modelTopology: {}});
    expect(all()).toEqual(['model.json']);
    expect((await nodeFiles(folder).load!()).weightSpecs).toEqual([]);
    const none = [{name: 'none', shape: [0, 3], dtype: 'float32' as const}];
    await nodeFiles(folder).save!({modelTopology: {}, weightSpecs: none, weightData: new ArrayBuffer(0)});
    expect((await nodeFiles(folder).load!()).weightSpecs).toEqual(none);
  });

  test('a second save leaves only its own files, and takes tfjs-node’s weights.bin away', async () => {
    const {weightSpecs, weightData} = artifacts(1);
    writeFileSync(join(folder, 'weights.bin'), new Uint8Array(weightData as ArrayBuffer));
    writeFileSync(join(folder, 'notes.txt'), 'mine');
    writeFileSync(join(folder, 'mine.bin'), 'mine');
    const manifest = [{paths: ['./weights.bin'], weights: weightSpecs}];
    writeFileSync(
      join(folder, 'model.json'),
      JSON.stringify({modelTopology: {a: 1}, weightsManifest: manifest}),
    );
    // The layout of tfjs-node, which writes such paths or without the dot.
    expect(dataOf(await nodeFiles(folder).load!())).toEqual(dataOf({weightData: weightData!}));
    writeFileSync(
      join(folder, 'model.json'),
      JSON.stringify({
        modelTopology: {},
        weightsManifest: [{paths: ['weights.bin', 'notes.txt'], weights: []}],
      }),
    );
    await nodeFiles(folder).save!(artifacts(2));
    await nodeFiles(folder).save!(artifacts(3));
    expect(all()).toEqual([
      'mine.bin',
      'model.json',
      'notes.txt',
      expect.stringMatching(/^weights-[0-9a-f]{16}\.bin$/),
    ]);
  });

  test('tfjs’s own loader over HTTP reads the folder by its manifest', async () => {
    const model = tf.sequential({layers: [tf.layers.dense({units: 3, inputShape: [4], name: 'only'})]});
    await model.save(nodeFiles(folder));
    const fetched: string[] = [];
    const fetchFunc = async (path: RequestInfo | URL) => {
      fetched.push(String(path));
      const name = String(path).slice('http://host/a/'.length);
      return new Response(readFileSync(join(folder, name)));
    };
    const loaded = await tf.loadLayersModel(
      tf.io.http('http://host/a/model.json', {fetchFunc: fetchFunc as typeof fetch}),
    );
    expect(fetched).toHaveLength(2);
    expect([...loaded.getWeights()[0]!.dataSync()]).toEqual([...model.getWeights()[0]!.dataSync()]);
    const back = await tf.loadLayersModel(nodeFiles(folder));
    expect([...back.getWeights()[0]!.dataSync()]).toEqual([...model.getWeights()[0]!.dataSync()]);
    [model, loaded, back].forEach(each => each.dispose());
  });

  test.each([false, true])(
    'a save broken off anywhere leaves the one before, or the new one (half: %s)',
    async half => {
      const place = join(folder, 'model');
      const count = await (async () => {
        await nodeFiles(place).save!(artifacts(1));
        return changesOf(fs => nodeFiles(place, fs).save!(artifacts(2)));
      })();
      expect(count).toBeGreaterThan(10);
      const seen = new Set<number>();
      for (let n = 0; n < count; n++) {
        await nodeFiles(place).save!(artifacts(1));
        const {fs, changes} = failingAt(n, half);
        const failed = await nodeFiles(place, fs).save!(artifacts(2, 700)).then(
          () => false,
          () => true,
        );
        const loaded = await nodeFiles(place).load!();
        seen.add(seedIn(loaded));
        expect(dataOf(loaded)).toEqual(dataOf(seedIn(loaded) === 1 ? artifacts(1) : artifacts(2, 700)));
        // A save that did not fail is there.
        if (!failed) expect(seedIn(loaded), changes.join()).toBe(2);
      }
      expect([...seen].sort()).toEqual([1, 2]);
    },
  );

  test.each(Object.entries(CUTS))(
    'a power cut at any moment leaves the one before, or the new one, which a save that is over is: %s',
    async (_, survives) => {
      const first = new Disk();
      await nodeFiles('/runs/model', first.fs).save!(artifacts(1));
      const whole = first.copy();
      await nodeFiles('/runs/model', whole.fs).save!(artifacts(2, 700));
      expect(whole.count).toBeGreaterThan(8);
      const seen = new Set<number>();
      for (let n = 0; n <= whole.count; n++) {
        const disk = first.copy(n);
        const isOver = await nodeFiles('/runs/model', disk.fs).save!(artifacts(2, 700)).then(
          () => true,
          () => false,
        );
        const loaded = await nodeFiles('/runs/model', disk.afterCut(survives).fs).load!();
        seen.add(seedIn(loaded));
        expect(dataOf(loaded)).toEqual(dataOf(seedIn(loaded) === 1 ? artifacts(1) : artifacts(2, 700)));
        if (isOver) expect(seedIn(loaded)).toBe(2);
      }
      expect([...seen].sort()).toEqual([1, 2]);
    },
  );

  test.each(Object.entries(CUTS))(
    'a first save that is over outlasts a power cut: %s',
    async (_, survives) => {
      const disk = new Disk();
      await nodeFiles('/some/new/model', disk.fs).save!(artifacts(1));
      await writeWhole('/other/new/file', bytes('all of it'), disk.fs);
      const left = disk.afterCut(survives).fs;
      expect(dataOf(await nodeFiles('/some/new/model', left).load!())).toEqual(dataOf(artifacts(1)));
      expect(new TextDecoder().decode(await left.readFile('/other/new/file'))).toBe('all of it');
    },
  );

  test('the very first save broken off leaves nothing that looks like a model', async () => {
    const count = await changesOf(fs => nodeFiles(join(folder, 'whole'), fs).save!(artifacts(1)));
    let nothing = 0;
    for (let n = 0; n < count; n++) {
      const place = join(folder, `m${n}`);
      await nodeFiles(place, failingAt(n).fs).save!(artifacts(1)).catch(() => {});
      if (existsSync(join(place, 'model.json'))) expect(seedIn(await nodeFiles(place).load!())).toBe(1);
      else {
        nothing++;
        await expect(nodeFiles(place).load!()).rejects.toThrow(/there is no/);
      }
    }
    expect(nothing).toBeGreaterThan(5);
  });

  test('saves at once wait for each other, and readers see one or the other', async () => {
    await nodeFiles(folder).save!(artifacts(0));
    let open = true;
    const reading = (async () => {
      const seen = new Set<number>();
      while (open) {
        const loaded = await nodeFiles(folder).load!();
        expect(dataOf(loaded)).toEqual(dataOf(artifacts(seedIn(loaded))));
        seen.add(seedIn(loaded));
      }
      return seen;
    })();
    await Promise.all([1, 2, 3, 4, 5, 6].map(seed => nodeFiles(folder).save!(artifacts(seed))));
    open = false;
    expect((await reading).size).toBeGreaterThan(1);
    expect(seedIn(await nodeFiles(folder).load!())).toBe(6);
    expect(all()).toHaveLength(2);
  });

  describe('what is wrong with a file is said, and nothing is made for it', () => {
    const weightsFile = () =>
      join(
        folder,
        all().find(name => name.endsWith('.bin'))!,
      );
    const manifest = () =>
      JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8')) as Record<string, any>;
    const rewrite = (change: (json: Record<string, any>) => void) => {
      const json = manifest();
      change(json);
      writeFileSync(join(folder, 'model.json'), JSON.stringify(json));
    };
    const wrongs: [string, () => void, RegExp][] = [
      [
        'cut off',
        () => writeFileSync(weightsFile(), readFileSync(weightsFile()).subarray(0, 20)),
        /28 bytes.*20/,
      ],
      ['longer', () => writeFileSync(weightsFile(), Buffer.alloc(32)), /28 bytes.*32/],
      [
        'one bit off',
        () => {
          const content = readFileSync(weightsFile());
          content[3]! ^= 0x80;
          writeFileSync(weightsFile(), content);
        },
        /damaged/,
      ],
      ['missing', () => rmSync(weightsFile()), /names the file .*weights-.*cannot be read/],
      [
        'half a model.json',
        () => writeFileSync(join(folder, 'model.json'), '{"modelTopology": {'),
        /model\.json is damaged/,
      ],
      ['no model.json', () => rmSync(join(folder, 'model.json')), /there is no .*model\.json/],
      ['null', () => writeFileSync(join(folder, 'model.json'), 'null'), /no model of tfjs/],
      [
        'a list',
        () => writeFileSync(join(folder, 'model.json'), '{"weightsManifest": [null]}'),
        /no model of tfjs/,
      ],
      [
        'a file outside',
        () => rewrite(json => (json['weightsManifest'][0].paths = ['../secret.bin'])),
        /no model of tfjs/,
      ],
      [
        'an absolute file',
        () => rewrite(json => (json['weightsManifest'][0].paths = ['/etc/passwd'])),
        /no model of tfjs/,
      ],
      [
        'an immense shape',
        () => rewrite(json => (json['weightsManifest'][0].weights[0].shape = [2 ** 40])),
        /cut off/,
      ],
      [
        'a negative shape',
        () => rewrite(json => (json['weightsManifest'][0].weights[0].shape = [-5])),
        /shape \[-5\]/,
      ],
      [
        'an unknown type',
        () => rewrite(json => (json['weightsManifest'][0].weights[0].dtype = 'constructor')),
        /does not know/,
      ],
      [
        'one name twice',
        () => rewrite(json => (json['weightsManifest'][0].weights[0].name = 'b')),
        /two tensors called "b"/,
      ],
    ];
    test.each(wrongs)('%s', async (_, spoil, message) => {
      await nodeFiles(folder).save!(artifacts(1));
      spoil();
      const before = tf.memory().numTensors;
      await expect(nodeFiles(folder).load!()).rejects.toThrow(message);
      expect(tf.memory().numTensors).toBe(before);
    });

    test('nothing there', async () => {
      await expect(nodeFiles(join(folder, 'nothing')).load!()).rejects.toThrow(
        /there is nothing at .*nothing/,
      );
      await expect(nodeFiles(folder).save!({modelTopology: new ArrayBuffer(3)})).rejects.toThrow(
        /binary topology/,
      );
      await expect(
        nodeFiles(folder).save!({...artifacts(1), weightData: new ArrayBuffer(3)}),
      ).rejects.toThrow(/28 bytes.*3/);
      writeFileSync(join(folder, 'file'), '');
      mkdirSync(join(folder, 'empty'));
      await expect(nodeFiles(join(folder, 'file/below')).save!(artifacts(1))).rejects.toThrow(/ENOTDIR/);
    });
  });
});

describe('addresses', () => {
  test.each([
    ['file://a/b', 'linux', 'a/b'],
    ['file://./a', 'linux', './a'],
    ['file:///a/b', 'linux', '/a/b'],
    ['file:///a b/100%25 ü', 'linux', '/a b/100%25 ü'],
    ['file:///C:/a', 'linux', '/C:/a'],
    ['file:///C:/a', 'win32', 'C:/a'],
    ['file://C:\\a b', 'win32', 'C:\\a b'],
    ['file:///\\\\server\\share', 'win32', '/\\\\server\\share'],
    ['file://a', 'win32', 'a'],
  ])('%s on %s is %s', (url, platform, path) => expect(filePath(url, platform)).toBe(path));

  test('an empty one, and one that is none', () => {
    expect(() => filePath('file://', 'linux')).toThrow(/write file:\/\/folder/);
    expect(() => filePath('/a', 'linux')).toThrow(/no address/);
  });

  test('Node before 20.16, and a browser, are told what to do', () => {
    vi.stubGlobal('process', {versions: {node: '20.11.0'}});
    expect(() => nodeFiles('a')).toThrow(/needs Node 20\.16 or later, and this is 20\.11\.0/);
    vi.stubGlobal('process', undefined);
    expect(() => nodeFiles('a')).toThrow(/in a browser use indexeddb/);
    vi.unstubAllGlobals();
  });
});

describe('digest', () => {
  test('every bit counts, wherever it is, and so does the length', () => {
    const base = new Uint8Array(64).fill(7);
    const seen = new Set([digest(base)]);
    for (let bit = 0; bit < 512; bit++) {
      const changed = base.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      seen.add(digest(changed));
      // Two signs turned do not cancel.
      if (bit % 32 === 31 && bit < 500) {
        changed[(bit >> 3) + 4]! ^= 1 << (bit & 7);
        seen.add(digest(changed));
      }
    }
    for (let length = 0; length < 64; length++) seen.add(digest(new Uint8Array(length)));
    expect(seen.size).toBe(1 + 512 + 15 + 64);
    for (const text of seen) expect(text).toMatch(/^[0-9a-f]{16}$/);
  });

  test('does not depend on where the bytes lie', () => {
    const within = new Uint8Array(80).map((_, i) => i * 37);
    for (let at = 1; at < 8; at++)
      expect(digest(within.subarray(at, at + 61))).toBe(digest(within.slice(at, at + 61)));
  });
});
