import {UsageError} from '../usage-error.js';
import type {Cell, Records} from './records.js';

/**
 * JSON lines: an object in each line, the same keys in all. A list of numbers (of any depth) is a column for each of
 * them, `pixels[0]`, `pixels[1]` …; true and false are 1 and 0; null is a missing value.
 *
 * @throws UsageError that names the line
 */
export function readJsonLines(name: string, text: string): Records {
  const rows: Cell[][] = [];
  const lines: number[] = [];
  let columns: string[] | undefined;
  for (const [i, content] of text
    .replace(/^\ufeff/, '')
    .split('\n')
    .entries()) {
    if (content.trim() === '') continue;
    const where = `${name}: line ${i + 1}`;
    const cells = cellsOf(where, parse(where, content));
    columns ??= [...cells.keys()];
    const missing = columns.find(column => !cells.has(column));
    const more = [...cells.keys()].find(column => !columns!.includes(column));
    if (missing !== undefined)
      throw new UsageError(`${where} has no "${missing}", which line ${lines[0]} has`);
    if (more !== undefined) throw new UsageError(`${where} has "${more}", which line ${lines[0]} has not`);
    rows.push(columns.map(column => cells.get(column)!));
    lines.push(i + 1);
  }
  if (!columns) throw new UsageError(`${name} is empty`);
  return {name, columns, rows, lines};
}

function parse(where: string, content: string): object {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (error) {
    throw new UsageError(`${where} is no JSON: ${(error as Error).message}`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw new UsageError(`${where} is no object such as {"x": 1.5, "label": "yes"}`);
}

function cellsOf(where: string, record: object): Map<string, Cell> {
  const cells = new Map<string, Cell>();
  const add = (key: string, value: unknown): void => {
    if (Array.isArray(value)) value.flat(Infinity).forEach((item, i) => add(`${key}[${i}]`, item));
    else if (typeof value === 'number' || typeof value === 'string') cells.set(key, value);
    else if (typeof value === 'boolean') cells.set(key, Number(value));
    else if (value === null) cells.set(key, NaN);
    else throw new UsageError(`${where}: "${key}" is neither a number, a text nor a list of numbers`);
  };
  for (const [key, value] of Object.entries(record)) add(key, value);
  return cells;
}
