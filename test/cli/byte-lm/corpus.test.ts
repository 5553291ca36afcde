import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {
  declarationsCorpus,
  englishCorpus,
  randomWindows,
  textCorpus,
} from '../../../src/cli/byte-lm/corpus.js';
import {repeatedPieces, withoutRepeats} from '../../../src/cli/byte-lm/hold-out.js';
import {hash32, seededRandom} from '../../../src/cli/random.js';
import {UsageError} from '../../../src/cli/usage-error.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'corpus-'));
});
afterAll(() => rmSync(folder, {recursive: true}));

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe('English', () => {
  function installed(name: string, manifest: object, readme?: string): void {
    const place = join(folder, 'modules', name);
    mkdirSync(place, {recursive: true});
    writeFileSync(join(place, 'package.json'), JSON.stringify({name, ...manifest}));
    if (readme !== undefined) writeFileSync(join(place, 'ReadMe.md'), readme);
  }

  test('packages by name, each on one side only, without copies and platform packages', () => {
    const names = Array.from({length: 40}, (_, i) => `package-${i}`);
    for (const name of names) installed(name, {}, `This is the text of the package that is called ${name}.`);
    installed('@scope/inner', {}, 'This sentence is in the package of a scope and nowhere else.');
    installed('a-copy', {}, 'This is the text of the package that is called package-7.');
    installed(
      'binary',
      {os: ['linux'], cpu: ['x64']},
      'This sentence must not appear in any of the two parts.',
    );
    installed('package-0/node_modules/nested', {}, 'This sentence must not appear in any of the two parts.');
    installed('silent', {});
    const {train, heldOut} = englishCorpus(join(folder, 'modules'));
    const [a, b] = [decode(train), decode(heldOut)];
    for (const name of names) {
      const [inside, outside] = hash32(name) % 10 === 0 ? [b, a] : [a, b];
      // The copy comes first in the alphabet and is the one that is kept.
      if (name !== 'package-7') expect(inside).toContain(`called ${name}.`);
      if (name !== 'package-7') expect(outside).not.toContain(`called ${name}.`);
    }
    expect((a + b).split('called package-7.').length).toBe(2);
    expect(a + b).toContain('package of a scope');
    expect(a + b).not.toContain('must not appear');
    expect(b.length).toBeGreaterThan(0);
  });

  test('the installed packages give a few hundred kilobytes, about a tenth held out', () => {
    const {train, heldOut} = englishCorpus();
    expect(train.length).toBeGreaterThan(200_000);
    const share = heldOut.length / (train.length + heldOut.length);
    expect(share).toBeGreaterThan(0.05);
    expect(share).toBeLessThan(0.2);
    expect(englishCorpus().train).toEqual(train);
  });
});

test('declarations', () => {
  const {train, heldOut} = declarationsCorpus();
  expect(decode(train)).toContain('interface Array<T>');
  expect(decode(train)).not.toContain('WorkerGlobalScope extends');
  expect(heldOut.length).toBeGreaterThan(64 * 1024);
  const pieces = new Set<string>();
  const text = Buffer.from(heldOut).toString('latin1');
  for (let i = 0; i + 48 <= text.length; i++) pieces.add(text.slice(i, i + 48));
  const known = Buffer.from(train).toString('latin1');
  for (let i = 0; i + 48 <= known.length; i++) {
    if (pieces.has(known.slice(i, i + 48)))
      throw new Error(`held out and trained on: ${known.slice(i, i + 48)}`);
  }
});

describe('what the training text repeats is not held out', () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const long = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ';

  test('lines that it has, at any indent, and lines with 48 bytes of it', () => {
    const train = bytes(`one\n  two\n${long}\n`);
    const heldOut = bytes(`one\ntwo\nthree\n<${long.slice(0, 48)}>\n<${long.slice(0, 47)}>\n`);
    expect(decode(withoutRepeats(heldOut, train))).toBe(`three\n<${long.slice(0, 47)}>\n`);
  });

  test('stretches across lines, also where leaving a line out made them', () => {
    const [a, b] = [long.slice(0, 30), long.slice(30)];
    const train = bytes(`x${a}\n${b}y\nmiddle\n`);
    expect(decode(withoutRepeats(bytes(`${a}\nmiddle\n${b}\nend\n`), train))).toBe('end\n');
  });

  test('every place of a repetition is found', () => {
    expect(repeatedPieces(bytes(`${long.slice(0, 48)}-${long.slice(0, 49)}`), bytes(long))).toEqual([
      0, 49, 50,
    ]);
    expect(repeatedPieces(bytes('short'), bytes(long))).toEqual([]);
  });
});

describe("the user's texts", () => {
  test('the last tenth of every file is held out', () => {
    const a = file('a.txt', 'a'.repeat(9000) + 'b'.repeat(1000));
    const b = file('b.txt', 'c'.repeat(900) + 'd'.repeat(100));
    const {train, heldOut} = textCorpus([a, b]);
    expect(decode(train)).toBe('a'.repeat(9000) + 'c'.repeat(900));
    expect(decode(heldOut)).toBe('b'.repeat(1000) + 'd'.repeat(100));
  });

  test('any language in UTF-8 is text', () => {
    expect(
      textCorpus([file('chinese.txt', '\u4f4e\u79e9\u9002\u914d\r\n\t'.repeat(800))]).train.length,
    ).toBeGreaterThan(9000);
  });

  test.each([
    ['missing', () => join(folder, 'no-such-file'), 'no such text file'],
    ['a folder', () => folder, 'not a file'],
    ['empty', () => file('empty.txt', ''), 'the text file is empty'],
    ['NUL bytes', () => file('nul.bin', 'text\0text'.repeat(1000)), 'not a text file'],
    [
      'not UTF-8',
      () =>
        file(
          'random.bin',
          Uint8Array.from({length: 9000}, (_, i) => 1 + ((i * 89) % 255)),
        ),
      'not a text file',
    ],
    ['too short', () => file('short.txt', 'A few words.'), 'too short: 12 bytes in short.txt, needed 5120'],
  ])('%s is refused', (_, path, message) => {
    const given = path();
    expect(() => textCorpus([given])).toThrow(UsageError);
    expect(() => textCorpus([given])).toThrow(message);
  });
});

test('random windows are stretches of the text, decided by the seed, from its first byte to its last', () => {
  const bytes = Uint8Array.from({length: 20}, (_, i) => i);
  const windows = randomWindows(bytes, 500, 5, seededRandom(0));
  expect(windows).toEqual(randomWindows(bytes, 500, 5, seededRandom(0)));
  expect(windows).not.toEqual(randomWindows(bytes, 500, 5, seededRandom(1)));
  const starts = new Set<number>();
  for (let i = 0; i < 500; i++) {
    const window = [...windows.subarray(5 * i, 5 * i + 5)];
    starts.add(window[0]!);
    expect(window).toEqual([0, 1, 2, 3, 4].map(offset => window[0]! + offset));
  }
  expect([...starts].sort((a, b) => a - b)).toEqual(Array.from({length: 16}, (_, i) => i));
});
