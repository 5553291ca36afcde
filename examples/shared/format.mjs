// Numbers and tables as text.

export const count = n => n.toLocaleString('en-US');
export const percent = share => `${(100 * share).toFixed(1)} %`;
export const kilobytes = bytes => `${count(Math.round(bytes / 1000))} kB`;

/** Seconds as 42 s or 3 min 05 s. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** Prints a line behind a word. */
export const say = (word, text) => console.log(`${word.padEnd(10)}${text}`);

/** Rows of cells as text; the first is the heading. */
export function textTable(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(cells => cells[i].length)));
  const line = cells =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  const [heading, ...rest] = rows.map(line);
  return [heading, widths.map(n => '-'.repeat(n)).join('  '), ...rest].join('\n');
}
