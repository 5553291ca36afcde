/** A run as the terminal and the report show it. */
import {join} from 'node:path';
import {mergedFolder, runFiles} from '../files.js';
import {commandLine} from '../package.js';
import {printable} from '../printable.js';
import {lossChart} from '../chart.js';
import {reportPage} from '../report.js';
import {count, percent, table} from '../table.js';
import {methodOf} from './method-names.js';
import {type Change, isDiverged, type Result, resultTables} from './result.js';
import type {Snapshot} from './snapshot.js';

/** What was run, in words. */
export interface Setting {
  /** Why this backend. */
  backendNote: string;
  trainBytes: number;
  heldOutBytes: number;
  heldOutIs: string;
  prompt: string;
  before: Snapshot;
}

/** The hyperparameters on one line. */
export function describeMethod({rank, alpha, lr, inner, targets}: Result['options']): string {
  const own = [rank === null ? [] : `rank ${rank}`, alpha === null ? [] : `alpha ${alpha}`].flat();
  return [...own, `rate ${lr}`, inner, targets].join(', ');
}

/** What to type to use the adapter of a run, or its model. */
export function generateLine(out: string, hasAdapter = true): string {
  const path = join(out, hasAdapter ? runFiles.adapter : mergedFolder);
  const option = hasAdapter ? '--adapter' : '--model';
  return `${commandLine('generate')} ${option} ${/^[\w./\\:-]+$/.test(path) ? path : JSON.stringify(path)}`;
}

/** The result, the texts, and what to do next. */
export function resultText(result: Result, {prompt, before}: Setting, after: Snapshot): string {
  const text = (title: string, body: string) => `${title}\n${printable(body).replace(/^/gm, '  | ')}`;
  const {out} = result.options;
  const hasAdapter = result.adapterBytes !== null;
  const files = [hasAdapter ? runFiles.adapter : mergedFolder, runFiles.report, runFiles.result];
  return [
    ...resultTables(result).map(rows => table(rows)),
    text('Prompt, from the held-out text:', prompt),
    text('Continued before:', before.sample),
    text('Continued after:', after.sample),
    `Wrote    ${files.join(', ')} in ${out}\n` +
      `Open     ${join(out, runFiles.report)}\n` +
      `Next     ${generateLine(out, hasAdapter)}`,
  ].join('\n\n');
}

/** The report; `after` is missing when the training did not end as it should. */
export function resultPage(result: Result, setting: Setting, after: Snapshot | undefined): string {
  const {options, parameters, versions} = result;
  const {title} = methodOf(options.method);
  const hasAdapter = result.adapterBytes !== null;
  const {trainBytes, heldOutBytes, heldOutIs, prompt, before} = setting;
  const unfinished = result.target.after === null ? `, of ${options.steps}` : '';
  return reportPage({
    title: `${options.text}: ${result.steps} steps${unfinished}`,
    subtitle:
      `A small language model of English learned this text through ${title}: ${describeMethod(options)}. Lower is better; ` +
      'held-out text was not trained on.',
    tables: resultTables(result),
    charts: [{title: 'Training', html: lossChart({loss: result.loss, levels: levelsOf(result.target)})}],
    samples: [
      {title: 'Prompt, from the held-out text', text: prompt},
      {title: 'Continued before', text: before.sample},
      ...(after ? [{title: 'Continued after', text: after.sample}] : []),
    ].map(sample => ({...sample, text: printable(sample.text)})),
    facts: [
      ['Text', `${options.text}, ${count(trainBytes)} bytes to learn`],
      ['Held out', `${count(heldOutBytes)} bytes: ${heldOutIs}`],
      [title, describeMethod(options)],
      ['Trained', `${count(parameters.trained)} numbers, ${percent(parameters.trained / parameters.all)}`],
      ['Steps', `${result.steps} of ${options.steps}, seed ${options.seed}`],
      ['Backend', setting.backendNote],
      ['Versions', describeVersions(result.backend, versions)],
      ['Date', result.date],
    ],
    usage: {
      title: hasAdapter ? 'Use the adapter' : 'Use the model',
      command: generateLine(options.out, hasAdapter),
      note: `${hasAdapter ? `${runFiles.adapter} lies` : 'The merged model lies'} beside this page; result.json has all that was measured.`,
    },
  });
}

/** Versions on one line. */
export function describeVersions(backend: string, versions: Result['versions']): string {
  return Object.entries({...versions, backend: `${backend} ${versions.backend}`})
    .map(([name, value]) => (name === 'backend' ? value : `${name} ${value}`))
    .join(', ');
}

function levelsOf({before, after}: Change): {name: string; bits: number}[] {
  const levels = [{name: 'held out, before', bits: before}];
  if (after !== null && !isDiverged(after)) levels.push({name: 'held out, after', bits: after});
  return levels;
}
