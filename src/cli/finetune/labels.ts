/** What the examples are to be told apart by, or numbers to be met. */
import {UsageError} from '../usage-error.js';
import {type Cell, isMissing, numberIn, type Records} from './records.js';

export interface Labels {
  /** The columns; for images one that is called after where they come from. */
  readonly names: readonly string[];
  /** Whether these are columns of a table; the labels of images are always classes. */
  readonly areColumns: boolean;
  /** For each example a cell for each column. */
  readonly rows: readonly (readonly Cell[])[];
  /** Names an example, for errors. */
  readonly where: (i: number) => string;
}

const usual = ['label', 'labels', 'class', 'target', 'y'];

/**
 * The label columns: those asked for, or the one whose name says that it is one.
 * @throws UsageError for columns that are not there, and where nothing says which it is
 */
export function labelColumns({name, columns}: Records, asked: readonly string[] | undefined): string[] {
  const there = `there is ${listed(columns)}`;
  if (asked) {
    for (const column of asked) expectColumn(name, columns, column, '--label');
    return [...asked];
  }
  const found = columns.filter(column => usual.includes(column.toLowerCase()));
  if (found.length === 1) return found;
  const what = found.length === 0 ? 'does not say which column is the label' : `has ${found.join(' and ')}`;
  throw new UsageError(`${name} ${what}: name it with --label; ${there}`);
}

/** @throws UsageError that names the columns there are */
export function expectColumn(name: string, columns: readonly string[], column: string, option: string): void {
  if (columns.includes(column)) return;
  throw new UsageError(`${option}: ${name} has no column "${column}"; there is ${listed(columns)}`);
}

export const listed = (names: readonly string[], most = 12): string =>
  names.length <= most
    ? names.join(', ')
    : `${names.slice(0, most).join(', ')} and ${names.length - most} more`;

/** @throws UsageError for a label that is missing, naming the first and how many more there are */
export function expectLabels({names, rows, where}: Labels): void {
  for (const [k, name] of names.entries()) {
    const missing = rows.flatMap((row, i) => (isMissing(row[k]!) ? [i] : []));
    if (missing.length === 0) continue;
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : '';
    const cell = rows[missing[0]!]![k]!;
    const what = typeof cell === 'number' || cell.trim() === '' ? 'missing' : `missing ("${cell}")`;
    throw new UsageError(
      `the label "${name}" is ${what} in ${where(missing[0]!)}${more}: add it, or leave such rows out with --drop-empty`,
    );
  }
}

export const areNumbers = ({rows}: Labels): boolean =>
  rows.every(row => row.every(cell => numberIn(cell) !== null));

/** The different labels, in the order of numbers where all are numbers, else in that of letters. */
export function distinct(labels: readonly Cell[]): string[] {
  const found = [...new Set(labels.map(classNameOf))];
  const isNumeric = found.every(label => numberIn(label) !== null);
  return isNumeric ? found.sort((a, b) => Number(a) - Number(b)) : found.sort((a, b) => (a < b ? -1 : 1));
}

/** A label as text: 1 and 1.0 and "1" are one. */
export const classNameOf = (cell: Cell): string => {
  const value = numberIn(cell);
  return value === null ? String(cell).trim() : String(value);
};
