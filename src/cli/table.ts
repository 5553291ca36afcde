/**
 * Rows of cells as padded text: the first column to the left, the others to the right, two spaces between.
 * @param rows rows of equal length; the first one is the heading, underlined
 */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]!.length)));
  const line = (row: string[]) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd();
  const [heading, ...rest] = rows.map(line);
  if (heading === undefined) return '';
  return [heading, widths.map(width => '-'.repeat(width)).join('  '), ...rest].join('\n');
}
