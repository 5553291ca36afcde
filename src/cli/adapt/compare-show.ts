/** A comparison as the terminal and the report show it. */
import {join} from 'node:path';
import {curvesChart, dotChart} from '../chart.js';
import {runFiles} from '../files.js';
import {commandLine} from '../package.js';
import {printable} from '../printable.js';
import {reportPage} from '../report.js';
import {count, milliseconds, percent, table} from '../table.js';
import {type Comparison, comparisonTable, comparisonTables, type Trial} from './comparison.js';
import type {Ground} from './ground.js';
import {methodOf} from './method-names.js';
import {isDiverged} from './result.js';
import {describeVersions} from './show.js';

/** How one training ended, in a line. */
export function outcomeText({ended, why, after, lr, loss, msPerStep}: Trial): string {
  const at = `rate ${lr}`;
  if (ended === 'failed') return `${at}: failed after ${loss.length} steps: ${why}`;
  if (ended === 'diverged') return `${at}: diverged after ${loss.length} steps; a lower rate may help`;
  if (!after) return `${at}: stopped after step ${loss.length}`;
  const english = after.base === null ? '' : `, English ${after.base.toFixed(3)}`;
  return `${at}: new text ${after.target.toFixed(3)}${english}, ${milliseconds(msPerStep)} a step`;
}

/** The table, what is missing in it, and what to open. */
export function comparisonText(comparison: Comparison): string {
  const {out} = comparison.options;
  return [
    table(comparisonTable(comparison)),
    legend(comparison),
    ...(comparison.missing.length > 0 ? [`Not run: ${comparison.missing.join(', ')}`] : []),
    `Wrote    ${runFiles.report}, ${runFiles.result} in ${out}\nOpen     ${join(out, runFiles.report)}`,
  ].join('\n\n');
}

const legend = ({options, before}: Comparison) =>
  [
    'Bits per byte of held-out text, lower is better: of the new text, and of',
    before.base === null
      ? 'English, which was not measured.'
      : 'English, where a rise is what was forgotten.',
    ...(options.lrs.length > 1 ? ['Rates: of those tried, the best by the new text.'] : []),
  ].join('\n');

export function comparisonPage(comparison: Comparison, ground: Pick<Ground, 'target' | 'backend'>): string {
  const {options, methods, before, budget, weights, missing, prompt} = comparison;
  const {target, backend} = ground;
  const title = (name: string) => methodOf(name).title;
  const finished = methods.filter(({after}) => after && !isDiverged(after.target));
  const troubles = methods.filter(({ended}) => ended !== 'done');
  const dots = (of: 'target' | 'base') =>
    finished.map(({method, after}) => ({name: title(method), value: after![of]!}));
  return reportPage({
    title: `${options.text}: ${methods.length} methods, ${options.steps} steps each`,
    subtitle:
      `A small language model of English learned this text once with each method, from the same start, over the same ` +
      `batches, with ${options.inner}. Ranks are such that each trains about ${count(budget)} numbers, as LoRA of rank ` +
      `${options.rank} does, where the method allows it. ` +
      (options.lrs.length > 1
        ? `Of ${options.lrs.length} learning rates the one that does best on the held-out text counts. `
        : 'Each method has one learning rate, which may not be its best: see --lrs. ') +
      'Lower is better; held-out text was not trained on.',
    tables: comparisonTables(comparison),
    charts: [
      {
        title: 'Held out: learned and forgotten',
        html:
          finished.length === 0
            ? '<p class="soft">No method came to its end.</p>'
            : dotChart([
                {name: 'new text, bits per byte', before: before.target, dots: dots('target')},
                ...(before.base === null
                  ? []
                  : [{name: 'English, bits per byte', before: before.base, dots: dots('base')}]),
              ]),
      },
      {title: 'Training', html: curvesChart(methods.map(({method, loss}) => ({name: title(method), loss})))},
    ],
    samples: [
      {title: 'Prompt, from the held-out text', text: prompt},
      {title: 'Continued as it ships', text: before.sample},
      ...finished.map(({method, after}) => ({title: `Continued by ${title(method)}`, text: after!.sample})),
    ].map(sample => ({...sample, text: printable(sample.text)})),
    facts: [
      ['Text', `${options.text}, ${count(target.train.length)} bytes to learn`],
      ['Held out', `${count(target.heldOut.length)} bytes: ${target.heldOutIs}`],
      ['Budget', `${count(budget)} trained numbers, ${percent(budget / weights)}; ${options.targets}`],
      [
        'Rates',
        methods
          .map(
            ({method, lr, inner}) => `${title(method)} ${lr}${inner === options.inner ? '' : ` (${inner})`}`,
          )
          .join('; '),
      ],
      ['Steps', `${options.steps}, seed ${options.seed}, ${options.inner}`],
      ...troubles.map(trial => [title(trial.method), outcomeText(trial)] as [string, string]),
      ...(missing.length > 0 ? [['Not run', missing.map(title).join(', ')] as [string, string]] : []),
      ['Backend', backend.note],
      ['Versions', describeVersions(comparison.backend, comparison.versions)],
      ['Date', comparison.date],
    ],
    usage: {
      title: 'Go on with one method',
      command: `${commandLine('adapt')} --method ${(finished[0] ?? methods[0]!).method}`,
      note: 'That writes its adapter. result.json beside this page has all that was measured.',
    },
  });
}
