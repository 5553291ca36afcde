// A report as one HTML page that loads nothing, with curves as SVG.
const style = `
  :root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee8; --page: #fff;
    --c0: #0072b2; --c1: #d55e00; --c2: #008a64; --c3: #b0508a; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e8ecf4; --soft: #98a2b3; --line: #344054; --page: #12161f;
    --c0: #5aa9e6; --c1: #ff8a3d; --c2: #2fc296; --c3: #e08fc0; } }
  body { max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; color: var(--ink); background: var(--page);
    font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.25rem 0 .5rem; }
  .soft, .legend { color: var(--soft); margin: .25rem 0; } .legend { font-size: .85rem; }
  .legend span { white-space: nowrap; margin-right: 1.25rem; } .legend svg { width: 40px; height: 10px; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; padding-left: 0; }
  svg[role] { width: 100%; height: auto; } svg text { fill: var(--soft); font: 13px system-ui, sans-serif; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 6px;
    padding: .75rem; font-size: .85rem; } pre.wide { white-space: pre; overflow-x: auto; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; } dt { color: var(--soft); }
  dd { margin: 0; overflow-wrap: anywhere; }
  @media (max-width: 560px) { body { margin: 1.5rem auto; } table { font-size: .85rem; } svg text { font-size: 20px; } }`;

const escape = text =>
  String(text).replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]);

/**
 * @param {{title: string, subtitle: string, facts: [string, string][],
 *     parts: ({title: string} & ({rows: string[][]} | {svg: string} | {text: string, wide?: boolean}))[]}} report
 */
export function page({title, subtitle, facts, parts}) {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escape(title)}</title>
<style>${style}
</style>
<h1>${escape(title)}</h1>
<p class="soft">${escape(subtitle)}</p>
${parts.map(part => `<h2>${escape(part.title)}</h2>\n${body(part)}`).join('\n')}
<h2>This run</h2>
<dl>
${facts.map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`).join('\n')}
</dl>
</html>
`;
}

function body({rows, svg, text, wide}) {
  if (svg !== undefined) return svg;
  if (text !== undefined) return `<pre${wide ? ' class="wide"' : ''}>${escape(text)}</pre>`;
  const cells = (row, tag) => row.map(cell => `<${tag}>${escape(cell)}</${tag}>`).join('');
  const [heading, ...rest] = rows;
  return `<div class="scroll"><table>
<tr>${cells(heading, 'th')}</tr>
${rest.map(row => `<tr>${cells(row, 'td')}</tr>`).join('\n')}
</table></div>`;
}

const [width, height, left, right, top, bottom] = [720, 320, 80, 24, 12, 56];
const dashes = ['', '9 5', '2 4', '12 4 2 4'];
const stroke = i => `stroke="var(--c${i % 4})" stroke-width="2.25" stroke-dasharray="${dashes[i % 4]}"`;

/**
 * Lines over steps.
 * @param {{name: string, points: [step: number, value: number][]}[]} series
 * @param {{y: string, digits?: number, faint?: [number, number][]}} options what the vertical axis says; `faint`: a
 *     thin line behind the first
 */
export function curves(series, {y: label, faint = []}) {
  const all = [...series.flatMap(({points}) => points), ...faint];
  const values = all.map(([, value]) => value);
  const vertical = ticks(Math.min(...values), Math.max(...values));
  const last = Math.max(1, ...all.map(([step]) => step));
  const [low, high] = [vertical[0], vertical.at(-1)];
  const x = step => (left + (step / last) * (width - left - right)).toFixed(1);
  const y = value => (height - bottom - ((value - low) / (high - low)) * (height - top - bottom)).toFixed(1);
  const digits = Math.max(0, Math.ceil(-Math.log10(vertical[1] - low) - 1e-9));
  const line = points => points.map(([step, value]) => `${x(step)},${y(value)}`).join(' ');
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)} by step">
${vertical
  .map(
    value =>
      `<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}" stroke="var(--line)"/>` +
      `<text x="${left - 8}" y="${y(value)}" dy=".35em" text-anchor="end">${value.toFixed(digits)}</text>`,
  )
  .join('\n')}
${ticks(0, last)
  .filter(step => step <= last)
  .map(step => `<text x="${x(step)}" y="${height - bottom}" dy="1.4em" text-anchor="middle">${step}</text>`)
  .join('\n')}
<text x="${(left + width - right) / 2}" y="${height - 6}" text-anchor="middle">step</text>
<text transform="translate(18 ${(top + height - bottom) / 2}) rotate(-90)" text-anchor="middle">${escape(label)}</text>
<polyline points="${line(faint)}" fill="none" stroke="var(--c0)" stroke-opacity=".35"/>
${series.map(({points}, i) => `<polyline points="${line(points)}" fill="none" ${stroke(i)}/>`).join('\n')}
</svg>
<p class="legend">${series
    .map(
      ({name}, i) =>
        `<span><svg viewBox="0 0 40 10"><line x2="40" y1="5" y2="5" ${stroke(i)}/></svg> ${escape(name)}</span>`,
    )
    .join('\n')}${faint.length > 0 ? '<span>faint: each step</span>' : ''}</p>`;
}

/** Round numbers, evenly spaced, around a range. */
function ticks(low, high, about = 5) {
  const rough = Math.max(high - low, 1e-3) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map(times => times * power).find(step => step >= rough * (1 - 1e-9));
  const first = Math.floor(low / unit + 1e-9);
  const length = Math.max(Math.ceil(high / unit - 1e-9), first + 1) - first + 1;
  return Array.from({length}, (_, i) => Number(((first + i) * unit).toPrecision(12)));
}

/** Means over `width` steps, as points. */
export function smooth(values, width = Math.max(1, Math.round(values.length / 40))) {
  const points = [];
  for (let i = 0; i + width <= values.length; i += width) {
    const part = values.slice(i, i + width);
    points.push([i + (width + 1) / 2, part.reduce((sum, value) => sum + value, 0) / part.length]);
  }
  return points;
}
