// Makes docs/performance.md and its plots of the results.
//
//     node bench/page.mjs [FOLDER OF RESULTS] [FOLDER OF PAGES]
//
import {existsSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import * as prettier from 'prettier';
import {labels} from './labels.mjs';
import {bars, lines} from './plot.mjs';
import {compareWithTargets} from './targets.mjs';

const colors = {
  adam: '#b2182b',
  layers: '#d9770b',
  dense: '#7b5ea7',
  tapped: '#1b7837',
  floor: '#555555',
  moving: '#999999',
};
const axes = {
  D: {file: 'width', title: 'Width', x: 'width D'},
  T: {file: 'tokens', title: 'Tokens', x: 'rows of the input T'},
  rank: {file: 'rank', title: 'Rank', x: 'rank r'},
  L: {file: 'layers', title: 'Layers', x: 'layers L'},
};

/** @returns the page's path */
export async function writePage(results, docs) {
  const [steps, growth, models, packing] = ['steps', 'growth', 'models', 'packing'].map(part => {
    const file = join(results, `${part}.json`);
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
  });
  const plots = {};
  const plot = (name, alt, svg) => {
    plots[`${name}.svg`] = svg;
    return `![${alt}](performance/${name}.svg)`;
  };
  const sections = [
    '# Performance',
    '<!-- Written by bench/page.mjs; edit that. -->',
    introduction(steps ?? growth ?? models),
    ...(steps ? stepSections(steps, packing, plot) : []),
    ...(growth ? growthSections(growth, plot) : []),
    ...(models ? modelSections(models, plot) : []),
  ];
  mkdirSync(join(docs, 'performance'), {recursive: true});
  for (const [name, svg] of Object.entries(plots)) writeFileSync(join(docs, 'performance', name), svg);
  const page = join(docs, 'performance.md');
  writeFileSync(page, await prettier.format(sections.join('\n\n'), {parser: 'markdown'}));
  return page;
}

function introduction({cpu, cores, backend, versions, date, fastKernels, options}) {
  return [
    options.quick ? '**A quick run: sizes too small to mean anything.**\n\n' : '',
    'A step is one call of `minimize` and the reading of its loss. Times are medians over interleaved steps, with ',
    'quartiles; all numbers are in `bench/results/*.json`, and how they are taken is in `bench/README.md`. ',
    '"As shipped" is tfjs with its own wasm kernels; "fast" is the same with ',
    `\`${fastKernels}()\` of this library. "tfjs-lora" without another word runs on the kernels as shipped. `,
    'The floor is the forward pass and `delta W^T` in the fast layout and nothing else.\n\n',
    `${cpu}, ${cores} cores, ${backend}; Node ${versions.node}, tfjs ${versions.tfjs}; ${date}.`,
  ].join('');
}

function stepSections({runs}, packing, plot) {
  const heads = runs.map(({size}) => `D ${size.D}, T ${size.T}`);
  const rows = compareWithTargets(runs).map(({what, cells}) => [
    what,
    ...cells.flatMap(({target, ratio, met}) => [
      target,
      `**${ratio.toFixed(2)}** ${met === null ? '(another size)' : met ? 'met' : 'not met'}`,
    ]),
  ]);
  return [
    '## Targets',
    `${runs[0].size.L} relu layers, rank ${runs[0].size.rank}, Adam. Each target was set before it was measured.`,
    table(['ratio', ...heads.flatMap(head => [`target, ${head}`, 'measured'])], rows),
    'Not compared: PyTorch on the same machine. Not measured: webgpu on a graphics card (none was at hand; [places](places.md) has it in software, for agreement and not for speed).',
    whereTheRestGoes(runs, packing),
    ...runs.flatMap((run, i) => [
      `## ${heads[i]}`,
      plot(`steps-${i + 1}`, `Time of a step, ${heads[i]}`, timeBars(`Time of a step, ${heads[i]}`, run)),
      candidateTable(run),
      agreement(run),
      profile(run),
    ]),
  ];
}

const packingRow = ({D, T, ms}) =>
  `D ${D}, T ${T}: ${Object.entries(ms)
    .map(([way, {median}]) => `${way} ${median.toFixed(0)}`)
    .join(', ')}`;

/** Why the floor is not reached, in numbers of these runs. */
function whereTheRestGoes(runs, packing) {
  const rows = runs.map(run => {
    const [ours, floor, moving] = ['tapped', 'floor', 'moving'].map(method => ms(run, method, 'shipped'));
    const {kernels, outsideKernels} = rowOf(run, 'tapped', 'shipped').profile;
    const {D, T, rank} = run.size;
    const spent = test => kernels.filter(({kernel}) => test(kernel)).reduce((sum, row) => sum + row.ms, 0);
    const product = (...shapes) => shapes.map(([a, b]) => `[${a},${b}]`).join(' ');
    const lift = product([D, 2 * rank], [2 * rank, D]);
    const thin = kernel => kernel.startsWith('BatchMatMul') && kernel.includes(`,${rank}]`);
    const cells = [
      moving / floor,
      ours / moving,
      spent(kernel => kernel.includes(lift)),
      spent(thin),
      spent(kernel => kernel.startsWith('Transpose')),
      outsideKernels,
    ];
    return [`D ${D}, T ${T}`, ...cells.map((value, i) => value.toFixed(i < 2 ? 2 : 1))];
  });
  return [
    '### Where the rest goes',
    'W moves at every step, and the wasm backend packs the right operand of a product anew whenever its data is new. ' +
      'That alone, in a floor that does nothing else than put its weights into new tensors, is the first column: no ' +
      'optimizer that moves W can be below it. LoRA layers written by hand never move their W0, which stays packed; ' +
      'that is what they win, and what they pay for with a second product in the forward pass and activations kept for it.',
    table(
      [
        '',
        'floor, weights in new tensors / floor',
        'tfjs-lora / that',
        'lift, ms',
        'thin products, ms',
        'transposes, ms',
        'outside of kernels, ms',
      ],
      rows,
    ),
    packing
      ? 'Packing the activations instead of W, `(W^T x^T)^T`, was tried (`bench/packing.mjs`): the transpose of W costs ' +
        `what its packing does. One product, ms: ${packing.runs.map(packingRow).join('; ')}.`
      : '',
    'In use: transposes in blocks of 64 rows, products in the layout that needs no flags, letting go of the copies of W ' +
      'that the tape keeps, stepping small factors together, and `Identity` that shares its data in `tfjs-lora/wasm`.',
  ].join('\n\n');
}

function growthSections({middle, axes: measured}, plot) {
  const fixed = axis =>
    Object.entries(middle)
      .filter(([key]) => key !== axis)
      .map(([key, value]) => `${key} ${value}`)
      .join(', ');
  const verdicts = Object.entries(measured).map(([axis, runs]) => {
    const ratio = run => ms(run, 'tapped', 'shipped') / ms(run, 'floor', 'shipped');
    const [first, last] = [runs[0], runs.at(-1)];
    const grows = method => ms(last, method, 'shipped') / ms(first, method, 'shipped');
    return [
      `${axis} ${first.size[axis]} … ${last.size[axis]}`,
      `${grows('tapped').toFixed(2)}`,
      `${grows('floor').toFixed(2)}`,
      axis === 'rank' ? 'not asked' : grows('tapped') <= grows('floor') ? 'yes' : 'no',
      runs.map(run => ratio(run).toFixed(2)).join(', '),
    ];
  });
  return [
    '## Growth',
    'One size changes, the others stay. A candidate whose first step takes too long takes that one only, and counts.',
    table(
      [
        'axis',
        'tfjs-lora grows by',
        'floor grows by',
        'no faster than the floor',
        'tfjs-lora / floor along the axis',
      ],
      verdicts,
    ),
    ...Object.entries(measured).flatMap(([axis, runs]) => {
      const {file, title, x} = axes[axis];
      const at = `${title}: time of a step (${fixed(axis)})`;
      return [
        `### ${title}`,
        plot(
          `time-${file}`,
          at,
          lines({title: at, x, y: 'ms a step', series: seriesOf(runs, axis, row => row.ms.median)}),
        ),
        growthTable(axis, runs),
        ...(axis === 'D' || axis === 'T' ? [memoryPlot(axis, runs, fixed(axis), plot)] : []),
      ];
    }),
  ];
}

function memoryPlot(axis, runs, fixed, plot) {
  const {file, title, x} = axes[axis];
  const at = `${title}: peak memory of a step (${fixed})`;
  // The kernels do not change what tensors are made.
  const series = seriesOf(runs, axis, row => row.peakBytes.tensors / 1e6).filter(({dashed}) => !dashed);
  return plot(`memory-${file}`, at, lines({title: at, x, y: 'MB', series}));
}

function modelSections({runs}, plot) {
  const titles = {
    transformer: 'A transformer (examples/byte-lm)',
    conv: 'A conv net (three convolutions and a dense layer)',
  };
  return runs.flatMap(run => {
    const {name, rank, ...sizes} = run.size;
    const size = Object.entries(sizes).map(([key, value]) => `${key} ${value}`);
    return [
      `## ${titles[name]}`,
      `${size.join(', ')}; rank ${rank} on every dense and convolution kernel.`,
      plot(`model-${name}`, titles[name], timeBars(`Time of a step, ${name}`, run)),
      candidateTable(run),
      agreement(run),
    ];
  });
}

const nameOf = ({method, kernels}) => labels[method] + (kernels === 'fast' ? ', fast' : '');
const isFloor = ({method}) => method === 'floor' || method === 'moving';
const ms = (run, method, kernels) => rowOf(run, method, kernels).ms.median;
const rowOf = (run, method, kernels) =>
  run.candidates.find(row => row.method === method && row.kernels === kernels);

function seriesOf(runs, axis, value) {
  return runs[0].candidates.map(({method, kernels}) => ({
    label: nameOf({method, kernels}),
    color: colors[method],
    dashed: kernels === 'fast',
    points: runs
      .map(run => [run.size[axis], rowOf(run, method, kernels)])
      .filter(([, row]) => !row.error)
      .map(([x, row]) => [x, value(row)]),
  }));
}

const timeBars = (title, run) =>
  bars({
    title,
    unit: 'ms a step, median and quartiles (logarithmic)',
    bars: run.candidates
      .filter(row => !row.error)
      .map(row => ({
        label: nameOf(row),
        color: colors[row.method],
        hollow: row.kernels === 'fast',
        value: row.ms.median,
        low: row.ms.q1,
        high: row.ms.q3,
      })),
  });

const milliseconds = value => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const megabytes = bytes => (bytes / 1e6).toPrecision(3);

function candidateTable(run) {
  return table(
    ['', 'ms a step', 'quartiles', 'steps', 'kernel launches', 'peak MB', 'MB, shared data once', 'held MB'],
    run.candidates.map(row =>
      row.error
        ? [nameOf(row), `throws: ${row.error}`, '', '', '', '', '', '']
        : [
            nameOf(row),
            milliseconds(row.ms.median),
            `${milliseconds(row.ms.q1)} – ${milliseconds(row.ms.q3)}`,
            row.cold ? 'the first' : row.ms.n,
            row.launches,
            megabytes(row.peakBytes.tensors),
            megabytes(row.peakBytes.buffers),
            megabytes(row.heldBytes.buffers),
          ],
    ),
  );
}

/** How well the losses of the candidates that train the same agree. */
function agreement(run) {
  const compared = run.candidates.filter(row => row.lossReference && !isFloor(row));
  const among = (what, rows) => {
    const worst = Math.max(...rows.map(row => row.lossDifference));
    return rows.length === 0
      ? []
      : [`The losses of ${what} agree at every step to a relative ${worst.toExponential(1)}.`];
  };
  return [
    ...among(
      'all LoRA candidates',
      compared.filter(({method}) => method !== 'adam'),
    ),
    ...among(
      'Adam on all weights with both kernels',
      compared.filter(({method}) => method === 'adam'),
    ),
  ].join(' ');
}

/** Where the time of one step goes: ours beside the floor. */
function profile(run) {
  const [ours, floor] = ['tapped', 'floor'].map(method => rowOf(run, method, 'shipped').profile);
  const cells = (of, kernel) => {
    const seen = of.kernels.find(row => row.kernel === kernel);
    return seen ? [seen.calls, seen.ms.toFixed(1)] : ['', ''];
  };
  return [
    'One step, timed kernel by kernel; the matrix products and transposes by the shapes of their inputs:',
    table(
      ['kernel', 'calls, tfjs-lora', 'ms', 'calls, floor', 'ms'],
      [
        ...ours.kernels
          .slice(0, 8)
          .map(({kernel}) => [kernel, ...cells(ours, kernel), ...cells(floor, kernel)]),
        ['outside of kernels', '', ours.outsideKernels.toFixed(1), '', floor.outsideKernels.toFixed(1)],
        ['all', '', ours.ms.toFixed(1), '', floor.ms.toFixed(1)],
      ],
    ),
  ].join('\n\n');
}

function growthTable(axis, runs) {
  return table(
    ['ms a step', ...runs.map(run => `${axis} ${run.size[axis]}`)],
    runs[0].candidates.map(({method, kernels}) => [
      nameOf({method, kernels}),
      ...runs.map(run => {
        const row = rowOf(run, method, kernels);
        return row.error ? 'throws' : milliseconds(row.ms.median) + (row.cold ? ' (first)' : '');
      }),
    ]),
  );
}

function table(head, rows) {
  const line = cells => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const inRepository = path => fileURLToPath(new URL(`../${path}`, import.meta.url));
  const [results = inRepository('bench/results'), docs = inRepository('docs')] = process.argv.slice(2);
  console.log(`wrote ${await writePage(results, docs)}`);
}
