import {several} from '../table.js';
import {UsageError} from '../usage-error.js';
import {numberIn, type Records} from './records.js';

interface Line {
  readonly cells: string[];
  /** Where it begins, from 1. */
  readonly line: number;
}

/**
 * Comma-separated values as RFC 4180 has them: cells in double quotes may hold commas, line ends and doubled quotes.
 * Tabs or semicolons separate too, where the first line has more of these than of commas. A byte order mark and empty
 * lines are passed over.
 *
 * @param header Whether the first line names the columns. Default: it does, unless a cell of it is a number. Without names
 *     columns are called 1, 2, 3 …
 * @throws UsageError that names the line: a quote that is never closed or out of place, a row of another length
 */
export function readCsv(name: string, text: string, header?: boolean): Records {
  const plain = text.replace(/^\ufeff/, '');
  const separator = separatorOf(plain);
  const lines = [...linesOf(name, plain, separator)];
  if (lines.length === 0) throw new UsageError(`${name} is empty`);
  const first = lines[0]!;
  const isNamed = header ?? namesColumns(first.cells);
  const columns = first.cells.map((cell, i) => (isNamed && cell.trim()) || String(i + 1));
  const twice = columns.find((column, i) => columns.indexOf(column) < i);
  if (twice !== undefined) throw new UsageError(`${name} has two columns called "${twice}"`);
  const rows = isNamed ? lines.slice(1) : lines;
  if (rows.length === 0) throw new UsageError(`${name} has no rows, only the names of its columns`);
  const ragged = rows.find(({cells}) => cells.length !== columns.length);
  if (ragged) {
    const {line, cells} = ragged;
    const pair = pairIn(cells);
    throw new UsageError(
      `${name}: line ${line} has ${several(cells.length, 'cell')}, and the first line ${columns.length}` +
        (separator === ',' && cells.length > columns.length && pair !== undefined
          ? ` (if these are decimal commas, write points: ${pair})`
          : ''),
    );
  }
  return {name, columns, rows: rows.map(({cells}) => cells), lines: rows.map(({line}) => line)};
}

/** Two cells of digits beside each other, as the number with a point that they may have been. */
function pairIn(cells: readonly string[]): string | undefined {
  const i = cells.findIndex((cell, k) => /^[-+]?\d+$/.test(cell) && /^\d+$/.test(cells[k + 1] ?? ''));
  return i < 0 ? undefined : `${cells[i]}.${cells[i + 1]}`;
}

/** A name is no number. */
const namesColumns = (first: string[]): boolean => first.every(cell => numberIn(cell) === null);

function separatorOf(text: string): string {
  const start = text.slice(0, text.search(/[\r\n]|$/)).replace(/"[^"]*"/g, '');
  const times = (separator: string) => start.split(separator).length;
  return [',', ';', '\t'].reduce((best, next) => (times(next) > times(best) ? next : best));
}

function* linesOf(name: string, text: string, separator: string): Iterable<Line> {
  const plain = new RegExp(`[^${separator}\\r\\n]*`, 'y');
  let at = 0;
  let line = 1;
  while (at < text.length) {
    const start = line;
    const cells: string[] = [];
    for (let isEnd = false; !isEnd;) {
      let cell = '';
      if (text[at] === '"') {
        const opened = line;
        for (;;) {
          const close = text.indexOf('"', at + 1);
          if (close < 0) throw new UsageError(`${name}: the quote in line ${opened} is never closed`);
          cell += text.slice(at + 1, close);
          at = close + 1;
          if (text[at] !== '"') break;
          cell += '"';
        }
        line += cell.split('\n').length - 1;
        if (at < text.length && ![separator, '\n', '\r'].includes(text[at]!)) {
          throw new UsageError(`${name}: line ${line} has text after a closing quote`);
        }
      } else {
        plain.lastIndex = at;
        cell = plain.exec(text)![0];
        at += cell.length;
        if (cell.includes('"')) {
          throw new UsageError(
            `${name}: line ${line} has a quote within a cell: put the cell in quotes, and double it`,
          );
        }
      }
      cells.push(cell);
      isEnd = text[at] !== separator;
      if (!isEnd) at++;
    }
    if (text[at] === '\r') at++;
    if (text[at] === '\n') at++;
    line++;
    if (cells.length > 1 || cells[0]!.trim() !== '') yield {cells, line: start};
  }
}
