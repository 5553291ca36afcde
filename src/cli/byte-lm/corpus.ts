/** The texts of the byte-level language model, as bytes, each with a part that is held out for evaluation. */
import {existsSync, readFileSync, readdirSync, statSync} from 'node:fs';
import {basename, dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {hash32} from '../random.js';
import {UsageError} from '../usage-error.js';
import {withoutRepeats} from './hold-out.js';
import {proseOf} from './prose.js';

/** Bytes of text to train on and bytes never trained on. */
export interface Corpus {
  train: Uint8Array;
  heldOut: Uint8Array;
  /** What it is and what of it is held out, for people. */
  name: string;
  heldOutIs: string;
}

/** The fewest bytes each part of a user's text must have: a few windows of the model's context. */
const leastTrainBytes = 2048;
const leastHeldOutBytes = 512;

/** The fewest bytes of held-out English that tell how well a model knows English. */
export const leastEnglishBytes = 16 * 1024;

/** The `node_modules` folders from the package's own folder upwards, nearest first. */
function nodeModules(): string[] {
  const found: string[] = [];
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(folder, 'node_modules');
    if (existsSync(candidate)) found.push(candidate);
    if (dirname(folder) === folder) break;
    folder = dirname(folder);
  }
  return found;
}

/** The names of the packages at the top of a `node_modules` folder, sorted by code unit. */
function packageNames(modules: string): string[] {
  return readdirSync(modules)
    .filter(name => !name.startsWith('.'))
    .flatMap(name =>
      name.startsWith('@') && statSync(join(modules, name)).isDirectory()
        ? readdirSync(join(modules, name)).map(inner => `${name}/${inner}`)
        : [name],
    )
    .filter(name => existsSync(join(modules, name, 'package.json')))
    .sort((a, b) => (a < b ? -1 : 1));
}

function isPlatformSpecific(packageFolder: string): boolean {
  let manifest: object;
  try {
    manifest = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as object;
  } catch {
    return true;
  }
  return 'os' in manifest || 'cpu' in manifest || 'libc' in manifest;
}

/**
 * English prose: the READMEs of the packages in a `node_modules` folder, without code, tables and markup.
 * Platform-specific packages and packages inside packages are left out, so that every platform reads the
 * same. A package is held out or not by its name alone (about one in ten): a change of versions moves none.
 */
export function englishCorpus(modules: string | undefined = nodeModules()[0]): Corpus {
  const parts: {train: string[]; heldOut: string[]} = {train: [], heldOut: []};
  const seen = new Set<string>();
  for (const name of modules === undefined ? [] : packageNames(modules)) {
    const folder = join(modules!, name);
    const readme = readdirSync(folder)
      .sort()
      .find(file => /^readme(\.md|\.markdown)?$/i.test(file));
    if (readme === undefined || !statSync(join(folder, readme)).isFile() || isPlatformSpecific(folder))
      continue;
    const paragraphs = proseOf(readFileSync(join(folder, readme), 'utf8')).filter(text => !seen.has(text));
    paragraphs.forEach(text => seen.add(text));
    const part = hash32(name) % 10 === 0 ? parts.heldOut : parts.train;
    if (paragraphs.length > 0) part.push(paragraphs.join('\n') + '\n\n');
  }
  const bytes = (texts: string[]) => new TextEncoder().encode(texts.join(''));
  return {
    train: bytes(parts.train),
    heldOut: bytes(parts.heldOut),
    name: 'English prose of the READMEs of installed packages',
    heldOutIs: 'the packages that were kept out of pre-training, one in ten',
  };
}

/**
 * TypeScript declarations: the `.d.ts` files that the `typescript` package carries, without those that say again
 * what lib.dom says. Held out is the last tenth of every file without all that the rest repeats.
 * @throws UsageError if `typescript` is not installed
 */
export function declarationsCorpus(): Corpus {
  const folder = nodeModules()
    .map(modules => join(modules, 'typescript'))
    .find(found => existsSync(join(found, 'lib')));
  if (folder === undefined) throw new UsageError('typescript is not installed: give a text with --text FILE');
  const lib = join(folder, 'lib');
  const files = readdirSync(lib)
    .filter(file => file === 'typescript.d.ts' || /^lib\..*\.d\.ts$/.test(file))
    .filter(file => !/^lib\.(webworker|scripthost)/.test(file));
  const {train, heldOut} = splitEach(files.sort().map(file => readFileSync(join(lib, file))));
  const {version} = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {version: string};
  return {
    train,
    heldOut: withoutRepeats(heldOut, train),
    name: `TypeScript ${version}, lib/*.d.ts`,
    heldOutIs: 'the last tenth of every file, without all that the rest repeats',
  };
}

/**
 * The user's own texts. Held out is the last tenth of every file.
 * @throws UsageError for a file that is missing, a folder, empty or not text, or for too little text in all
 */
export function textCorpus(paths: string[]): Corpus {
  const corpus = {
    ...splitEach(paths.map(readText)),
    name: paths.map(path => basename(path)).join(', '),
    heldOutIs: paths.length > 1 ? 'the last tenth of every file' : 'the last tenth of the file',
  };
  const short = corpus.train.length < leastTrainBytes || corpus.heldOut.length < leastHeldOutBytes;
  if (short) {
    const bytes = corpus.train.length + corpus.heldOut.length;
    const needed = Math.max(leastTrainBytes / 0.9, leastHeldOutBytes / 0.1);
    throw new UsageError(
      `the text is too short: ${bytes} bytes in ${corpus.name}, needed ${Math.ceil(needed)}`,
    );
  }
  return corpus;
}

function readText(path: string): Uint8Array {
  if (!existsSync(path)) throw new UsageError(`no such text file: ${path}`);
  if (!statSync(path).isFile()) throw new UsageError(`not a file: ${path}`);
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
  if (bytes.length === 0) throw new UsageError(`the text file is empty: ${path}`);
  if (!isText(bytes)) throw new UsageError(`not a text file (binary or not UTF-8): ${path}`);
  return bytes;
}

/** Whether bytes read as UTF-8 text: no NUL, and hardly any control character or invalid sequence. */
function isText(bytes: Uint8Array): boolean {
  if (bytes.includes(0)) return false;
  const strange = new TextDecoder().decode(bytes).match(/[\u0001-\u0008\u000e-\u001a\u001c-\u001f\ufffd]/g);
  return (strange?.length ?? 0) <= bytes.length / 100;
}

function splitEach(texts: Uint8Array[]): Pick<Corpus, 'train' | 'heldOut'> {
  const cut = (text: Uint8Array) => Math.floor(text.length * 0.9);
  return {
    train: Buffer.concat(texts.map(text => text.subarray(0, cut(text)))),
    heldOut: Buffer.concat(texts.map(text => text.subarray(cut(text)))),
  };
}

/** `count` random windows of `length` bytes, one after another. `random` gives numbers in [0, 1). */
export function randomWindows(
  bytes: Uint8Array,
  count: number,
  length: number,
  random: () => number,
): Int32Array {
  const windows = new Int32Array(count * length);
  for (let i = 0; i < count; i++) {
    const start = Math.floor(random() * (bytes.length - length + 1));
    windows.set(bytes.subarray(start, start + length), i * length);
  }
  return windows;
}
