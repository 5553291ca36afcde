import {mkdirSync, mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {gzipSync} from 'node:zlib';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {readCsv} from '../../../src/cli/finetune/csv.js';
import {readIdx} from '../../../src/cli/finetune/idx.js';
import {readJsonLines} from '../../../src/cli/finetune/jsonl.js';
import {withChannels} from '../../../src/cli/finetune/picture.js';
import {readPictures} from '../../../src/cli/finetune/pictures.js';
import {decodePng} from '../../../src/cli/finetune/png.js';
import {readData} from '../../../src/cli/finetune/read-data.js';
import {isMissing, numberIn} from '../../../src/cli/finetune/records.js';
import {idsOf, readVocabulary} from '../../../src/cli/finetune/vocabulary.js';
import {UsageError} from '../../../src/cli/usage-error.js';
import {grey, png, write} from './make.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'readers-'));
});
afterAll(() => rmSync(folder, {recursive: true}));

describe('CSV', () => {
  test('quotes, doubled quotes, commas and line ends within them, CRLF, a byte order mark', () => {
    const text = '\ufeffname,"a, ""b""",c\r\n"two\r\nlines",1,\r\n\r\nlast,"",3';
    expect(readCsv('x.csv', text)).toEqual({
      name: 'x.csv',
      columns: ['name', 'a, "b"', 'c'],
      rows: [
        ['two\r\nlines', '1', ''],
        ['last', '', '3'],
      ],
      lines: [2, 5],
    });
  });

  test('a first line with a number in it is no header', () => {
    expect(readCsv('x', '1,2,a\n3,4,b').columns).toEqual(['1', '2', '3']);
    expect(readCsv('x', '1,2,a\n3,4,b').rows.length).toBe(2);
    expect(readCsv('x', 'text,label\ngood,yes', undefined).columns).toEqual(['text', 'label']);
    expect(readCsv('x', 'good,yes\nbad,no', false).rows.length).toBe(2);
    expect(readCsv('x', ',b\n1,2').columns).toEqual(['1', 'b']);
  });

  test('tabs and semicolons', () => {
    expect(readCsv('x', 'a\tb\n1\t2').rows).toEqual([['1', '2']]);
    expect(readCsv('x', 'a;b\n1,5;2').rows).toEqual([['1,5', '2']]);
  });

  test.each([
    ['a,b\n1,2\n3\n', 'line 3 has 1 cell, and the first line 2'],
    ['a,b\n"x\ny",2\n3,4,5\n', 'line 4 has 3 cells'],
    ['a,b\n1,"2\n', 'the quote in line 2 is never closed'],
    ['a,b\n1,"2"3\n', 'line 2 has text after a closing quote'],
    ['a,b\n1,2"3\n', 'line 2 has a quote within a cell'],
    ['a,a\n1,2\n', 'two columns called "a"'],
    ['', 'x.csv is empty'],
    ['\n\r\n', 'x.csv is empty'],
    ['a,b\n', 'no rows, only the names'],
  ])('%j is told', (text, message) => {
    expect(() => readCsv('x.csv', text)).toThrow(UsageError);
    expect(() => readCsv('x.csv', text)).toThrow(message);
  });

  test('what is a number, and what is missing', () => {
    expect(['1', '-1.5', ' .5 ', '1e-3', '+2.'].map(numberIn)).toEqual([1, -1.5, 0.5, 1e-3, 2]);
    expect(['', 'x', '1,5', '0x10', 'Infinity', 'NaN', '1e60', NaN].map(numberIn)).toEqual(
      Array(8).fill(null),
    );
    expect(['', ' ', 'NA', 'nan', 'null', '?', NaN].every(isMissing)).toBe(true);
    expect(['0', 'x', 0, 'Nathan'].some(isMissing)).toBe(false);
  });
});

