// A report as an HTML page that stands alone, and curves as SVG.

const [width, height] = [720, 340];
const margin = {left: 64, right: 20, top: 16, bottom: 52};
const dashes = ['', '9 5', '2 4', '12 4 2 4'];

const chartStyle = `
  .chart { --ink: #475467; --line: #d9dee8; --series0: #0072b2; --series1: #d55e00; --series2: #008a64;
    --series3: #b0508a; }
  @media (prefers-color-scheme: dark) { .chart { --ink: #c3cad8; --line: #344054; --series0: #5aa9e6;
    --series1: #ff8a3d; --series2: #2fc296; --series3: #e08fc0; } }
  .chart text { fill: var(--ink); font: 13px system-ui, sans-serif; }`;

/**
 * Lines over steps, told apart by colour and by dashes.
 * @param series {name, points: [x, y][]}[]; `dots` marks the points themselves
 */
export function lineChart(series, {x: xLabel, y: yLabel, dots = false, percent = false}) {
  const xs = series.flatMap(({points}) => points.map(([x]) => x));
  const ys = series.flatMap(({points}) => points.map(([, y]) => y));
  const vertical = ticks(Math.min(...ys), Math.max(...ys));
  const horizontal = ticks(0, Math.max(...xs)).filter(tick => tick <= Math.max(...xs));
  const place = (share, from, to) => (from + (to - from) * share).toFixed(1);
  const x = value => place(value / Math.max(...xs), margin.left, width - margin.right);
  const y = value =>
    place((value - vertical[0]) / (vertical.at(-1) - vertical[0]), height - margin.bottom, margin.top);
  const digits = Math.max(0, Math.ceil(-Math.log10(vertical[1] - vertical[0]) - 1e-9));
  const written = value => (percent ? `${Math.round(100 * value)} %` : value.toFixed(digits));
  const style = i =>
    `stroke="var(--series${i % 4})" stroke-width="2.25" fill="none" stroke-dasharray="${dashes[i % 4]}"`;
  const legend = height + 8;
  const rows = series.map(
    ({name}, i) =>
      `<line x1="${margin.left}" x2="${margin.left + 44}" y1="${legend + 20 * i}" y2="${legend + 20 * i}" ${style(i)}/>` +
      `<text x="${margin.left + 56}" y="${legend + 20 * i}" dy=".35em">${escapeHtml(name)}</text>`,
  );
  const lines = series.map(({points}, i) => {
    const marks = dots
      ? points.map(([a, b]) => `<circle cx="${x(a)}" cy="${y(b)}" r="3.5" fill="var(--series${i % 4})"/>`)
      : [];
    return `<polyline points="${points.map(([a, b]) => `${x(a)},${y(b)}`).join(' ')}" ${style(i)}/>${marks.join('')}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 ${width} ${legend + 20 * series.length}" role="img" aria-label="${escapeHtml(`${yLabel} by ${xLabel}`)}">
<style>${chartStyle}</style>
${vertical
  .map(
    tick =>
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(tick)}" y2="${y(tick)}" stroke="var(--line)"/>` +
      `<text x="${margin.left - 8}" y="${y(tick)}" dy=".35em" text-anchor="end">${written(tick)}</text>`,
  )
  .join('\n')}
${horizontal.map(tick => `<text x="${x(tick)}" y="${height - margin.bottom + 20}" text-anchor="middle">${tick}</text>`).join('\n')}
<text x="${(margin.left + width - margin.right) / 2}" y="${height - 12}" text-anchor="middle">${escapeHtml(xLabel)}</text>
<text transform="translate(14 ${(margin.top + height - margin.bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(yLabel)}</text>
${lines.join('\n')}
${rows.join('\n')}
</svg>`;
}

/** Every value with the mean of the ten around it in its place, by step from 1. */
export const smooth = values =>
  values.map((_, i) => {
    const near = values.slice(Math.max(0, i - 5), i + 5);
    return [i + 1, near.reduce((sum, value) => sum + value, 0) / near.length];
  });

/** Round numbers, evenly spaced, that enclose a range. */
function ticks(low, high) {
  const rough = Math.max(high - low, 1e-6) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map(times => times * power).find(step => step >= rough * (1 - 1e-9));
  const first = Math.floor(low / unit + 1e-9);
  const last = Math.max(Math.ceil(high / unit - 1e-9), first + 1);
  return Array.from({length: last - first + 1}, (_, i) => Number(((first + i) * unit).toPrecision(12)));
}

/**
 * The page.
 * @param report.tables rows of cells, the first row of each table the heading; `charts` {title, svg}; `facts` pairs
 */
export function reportPage({title, subtitle, tables, charts, facts, next}) {
  const row = (cells, tag) =>
    `<tr>${cells.map(cell => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --rule: #d9dee8; --paper: #fff; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e8ecf4; --soft: #98a2b3; --rule: #344054; --paper: #12161f; } }
  body { max-width: 50rem; margin: 3rem auto; padding: 0 1.25rem; color: var(--ink); background: var(--paper);
    font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.25rem 0 .5rem; }
  .soft, dt { color: var(--soft); } .soft { margin: .25rem 0 0; } .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; margin-bottom: 1.25rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid var(--rule); }
  th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; }
  svg { width: 100%; height: auto; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; }
  dd { margin: 0; overflow-wrap: anywhere; }
  pre { white-space: pre-wrap; border: 1px solid var(--rule); border-radius: 6px; padding: .75rem; font-size: .85rem; }
</style>
<h1>${escapeHtml(title)}</h1>
<p class="soft">${escapeHtml(subtitle)}</p>
<h2>Result</h2>
${tables
  .map(
    ([heading, ...body]) =>
      `<div class="scroll"><table>\n${row(heading, 'th')}\n${body.map(cells => row(cells, 'td')).join('\n')}\n</table></div>`,
  )
  .join('\n')}
${charts.map(chart => `<h2>${escapeHtml(chart.title)}</h2>\n${chart.svg}`).join('\n')}
<h2>This run</h2>
<dl>
${facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(String(value))}</dd>`).join('\n')}
</dl>
<h2>Use it</h2>
<pre>${escapeHtml(next)}</pre>
</html>
`;
}

/** Rows of cells as text, the first underlined. */
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

export const percent = share => `${(100 * share).toFixed(1)} %`;
export const count = n => n.toLocaleString('en-US');
export const kilobytes = bytes => `${(bytes / 1000).toLocaleString('en-US', {maximumFractionDigits: 0})} kB`;

function escapeHtml(text) {
  return text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]);
}
