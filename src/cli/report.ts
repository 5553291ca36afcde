/** The report of one adaptation as a page that stands alone. */

export interface Report {
  title: string;
  subtitle: string;
  /** Tables of rows of cells; the first row of each is its heading. */
  tables: string[][][];
  /** Bits per byte of every step. */
  loss: number[];
  samples: {title: string; text: string}[];
}

const style = `
  :root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee8; --curve: #2f6fde; --page: #fff; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8ecf4; --soft: #98a2b3; --line: #344054; --curve: #7aa7ff; --page: #12161f; }
  }
  body { max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; color: var(--ink); background: var(--page);
    font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.25rem 0 .5rem; }
  .soft { color: var(--soft); margin: .25rem 0 0; }
  table { border-collapse: collapse; width: 100%; margin-bottom: 1.25rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; }
  svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 6px;
    padding: .75rem; font-size: .85rem; }`;

/** A whole HTML page; it loads nothing. */
export function reportPage({title, subtitle, tables, loss, samples}: Report): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${style}
</style>
<h1>${escapeHtml(title)}</h1>
<p class="soft">${escapeHtml(subtitle)}</p>
<h2>Result</h2>
${tables.map(htmlTable).join('\n')}
<h2>Loss while training, bits per byte</h2>
${lossCurve(loss)}
${samples
  .map(sample => `<h2>${escapeHtml(sample.title)}</h2>\n<pre>${escapeHtml(sample.text)}</pre>`)
  .join('\n')}
</html>
`;
}

function htmlTable([heading, ...body]: string[][]): string {
  const line = (row: string[] = [], tag: string) =>
    `<tr>${row.map(cell => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<table>
<thead>${line(heading, 'th')}</thead>
<tbody>
${body.map(row => line(row, 'td')).join('\n')}
</tbody>
</table>`;
}

const width = 720;
const height = 260;
const margin = {left: 40, right: 10, top: 10, bottom: 28};

/** Every step as a faint line, and its running mean. */
function lossCurve(loss: number[]): string {
  const low = Math.floor(2 * Math.min(...loss)) / 2;
  const high = Math.max(Math.ceil(2 * Math.max(...loss)) / 2, low + 0.5);
  const x = (step: number) =>
    margin.left + ((width - margin.left - margin.right) * (step - 1)) / Math.max(loss.length - 1, 1);
  const y = (bits: number) =>
    margin.top + ((height - margin.top - margin.bottom) * (high - bits)) / (high - low);
  const points = (values: number[]) =>
    values.map((bits, i) => `${x(i + 1).toFixed(1)},${y(bits).toFixed(1)}`).join(' ');
  const ticks = (from: number, to: number) => Array.from({length: 5}, (_, i) => from + ((to - from) * i) / 4);
  const grid = ticks(low, high).map(
    bits =>
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(bits)}" y2="${y(bits)}" stroke="var(--line)"/>` +
      `<text x="${margin.left - 6}" y="${y(bits) + 4}" text-anchor="end">${bits.toFixed(2)}</text>`,
  );
  const steps = [...new Set(ticks(1, loss.length).map(Math.round))].map(
    step => `<text x="${x(step)}" y="${height - 8}" text-anchor="middle">${step}</text>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="loss of every step">
${[...grid, ...steps].join('\n')}
<polyline points="${points(loss)}" fill="none" stroke="var(--curve)" stroke-opacity=".3"/>
<polyline points="${points(runningMean(loss))}" fill="none" stroke="var(--curve)" stroke-width="2"/>
</svg>`;
}

/** The mean of the last ten values at every place. */
function runningMean(values: number[]): number[] {
  return values.map((_, i) => {
    const last = values.slice(Math.max(0, i - 9), i + 1);
    return last.reduce((sum, value) => sum + value, 0) / last.length;
  });
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]!);
}
