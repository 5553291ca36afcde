/** Rows of cells under named columns, as files of data give them. */

export type Cell = string | number;

export interface Records {
  /** What people call it: the file's name. */
  readonly name: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** The line of the file in which each row begins, from 1. */
  readonly lines: readonly number[];
}

/** What stands for a value that is missing. */
const absent = new Set(['', 'na', 'n/a', 'nan', 'null', 'none', '?']);

export const isMissing = (cell: Cell): boolean =>
  typeof cell === 'number' ? Number.isNaN(cell) : absent.has(cell.trim().toLowerCase());

/** Whether a cell is a number in digits with a point. */
const isNumeral = (cell: Cell): boolean =>
  typeof cell === 'number' || /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(cell.trim());

/** What is wrong with a cell that is to be a number. */
export const fault = (cell: Cell): string => (isNumeral(cell) ? 'is too large for float32' : 'is no number');

/** Whether a cell is a number in digits with a comma for its point, such as 0,644. */
export const hasDecimalComma = (cell: Cell): boolean =>
  typeof cell === 'string' && /^[-+]?(\d+,\d+|,\d+)(e[-+]?\d+)?$/i.test(cell.trim());

/** What is to be done about it. */
export const commaAdvice = (cell: Cell): string =>
  `it has a decimal comma, and numbers are read with a point: ${String(cell).trim().replace(',', '.')}`;

/** A cell as a number that float32 can hold, in digits with a point; null where it is none. */
export function numberIn(cell: Cell): number | null {
  const value = isNumeral(cell) ? Number(cell) : NaN;
  return Number.isFinite(Math.fround(value)) ? value : null;
}

/** A name that may hold line ends, as it is shown. */
export const oneLine = (text: string): string => text.replace(/\r/g, '\\r').replace(/\n/g, '\\n');
