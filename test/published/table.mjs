// The table of docs/graph-models.md about published models. It holds only what is the same on every machine: counts,
// shapes and sizes. Losses and differences are checked against bounds instead.

const begin = '<!-- published models: written by .ci/published-models.mjs -->';
const end = '<!-- end -->';

const count = n => n.toLocaleString('en-US');
const megabytes = bytes => `${(bytes / 1e6).toFixed(2)} MB`;
const row = cells => `| ${cells.join(' | ')} |`;

/** @param rows what `check` returns, with `stock`: what stock wasm says */
export function tableOf(rows) {
  const heading = [
    'model',
    'weights',
    'file',
    'by LoRA',
    'numbers trained',
    'share',
    'gradients',
    'merged file',
    'stock wasm',
  ];
  const body = rows.map(
    ({name, dtypes, numbers, bytes, targets, variables, trained, captured, merged, ways, stock}) => [
      `${name}${ways.outputs ? ' ¹' : ''}${ways.inputs ? ' ²' : ''}`,
      count(numbers),
      `${dtypes.join(', ')}, ${megabytes(bytes)}`,
      `${targets} of ${variables}`,
      count(trained),
      `${((100 * trained) / numbers).toFixed(1)} %`,
      Object.entries(captured)
        .map(([how, n]) => `${n} ${how}`)
        .join(', '),
      megabytes(merged),
      stock === '' ? 'trains' : stock.replace(/^.*(Kernel '\w+' not registered).*$/, '$1'),
    ],
  );
  return [heading, heading.map(() => '---'), ...body].map(row).join('\n');
}

/** The page with the table in its place. */
export function inPage(text, table) {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from)
    throw new Error(`docs/graph-models.md has no place for the table: ${begin} … ${end}`);
  return `${text.slice(0, from)}${begin}\n\n${table}\n\n${text.slice(to)}`;
}
