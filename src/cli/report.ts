/** A report as a page that stands alone. */

export interface Report {
  title: string;
  subtitle: string;
  /** Tables of rows of cells; the first row of each is its heading. */
  tables: string[][][];
  charts: {title: string; html: string}[];
  samples: {title: string; text: string}[];
  /** What was run, by name. */
  facts: [name: string, value: string][];
  /** How to go on. */
  usage: {title: string; command: string; note: string};
}

const style = `
  :root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --line: #d9dee8; --curve: #2f6fde; --page: #fff;
    --level0: #b4541a; --level1: #1f8a4c; --series0: #0072b2; --series1: #d55e00; --series2: #008a64; --series3: #b0508a;
    --series4: #a87400; --series5: #2f9fd8; --series6: #1d2433; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8ecf4; --soft: #98a2b3; --line: #344054; --curve: #7aa7ff; --page: #12161f;
      --level0: #f2a065; --level1: #5fd08f; --series0: #5aa9e6; --series1: #ff8a3d; --series2: #2fc296; --series3: #e08fc0;
      --series4: #e6b422; --series5: #9fd8ff; --series6: #e8ecf4; }
  }
  body { max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; color: var(--ink); background: var(--page);
    font: 16px/1.5 system-ui, sans-serif; }
  h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2.25rem 0 .5rem; }
  .soft { color: var(--soft); margin: .25rem 0 0; }
  table { border-collapse: collapse; width: 100%; margin-bottom: 1.25rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid var(--line); }
  th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; }
  .scroll { overflow-x: auto; }
  svg[role] { width: 100%; height: auto; overflow: visible; } svg text { fill: var(--soft); font: 13px system-ui, sans-serif; }
  .legend { color: var(--soft); font-size: .85rem; margin: .25rem 0; }
  .legend span { white-space: nowrap; margin-right: 1.25rem; } .legend svg { width: 40px; height: 10px; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; } dd { margin: 0; overflow-wrap: anywhere; }
  dt { color: var(--soft); }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 6px;
    padding: .75rem; font-size: .85rem; }
  @media (max-width: 560px) { body { margin: 1.5rem auto; padding: 0 .9rem; } table { font-size: .85rem; }
    th, td { padding: .35rem .3rem; } th, td:first-child { white-space: normal; } svg text { font-size: 21px; } }`;

/** A whole HTML page; it loads nothing. */
export function reportPage({title, subtitle, tables, charts, samples, facts, usage}: Report): string {
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
${charts.map(chart => `<h2>${escapeHtml(chart.title)}</h2>\n${chart.html}`).join('\n')}
${samples
  .map(sample => `<h2>${escapeHtml(sample.title)}</h2>\n<pre>${escapeHtml(sample.text)}</pre>`)
  .join('\n')}
<h2>This run</h2>
<dl>
${facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`).join('\n')}
</dl>
<h2>${escapeHtml(usage.title)}</h2>
<pre>${escapeHtml(usage.command)}</pre>
<p class="soft">${escapeHtml(usage.note)}</p>
</html>
`;
}

function htmlTable([heading, ...body]: string[][]): string {
  const line = (row: string[] = [], tag: string) =>
    `<tr>${row.map(cell => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="scroll"><table>
<thead>${line(heading, 'th')}</thead>
<tbody>
${body.map(row => line(row, 'td')).join('\n')}
</tbody>
</table></div>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]!);
}
