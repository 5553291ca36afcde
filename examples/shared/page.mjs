// A report as one HTML page that loads nothing.

/**
 * The page.
 * @param {object} report
 * @param {({title: string} & ({rows: string[][]} | {svg: string} | {text: string, wide?: boolean}))[]} report.parts
 *     `rows`: tables, the first row the heading; `wide`: lines are not broken
 * @param {[string, string][]} report.facts about the run
 * @param {string} report.next code that uses what was made
 */
export function reportPage({title, subtitle, parts, facts, next}) {
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
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid var(--rule); }
  th:first-child, td:first-child { text-align: left; padding-left: 0; } th { font-weight: 600; }
  svg { width: 100%; height: auto; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; }
  dd { margin: 0; overflow-wrap: anywhere; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--rule); border-radius: 6px; padding: .75rem; font-size: .85rem; }
  pre.wide { white-space: pre; overflow-x: auto; }
  @media (max-width: 560px) { body { margin: 1.5rem auto; } table { font-size: .85rem; }
    svg.chart text { font-size: 20px; } }
</style>
<h1>${escapeHtml(title)}</h1>
<p class="soft">${escapeHtml(subtitle)}</p>
${parts.map(part => `<h2>${escapeHtml(part.title)}</h2>\n${body(part)}`).join('\n')}
<h2>This run</h2>
<dl>
${facts.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(String(value))}</dd>`).join('\n')}
</dl>
<h2>Use it</h2>
<pre>${escapeHtml(next)}</pre>
</html>
`;
}

function body({rows, svg, text, wide}) {
  if (svg !== undefined) return svg;
  if (text !== undefined) return `<pre${wide ? ' class="wide"' : ''}>${escapeHtml(text)}</pre>`;
  const row = (cells, tag) =>
    `<tr>${cells.map(cell => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  const [heading, ...rest] = rows;
  return `<div class="scroll"><table>
${row(heading, 'th')}
${rest.map(cells => row(cells, 'td')).join('\n')}
</table></div>`;
}

export function escapeHtml(text) {
  return text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]);
}
