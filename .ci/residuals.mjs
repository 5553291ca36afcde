// The table of residuals, method x law x oracle, from what the tests wrote into temp/residuals.
// `node .ci/residuals.mjs` writes docs/parametrizations/residuals.md; `--check` compares the page with what was measured.
import {existsSync, readFileSync, readdirSync, writeFileSync} from 'node:fs';
import {basename, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = join(root, 'docs/parametrizations/residuals.md');

/** How many times worse than the page says a residual may become, and what counts as no less than that. */
const factor = 30;
const floor = 1e-7;

/** The laws in the order of the contract; others follow by name. */
const lawOrder = [
  ...[
    'start',
    'movable',
    'adjoint',
    'agreement',
    'tangent',
    'lift',
    'continuity',
    'transport',
    'precondition',
  ],
  ...['keys and shapes', 'count', 'purity'],
];

const byName = (a, b) => a.localeCompare(b, 'en', {numeric: true});
const byLaw = (a, b) => place(a) - place(b) || byName(a, b);
const place = law => (lawOrder.includes(law) ? lawOrder.indexOf(law) : lawOrder.length);

/**
 * The worst of each law and oracle of each method: `{method: {laws: {name: entry}, oracles: {name: entry}}}` with
 * entries `{residual, tolerance, what?}`. What has a statement is an oracle. JSON writes NaN as null.
 */
export function merge(lists) {
  const methods = {};
  for (const {method, check, residual, tolerance, what} of lists.flat()) {
    const found = (methods[method] ??= {laws: {}, oracles: {}});
    const kind = what === undefined ? found.laws : found.oracles;
    const entry = {residual: residual ?? NaN, tolerance, ...(what !== undefined && {what})};
    const worst = kind[check];
    if (!worst || isWorse(entry, worst)) kind[check] = entry;
  }
  return methods;
}

const isWorse = (a, b) => Number.isNaN(a.residual) || a.residual - a.tolerance > b.residual - b.tolerance;

/** 0, 4e-8, 2: one digit, since machines differ in the second. */
export const short = number =>
  number === 0 || (number >= 1 && number < 1000 && Number.isInteger(number))
    ? String(number)
    : number.toExponential(0).replace('+', '');

const escape = text => text.replace(/[\\`*_<>[\]|#~]/g, '\\$&');
const unescape = text => text.replace(/\\([\\`*_<>[\]|#~])/g, '$1');
const row = cells => `| ${cells.join(' | ')} |`;
const table = ([heading, ...body]) =>
  [row(heading), row(heading.map(() => '---')), ...body.map(row)].join('\n');
const sorted = (record, order) => Object.keys(record).sort(order);

/** The page, not yet formatted. */
export function toMarkdown(methods) {
  const names = sorted(methods, byName);
  const lawful = names.filter(name => Object.keys(methods[name].laws).length > 0);
  const laws = [...new Set(lawful.flatMap(name => Object.keys(methods[name].laws)))].sort(byLaw);
  const tolerances = laws.map(law =>
    Math.max(...lawful.map(name => methods[name].laws[law]?.tolerance ?? 0)),
  );
  const cell = entry => (entry ? short(entry.residual) : '');
  const proven = names.filter(name => Object.keys(methods[name].oracles).length > 0);
  return (
    [
      '# Residuals',
      'Written by `npm run residuals` from what the tests measured last; `.ci/run` fails when a method, a law or an ' +
        'oracle is missing here, when a residual is above its tolerance, or when it has become more than ' +
        `${factor} times what this page says (and is above ${short(factor * floor)}). ` +
        'Numbers are relative to the size of what is compared; they differ a little between machines.',
      '## Laws',
      'The largest residual over all forms and shapes of a parametrization, in float32 on the cpu backend, for each of ' +
        'the [laws](../extending.md). An empty cell: the law does not apply, for want of the member it is about. ' +
        'A whole number counts violations.',
      table([
        ['', ...laws],
        ...lawful.map(name => [escape(name), ...laws.map(law => cell(methods[name].laws[law]))]),
        ['_tolerance_', ...tolerances.map(short)],
      ]),
      '## Oracles',
      'Equalities and bounds that the mathematics of a method implies, each with a test of its own.',
      ...(proven.length === 0 ? ['None is recorded yet.'] : []),
      ...proven.flatMap(name => [
        `### ${escape(name)}`,
        table([
          ['oracle', 'what holds', 'residual', 'tolerance'],
          ...sorted(methods[name].oracles, byName).map(check => {
            const {what, residual, tolerance} = methods[name].oracles[check];
            return [escape(check), escape(what), short(residual), short(tolerance)];
          }),
        ]),
      ]),
      '',
    ]
      .join('\n\n')
      .trimEnd() + '\n'
  );
}

/** What a page says: `{method: {laws: {name: residual}, oracles: {name: residual}}}`. */
export function fromMarkdown(text) {
  const methods = {};
  const of = name => (methods[name] ??= {laws: {}, oracles: {}});
  const [, laws = '', oracles = ''] = /^## Laws$([\s\S]*?)^## Oracles$([\s\S]*)/m.exec(text) ?? [];
  const [heading = [], , ...rows] = rowsOf(laws);
  for (const [name, ...cells] of rows.filter(([name]) => name !== '_tolerance_')) {
    cells.forEach((cell, i) => {
      if (cell !== '') of(name).laws[heading[i + 1]] = Number(cell);
    });
  }
  for (const section of oracles.split(/^### /m).slice(1)) {
    const name = unescape(section.slice(0, section.indexOf('\n')).trim());
    for (const [check, , residual] of rowsOf(section).slice(2)) of(name).oracles[check] = Number(residual);
  }
  return methods;
}

/** The cells of every table row; a `\|` is no border. */
const rowsOf = text =>
  text
    .split('\n')
    .filter(line => line.startsWith('|'))
    .map(line =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map(cell => unescape(cell.trim())),
    );

/** What is wrong, a line each: what only one side has, and residuals that are too large. */
export function complaints(measured, said) {
  const found = [];
  for (const method of new Set([...Object.keys(measured), ...Object.keys(said)])) {
    for (const kind of ['laws', 'oracles']) {
      const [now, then] = [measured[method]?.[kind] ?? {}, said[method]?.[kind] ?? {}];
      for (const check of new Set([...Object.keys(now), ...Object.keys(then)])) {
        const what = `${method}, ${check}`;
        if (!(check in then)) found.push(`${what}: measured, but not on the page`);
        if (!(check in now)) found.push(`${what}: on the page, but not measured`);
        else found.push(...tooLarge(what, now[check], then[check]));
      }
    }
  }
  return found;
}

function tooLarge(what, {residual, tolerance}, then) {
  if (!(residual <= tolerance)) return [`${what}: ${residual} is above the tolerance ${tolerance}`];
  if (then === undefined || residual <= factor * Math.max(then, floor)) return [];
  return [`${what}: ${short(residual)}, more than ${factor} times what the page says (${short(then)})`];
}

/** What the tests wrote, without what tests that are gone have left. */
function read() {
  const folder = join(root, 'temp/residuals');
  const tests = readdirSync(join(root, 'test'), {recursive: true, encoding: 'utf8'})
    .filter(file => file.endsWith('.test.ts'))
    .map(file => file.replace(/[\\/]/g, '-').replace('.test.ts', ''));
  const files = existsSync(folder)
    ? readdirSync(folder).filter(file => tests.includes(basename(file, '.json')))
    : [];
  if (!files.includes('parametrizations-laws.json'))
    throw new Error('nothing is measured yet: run npm test first');
  return files.map(file => JSON.parse(readFileSync(join(folder, file), 'utf8')));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const measured = merge(read());
  if (process.argv.includes('--check')) {
    const found = complaints(measured, existsSync(page) ? fromMarkdown(readFileSync(page, 'utf8')) : {});
    if (found.length > 0) {
      console.error(`${found.join('\n')}\nWhere this is meant: npm run residuals`);
      process.exit(1);
    }
    const counts = Object.values(measured).flatMap(({laws, oracles}) =>
      [laws, oracles].map(o => Object.keys(o).length),
    );
    const total = counts.reduce((sum, n) => sum + n, 0);
    console.log(`residuals: ${total} of ${Object.keys(measured).length} methods are as the page says`);
  } else {
    const {format, resolveConfig} = await import('prettier');
    const options = await resolveConfig(page);
    writeFileSync(page, await format(toMarkdown(measured), {...options, parser: 'markdown'}));
    console.log(`wrote ${page}`);
  }
}