describe('JSON lines', () => {
  test('numbers, texts, truth, null and lists', () => {
    const text =
      '{"x": [[1, 2], [3, 4]], "ok": true, "label": "a"}\n\n{"ok": null, "x": [[5, 6], [7, 8]], "label": 7}\n';
    expect(readJsonLines('x', text)).toEqual({
      name: 'x',
      columns: ['x[0]', 'x[1]', 'x[2]', 'x[3]', 'ok', 'label'],
      rows: [
        [1, 2, 3, 4, 1, 'a'],
        [5, 6, 7, 8, NaN, 7],
      ],
      lines: [1, 3],
    });
  });

  test.each([
    ['{"a": 1}\n{"b": 1}', 'line 2 has no "a", which line 1 has'],
    ['{"a": [1, 2]}\n{"a": [1, 2, 3]}', 'line 2 has "a[2]", which line 1 has not'],
    ['{"a": 1}\n{"a": ', 'line 2 is no JSON'],
    ['[1, 2]', 'line 1 is no object'],
    ['{"a": {"b": 1}}', '"a" is neither a number, a text nor a list'],
    ['\n', 'is empty'],
  ])('%j is told', (text, message) => {
    expect(() => readJsonLines('x.jsonl', text)).toThrow(UsageError);
    expect(() => readJsonLines('x.jsonl', text)).toThrow(message);
  });
});

describe('PNG', () => {
  const noise = (x: number, y: number) => (x * 37 + y * 101 + x * y * 13) % 256;

  test.each([
    [0, 1],
    [2, 3],
    [4, 2],
    [6, 4],
  ])('colour type %i, every filter', (colour, channels) => {
    const [width, height] = [7, 10];
    const row = (y: number) => Array.from({length: width * channels}, (_, i) => noise(i, y));
    const picture = decodePng(png({width, height, colour, row, filter: y => y % 5}));
    expect(picture).toEqual({
      ...{width, height, channels},
      bytes: Uint8Array.from(Array.from({length: height}, (_, y) => row(y)).flat()),
    });
  });

  test('of two neighbours that are as near, the one above', () => {
    const rows = [
      [10, 8],
      [11, 99],
    ];
    const picture = decodePng(png({width: 2, height: 2, row: y => rows[y]!, filter: () => 4}));
    expect([...picture.bytes]).toEqual(rows.flat());
  });

  test('fewer bits, sixteen bits, a palette', () => {
    const one = decodePng(png({width: 10, height: 1, depth: 1, row: () => [0b10100000, 0b01000000]}));
    expect([...one.bytes]).toEqual([255, 0, 255, 0, 0, 0, 0, 0, 0, 255]);
    const four = decodePng(png({width: 3, height: 1, depth: 4, row: () => [0x0f, 0x80]}));
    expect([...four.bytes]).toEqual([0, 255, 136]);
    const deep = decodePng(png({width: 2, height: 1, depth: 16, row: () => [7, 200, 9, 1]}));
    expect([...deep.bytes]).toEqual([7, 9]);
    const palette = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    const few = {width: 3, height: 1, colour: 3, depth: 2, row: () => [0b10000100], palette};
    expect(decodePng(png(few))).toMatchObject({channels: 3, bytes: Uint8Array.of(7, 8, 9, 1, 2, 3, 4, 5, 6)});
    expect(decodePng(png({...few, alphas: [0]}))).toMatchObject({
      channels: 4,
      bytes: Uint8Array.of(7, 8, 9, 255, 1, 2, 3, 0, 4, 5, 6, 255),
    });
  });

  test('what is damaged is told', () => {
    const good = grey(4, 4, noise);
    expect(() => decodePng(good.subarray(0, good.length - 20))).toThrow(
      /ends in the middle|cannot be unpacked/,
    );
    expect(() => decodePng(Uint8Array.of(1, 2, 3))).toThrow('is no PNG');
    expect(() => decodePng(png({width: 4, height: 4, row: () => [1, 2, 3]}))).toThrow(/too few/);
    expect(() =>
      decodePng(png({width: 2, height: 1, row: () => [1, 2], filter: () => 0, interlace: 1})),
    ).toThrow('is interlaced');
    const huge = grey(1, 1, noise);
    new DataView(huge.buffer).setUint32(16, 1 << 30);
    expect(() => decodePng(huge)).toThrow('1073741824 x 1 pixels');
    const flat = {width: 1, height: 1, colour: 3, palette: [1, 2, 3], row: () => [1]};
    expect(() => decodePng(png(flat))).toThrow('a colour that its palette lacks');
  });
});

