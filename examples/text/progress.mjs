/** Seconds as `42 s` or `3 min 05 s`. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/**
 * Step, mean loss of the last 20 steps and time left: one line that rewrites itself on a terminal, a line every ten
 * seconds elsewhere.
 */
export function progress(steps, {label = '', unit = '', out = process.stderr} = {}) {
  const start = performance.now();
  const recent = [];
  let shown = start;
  return (step, loss) => {
    recent.push(loss);
    if (recent.length > 20) recent.shift();
    const now = performance.now();
    if (!out.isTTY && now - shown < 10_000 && step < steps) return;
    shown = now;
    const mean = recent.reduce((sum, value) => sum + value, 0) / recent.length;
    const left = duration(((steps - step) * (now - start)) / 1000 / step);
    const line = `${label}step ${step}/${steps}  loss ${mean.toFixed(3)}${unit}  ${left} left`;
    const end = step === steps ? '\n' : '';
    out.write(out.isTTY ? `\r\x1b[K${line.slice(0, (out.columns || 80) - 1)}${end}` : `${line}\n`);
  };
}

/** Rows as padded text; the first is the heading. */
export function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)));
  const line = row =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  return [line(rows[0]), widths.map(width => '-'.repeat(width)).join('  '), ...rows.slice(1).map(line)].join(
    '\n',
  );
}

export const count = n => n.toLocaleString('en-US');
export const kilobytes = bytes => `${count(Math.round(bytes / 1000))} kB`;
export const percent = share => `${(100 * share).toFixed(1)} %`;
