/** A folder of images: a subfolder for each class. */
import {readdirSync, readFileSync} from 'node:fs';
import {basename, extname, join, resolve} from 'node:path';
import {several} from '../table.js';
import {UsageError} from '../usage-error.js';
import {decodeJpeg, loadJpegReader} from './jpeg.js';
import type {Picture} from './picture.js';
import {listed} from './labels.js';
import {kindOf} from './picture-kind.js';
import {decodePng} from './png.js';

/** Images with a label each, decoded one at a time. */
export interface Pictures {
  readonly name: string;
  readonly size: number;
  readonly labels: readonly string[];
  /** Where the labels come from: folders, a file. */
  readonly labelled: string;
  /** What was passed over, if anything. */
  readonly notes: readonly string[];
  /** Names one, for errors. */
  readonly where: (i: number) => string;
  /** Rejects with what is wrong with it, without its name. */
  readonly read: (i: number) => Promise<Picture>;
}

const isPng = (file: string) => extname(file).toLowerCase() === '.png';
const isJpeg = (file: string) => ['.jpg', '.jpeg'].includes(extname(file).toLowerCase());

/**
 * Reads which images there are; what is neither PNG nor JPEG is passed over, and said so.
 * @throws UsageError for a folder without subfolders, or without images
 */
export async function readPictures(folder: string): Promise<Pictures> {
  const name = basename(resolve(folder));
  const inside = readdirSync(folder, {withFileTypes: true}).filter(({name}) => !name.startsWith('.'));
  const classes = inside.filter(entry => entry.isDirectory()).map(entry => entry.name);
  const files: {path: string; label: string}[] = [];
  let others = inside.length - classes.length;
  for (const label of classes.sort()) {
    for (const file of readdirSync(join(folder, label)).sort()) {
      if (isPng(file) || isJpeg(file)) files.push({path: join(folder, label, file), label});
      else others++;
    }
  }
  if (files.length === 0) {
    const isFlat = inside.some(entry => isPng(entry.name) || isJpeg(entry.name));
    throw new UsageError(
      isFlat
        ? `the images in ${folder} have no labels: put those of each class into a subfolder of that name`
        : `no PNG or JPEG images in ${folder}: a subfolder for each class is expected, with its images`,
    );
  }
  const empty = classes.filter(label => !files.some(file => file.label === label));
  return {
    name,
    size: files.length,
    labels: files.map(({label}) => label),
    labelled: 'folders',
    notes: [
      ...(others > 0
        ? [`${several(others, 'file or folder', 'files and folders')} passed over: no PNG or JPEG`]
        : []),
      ...(empty.length > 0
        ? [
            `no images in ${listed(empty, 6)}: ${empty.length === 1 ? 'this folder is no class' : 'these folders are no classes'}`,
          ]
        : []),
    ],
    where: i => files[i]!.path,
    read: async i => decode(bytesIn(files[i]!.path)),
  };
}

/** @throws Error that says why it cannot be read, without its name */
function bytesIn(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new Error('is a link to a file that is not there');
    throw new Error(`cannot be read: ${message.replace(/,? (open|read)\b.*$/, '')}`);
  }
}

async function decode(bytes: Uint8Array): Promise<Picture> {
  const kind = kindOf(bytes);
  if (kind === 'PNG') return decodePng(bytes);
  if (kind === 'JPEG') return decodeJpeg(bytes, await loadJpegReader());
  if (bytes.length === 0) throw new Error('is empty, 0 bytes');
  throw new Error(
    kind === undefined
      ? 'is no PNG or JPEG image, nor one of another known kind'
      : `is a ${kind} image: save it as PNG or JPEG`,
  );
}
