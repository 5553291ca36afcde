import {io} from '@tensorflow/tfjs-core';
import {given} from '../adapter/given.js';
import {filePath, isMissing, isNode, node} from '../adapter/file-system.js';
import {removeFolder} from '../adapter/files.js';
import {ioHandler} from '../adapter/io.js';
import {errorOf} from '../adapter/untrusted.js';

/** One checkpoint of a folder. */
export interface Kept {
  /** Its address, `folder/000012-step-340`. */
  readonly url: string;
  /** Counts saves into this folder, so that the newest is known whatever step it is of. */
  readonly number: number;
  /** Whether its save came to an end, as far as it can be told without reading it. */
  readonly isComplete: boolean;
  /** Whether it is a file that is only called like a checkpoint. */
  readonly isForeign: boolean;
}

const NAME = /^(\d{6,})-step-\d+$/;

/** The address of a new checkpoint. */
export const nameOf = (folder: string, number: number, step: number): string =>
  `${plain(folder)}/${String(number).padStart(6, '0')}-step-${step}`;

/** Throws where what was saved cannot be listed. */
export function expectListable(where: string, folder: unknown, direction: 'save' | 'load'): void {
  if (typeof folder !== 'string') {
    throw new TypeError(
      `${where}: give the folder for checkpoints by its address, such as 'file://runs/a', and not ${given(folder).words}`,
    );
  }
  ioHandler(folder, direction);
  if (isFile(folder) || /^(indexeddb|localstorage):\/\//.test(folder)) return;
  throw errorOf(
    `${where}: what lies in ${folder} cannot be listed, so the newest of several cannot be told: use file:// (in Node), ` +
      'indexeddb:// or localstorage://, or saveCheckpoint and loadCheckpoint with one address',
  );
}

/** Whether something lies at the very address, and not below it. */
export async function isKept(url: string): Promise<boolean> {
  if (!isFile(url)) return plain(url) in (await io.listModels());
  const {fs, path} = node();
  return fs.stat(path.join(filePath(plain(url)), 'model.json')).then(
    () => true,
    () => false,
  );
}

const isFile = (url: string) => url.startsWith('file://') && isNode();

/** The checkpoints of a folder, the oldest first; of other things in it nothing is known. */
export async function list(folder: string): Promise<Kept[]> {
  const found = isFile(folder) ? await listFiles(folder) : await listModels(folder);
  return found.sort((a, b) => a.number - b.number);
}

/** Removes one, or what is left of one. */
export async function remove({url}: Kept): Promise<void> {
  if (isFile(url)) await removeFolder(filePath(url));
  else await io.removeModel(url);
}

async function listFiles(folder: string): Promise<Kept[]> {
  const {fs, path} = node();
  const at = filePath(plain(folder));
  const names = await fs.readdir(at).catch(async (error: unknown) => {
    if (!isMissing(error)) throw error;
    const isFileThere = await fs.stat(at).then(
      found => !found.isDirectory(),
      () => false,
    );
    if (!isFileThere) return [];
    throw errorOf(`${folder} is a file: give the folder that holds the checkpoints`, {cause: error});
  });
  return Promise.all(
    names.flatMap(name => {
      const number = numberIn(name);
      if (number === null) return [];
      const is = (what: string, isMeant: (found: {isDirectory(): boolean}) => boolean) =>
        fs.stat(what).then(isMeant, () => false);
      const entry = path.join(at, name);
      return [
        Promise.all([
          is(path.join(entry, 'model.json'), () => true),
          is(entry, found => !found.isDirectory()),
        ]).then(([isComplete, isForeign]) => ({
          url: `${plain(folder)}/${name}`,
          number,
          isComplete,
          isForeign,
        })),
      ];
    }),
  );
}

async function listModels(folder: string): Promise<Kept[]> {
  const prefix = `${plain(folder)}/`;
  return Object.keys(await io.listModels()).flatMap(url => {
    const number = url.startsWith(prefix) ? numberIn(url.slice(prefix.length)) : null;
    return number === null ? [] : [{url, number, isComplete: true, isForeign: false}];
  });
}

function numberIn(name: string): number | null {
  const digits = NAME.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

const plain = (folder: string) => folder.replace(/(?<![:/])\/+$/, '');
