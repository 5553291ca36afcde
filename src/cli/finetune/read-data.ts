import {existsSync, readFileSync, statSync} from 'node:fs';
import {basename, extname} from 'node:path';
import {UsageError} from '../usage-error.js';
import {readCsv} from './csv.js';
import {isIdx, readIdx} from './idx.js';
import {readJsonLines} from './jsonl.js';
import {type Pictures, readPictures} from './pictures.js';
import type {Records} from './records.js';

/** Data as it lies on disk. */
export type Source = {readonly records: Records} | {readonly pictures: Pictures};

/**
 * Reads what `path` holds: a folder of images, or by its ending a file.
 * @param header for CSV: whether the first line names the columns
 * @throws UsageError for what is missing, unknown or damaged
 */
export async function readData(path: string, header?: boolean): Promise<Source> {
  if (!existsSync(path)) throw new UsageError(`no such data: ${path}`);
  if (statSync(path).isDirectory()) return {pictures: await readPictures(path)};
  if (isIdx(path)) return {pictures: readIdx(path)};
  const name = basename(path);
  switch (extname(path).toLowerCase()) {
    case '.csv':
    case '.tsv':
    case '.txt':
      return {records: readCsv(name, textOf(path), header)};
    case '.jsonl':
    case '.ndjson':
      return {records: readJsonLines(name, textOf(path))};
  }
  throw new UsageError(
    `${path} is of an unknown kind: there is .csv, .tsv, .jsonl, a folder of images with a subfolder for each class, ` +
      'and idx3-ubyte(.gz)',
  );
}

function textOf(path: string): string {
  try {
    return new TextDecoder('utf-8', {fatal: true}).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(`${path} is not UTF-8 text: save it as UTF-8`);
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}
