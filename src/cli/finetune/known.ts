/** What an earlier run says of the inputs and labels of its model: the data.json that lies beside it. */
import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import type {Standard} from './standardise.js';

export const factsFile = 'data.json';

/** Of the facts that a run writes, those that a later one takes up. */
export interface Known {
  /** In the order in which the model takes them; null for images. */
  readonly columns: readonly string[] | null;
  readonly standardise: Standard | null;
  readonly scale: {readonly range: string; readonly times: number; readonly plus: number} | null;
  /** Of the labels: what the outputs of the model are in. */
  readonly outputs: Standard | null;
  /** The label columns that are numbers; undefined where the file does not say. */
  readonly numbers: readonly string[] | null | undefined;
}

/** @returns null where there is none, and where the file is of another kind, which `note` says then */
export function readKnown(folder: string): {known: Known | null; note?: string; text: string | null} {
  const file = join(folder, factsFile);
  if (!existsSync(file)) return {known: null, text: null};
  const text = readFileSync(file, 'utf8').replace(/^\ufeff/, '');
  const known = knownIn(text);
  if (known) return {known, text};
  return {known: null, note: `${file} is not as a run writes it, and is passed over`, text};
}

function knownIn(text: string): Known | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const {
    columns,
    standardise = null,
    scale = null,
    outputs = null,
    numbers,
  } = value as Record<string, unknown>;
  const isWhole =
    isNullOr(columns, areTexts) &&
    isNullOr(standardise, isStandard) &&
    isNullOr(scale, isScale) &&
    isNullOr(outputs, isStandard) &&
    (numbers === undefined || isNullOr(numbers, areTexts)) &&
    !(columns && standardise && (standardise as Standard).mean.length % (columns as string[]).length !== 0);
  return isWhole ? ({columns, standardise, scale, outputs, numbers} as Known) : null;
}

const isNullOr = (value: unknown, isIt: (value: object) => boolean) =>
  value === null || (typeof value === 'object' && isIt(value));

const areTexts = (list: object) => Array.isArray(list) && list.every(item => typeof item === 'string');

const areNumbers = (list: unknown): list is number[] => Array.isArray(list) && list.every(Number.isFinite);

function isStandard(value: object): boolean {
  const {mean, deviation} = value as Record<string, unknown>;
  return (
    areNumbers(mean) &&
    areNumbers(deviation) &&
    mean.length === deviation.length &&
    deviation.every(size => size > 0)
  );
}

function isScale(value: object): boolean {
  const {range, times, plus} = value as Record<string, unknown>;
  return typeof range === 'string' && areNumbers([times, plus]);
}

/** Whether two lists name the same columns, in whatever order. */
export const areSameColumns = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every(column => b.includes(column));
