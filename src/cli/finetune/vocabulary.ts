/** Text as the whole numbers that an embedding takes. */
import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {UsageError} from '../usage-error.js';

export interface Vocabulary {
  readonly file: string;
  /** What stands in it. */
  readonly text: string;
  readonly idOf: ReadonlyMap<string, number>;
  /** Of a token that is not in it; null where there is none, and such tokens are left out. */
  readonly unknown: number | null;
  readonly pad: number;
  /** Whether a token is a character; else it is a word. */
  readonly isOfCharacters: boolean;
  /** Whether text is put in small letters first: where no token has a capital. */
  readonly isSmall: boolean;
}

export const vocabularyFiles = ['vocabulary.txt', 'vocabulary.json', 'vocab.txt', 'vocab.json'];

/**
 * The vocabulary beside a model: a token a line, counted from 0, or JSON, a list of tokens or ids by token. `[PAD]` or
 * `<pad>` (else the number 0) fills up, `[UNK]`, `<unk>` or `<oov>` stands for what is not in it.
 *
 * @returns null where there is none
 * @throws UsageError for one that cannot be read
 */
export function readVocabulary(folder: string): Vocabulary | null {
  const name = vocabularyFiles.find(file => existsSync(join(folder, file)));
  if (name === undefined) return null;
  const file = join(folder, name);
  const entries = name.endsWith('.json')
    ? entriesOf(file)
    : lines(file).map((token, id) => [token, id] as const);
  const idOf = new Map(entries);
  const special = (pattern: RegExp) => entries.find(([token]) => pattern.test(token))?.[1];
  const plain = entries.map(([token]) => token).filter(token => !/^[[<].+[\]>]$/.test(token));
  return {
    file,
    text: readFileSync(file, 'utf8'),
    idOf,
    unknown: special(/^[[<](unk|oov)[\]>]$/i) ?? null,
    pad: special(/^[[<]pad[\]>]$/i) ?? 0,
    isOfCharacters: plain.every(token => [...token].length <= 1),
    isSmall: plain.every(token => token === token.toLowerCase()),
  };
}

const textOf = (file: string) => readFileSync(file, 'utf8').replace(/^\ufeff/, '');

const lines = (file: string) =>
  textOf(file)
    .replace(/\r?\n$/, '')
    .split(/\r?\n/);

function entriesOf(file: string): (readonly [string, number])[] {
  const fail = () => new UsageError(`${file} is neither a JSON list of tokens nor ids by token`);
  let value: unknown;
  try {
    value = JSON.parse(textOf(file));
  } catch {
    throw fail();
  }
  const entries = Array.isArray(value)
    ? value.map((token: unknown, id) => [token, id] as const)
    : Object.entries((value ?? {}) as object);
  if (
    entries.length === 0 ||
    entries.some(([token, id]) => typeof token !== 'string' || !Number.isInteger(id))
  )
    throw fail();
  return entries as (readonly [string, number])[];
}

/** The ids of a text: of its words (letters, digits and apostrophes) or of its characters. */
export function idsOf(text: string, vocabulary: Vocabulary): number[] {
  const {idOf, unknown} = vocabulary;
  return tokensOf(text, vocabulary).flatMap(token => idOf.get(token) ?? unknown ?? []);
}

/** The share of tokens that the vocabulary has not; 0 of no text. */
export function unknownShare(texts: readonly string[], vocabulary: Vocabulary): number {
  let [all, unknown] = [0, 0];
  for (const text of texts) {
    const tokens = tokensOf(text, vocabulary);
    all += tokens.length;
    unknown += tokens.filter(token => !vocabulary.idOf.has(token)).length;
  }
  return all === 0 ? 0 : unknown / all;
}

function tokensOf(text: string, {isOfCharacters, isSmall}: Vocabulary): string[] {
  const seen = isSmall ? text.toLowerCase() : text;
  return isOfCharacters ? [...seen] : (seen.match(/[\p{L}\p{N}']+/gu) ?? []);
}
