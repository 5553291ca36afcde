/**
 * Rows of cells as padded text, two spaces between.
 * @param rows rows of equal length; the first one is the heading, underlined
 * @param left the columns that are set to the left (the first)
 */
export function table(rows: string[][], left: readonly number[] = [0]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]!.length)));
  const line = (row: string[]) =>
    row
      .map((cell, column) =>
        left.includes(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd();
  const [heading, ...rest] = rows.map(line);
  if (heading === undefined) return '';
  return [heading, widths.map(width => '-'.repeat(width)).join('  '), ...rest].join('\n');
}

/** A share as 4.7 %. */
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** A number as 875,520. */
export const count = (n: number): string => n.toLocaleString('en-US');

/** As 1 example, 4,087 examples. */
export const several = (n: number, one: string, more = `${one}s`): string =>
  `${count(n)} ${n === 1 ? one : more}`;

/** Bytes as 3,526 kB, or 512 bytes. */
export const kilobytes = (bytes: number): string =>
  bytes < 1000
    ? `${bytes} bytes`
    : `${(bytes / 1000).toLocaleString('en-US', {maximumFractionDigits: 0})} kB`;

/** A time as 253 ms, or 12.5 s from ten seconds on. */
export const milliseconds = (ms: number): string =>
  ms < 10_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