test('channels are changed where that is unambiguous', () => {
  const of = (channels: number, ...bytes: number[]) => ({
    ...{width: 1, height: 1, channels},
    bytes: Uint8Array.from(bytes),
  });
  expect([...withChannels(of(1, 9), 3).bytes]).toEqual([9, 9, 9]);
  expect([...withChannels(of(3, 100, 50, 200), 1).bytes]).toEqual([82]);
  expect([...withChannels(of(4, 1, 2, 3, 255), 3).bytes]).toEqual([1, 2, 3]);
  expect([...withChannels(of(2, 8, 255), 3).bytes]).toEqual([8, 8, 8]);
  expect(() => withChannels(of(4, 1, 2, 3, 254), 3)).toThrow('transparent');
  expect(() => withChannels(of(1, 9), 4)).toThrow('has 1 channel, and the model takes 4');
});

describe('folders of images', () => {
  test('the folders are the classes', async () => {
    const at = join(folder, 'pets');
    for (const name of ['dog/b.png', 'cat/c.PNG', 'dog/a.png'])
      write(
        join(at, name),
        grey(2, 2, () => name.length),
      );
    write(join(at, 'dog/notes.txt'), 'x');
    mkdirSync(join(at, 'bird'));
    write(join(at, '.hidden'), 'x');
    const pictures = await readPictures(at);
    expect(pictures).toMatchObject({name: 'pets', size: 3, labels: ['cat', 'dog', 'dog']});
    expect(pictures.notes).toEqual([
      '1 file or folder passed over: no PNG or JPEG',
      'no images in bird: this folder is no class',
    ]);
    expect(pictures.where(1)).toBe(join(at, 'dog/a.png'));
    expect([...(await pictures.read(1)).bytes]).toEqual([9, 9, 9, 9]);
    write(join(at, 'dog/c.png'), 'no image');
    const more = await readPictures(at);
    await expect(more.read(3)).rejects.toThrow(/^is no PNG or JPEG image/);
  });

  test('without labels, and without images', async () => {
    write(
      join(folder, 'flat/a.png'),
      grey(1, 1, () => 0),
    );
    await expect(readPictures(join(folder, 'flat'))).rejects.toThrow(
      /have no labels: put those of each class/,
    );
    write(join(folder, 'none/x/a.txt'), '');
    await expect(readPictures(join(folder, 'none'))).rejects.toThrow(/no PNG or JPEG images/);
  });
});

test('the files of MNIST', async () => {
  const images = Uint8Array.from([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40]);
  const at = write(join(folder, 'few-images-idx3-ubyte.gz'), gzipSync(images));
  expect(() => readIdx(at)).toThrow(/few-labels-idx1-ubyte.gz is missing/);
  write(join(folder, 'few-labels-idx1-ubyte.gz'), gzipSync(Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 7, 3)));
  const pictures = readIdx(at);
  expect(pictures).toMatchObject({size: 2, labels: ['7', '3']});
  expect([...(await pictures.read(1)).bytes]).toEqual([30, 40]);
  write(at, images.subarray(0, 19));
  expect(() => readIdx(at)).toThrow('it holds 3 bytes, and should 4');
});

test('data of an unknown kind, or none', async () => {
  await expect(readData(join(folder, 'nothing.csv'))).rejects.toThrow('no such data');
  await expect(readData(write(join(folder, 'x.xlsx'), 'x'))).rejects.toThrow(
    'of an unknown kind: there is .csv',
  );
  await expect(readData(write(join(folder, 'x.csv'), Uint8Array.of(0xe9, 0x2c)))).rejects.toThrow(
    'not UTF-8',
  );
});

test('a vocabulary of words, and one of characters', () => {
  expect(readVocabulary(folder)).toBeNull();
  write(join(folder, 'w/vocabulary.txt'), '[PAD]\n[UNK]\nfilm\ngood\n');
  const words = readVocabulary(join(folder, 'w'))!;
  expect(idsOf('A GOOD film!', words)).toEqual([1, 3, 2]);
  write(join(folder, 'c/vocab.json'), '{"a": 5, "b": 2}');
  const characters = readVocabulary(join(folder, 'c'))!;
  expect([characters.pad, characters.unknown, idsOf('bAxa', characters)]).toEqual([0, null, [2, 5, 5]]);
  write(join(folder, 'c/vocab.json'), '{"a": "x"}');
  expect(() => readVocabulary(join(folder, 'c'))).toThrow('neither a JSON list of tokens nor ids by token');
});
