import {io} from '@tensorflow/tfjs-core';
import {filePath, isMissing, isNode, node} from '../adapter/file-system.js';
import {removeFolder} from '../adapter/files.js';

/** One checkpoint of a folder. */
export interface Kept {
  /** Its address, `folder/000012-step-340`. */
  readonly url: string;
  /** Counts saves into this folder, so that the newest is known whatever step it is of. */
  readonly number: number;
  /** Whether its save came to an end, as far as it can be told without reading it. */
  readonly isComplete: boolean;
}

const NAME = /^(\d{6,})-step-\d+$/;

/** The address of a new checkpoint. */
export const nameOf = (folder: string, number: number, step: number): string =>
  `${plain(folder)}/${String(number).padStart(6, '0')}-step-${step}`;

/** The checkpoints of a folder, the oldest first; of other things in it nothing is known. */
export async function list(folder: string): Promise<Kept[]> {
  const found = folder.startsWith('file://') && isNode() ? await listFiles(folder) : await listModels(folder);
  return found.sort((a, b) => a.number - b.number);
}

/** Removes one, or what is left of one. */
export async function remove({url}: Kept): Promise<void> {
  if (url.startsWith('file://') && isNode()) await removeFolder(filePath(url));
  else await io.removeModel(url);
}

async function listFiles(folder: string): Promise<Kept[]> {
  const {fs, path} = node();
  const at = filePath(plain(folder));
  const names = await fs.readdir(at).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return Promise.all(
    names.flatMap(name => {
      const number = numberIn(name);
      if (number === null) return [];
      const isThere = fs.stat(path.join(at, name, 'model.json')).then(
        () => true,
        () => false,
      );
      return [isThere.then(isComplete => ({url: `${plain(folder)}/${name}`, number, isComplete}))];
    }),
  );
}

async function listModels(folder: string): Promise<Kept[]> {
  const prefix = `${plain(folder)}/`;
  return Object.keys(await io.listModels()).flatMap(url => {
    const number = url.startsWith(prefix) ? numberIn(url.slice(prefix.length)) : null;
    return number === null ? [] : [{url, number, isComplete: true}];
  });
}

function numberIn(name: string): number | null {
  const digits = NAME.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

const plain = (folder: string) => folder.replace(/(?<![:/])\/+$/, '');
