/** A run as the terminal and the report show it. */
import {basename, join} from 'node:path';
import {methodOf} from '../adapt/method-names.js';
import {describeVersions} from '../adapt/show.js';
import {lossChart} from '../chart.js';
import {mergedFolder, runFiles} from '../files.js';
import {printable} from '../printable.js';
import {reportPage} from '../report.js';
import {count, percent, table} from '../table.js';
import {oneLine} from './records.js';
import {confusionTable, type Result, resultTables, rounded} from './result.js';

/** What names of pairs take at least, so that those told apart stand below each other. */
const leastWidth = 'Held out'.length;

/** Pairs of a name and a value in two columns, without a heading. */
export function facts(pairs: readonly (readonly [string, string])[], least = leastWidth): string {
  const width = Math.max(least, ...pairs.map(([name]) => name.length));
  const line = (name: string, value: string) => `${name.padEnd(width)}  ${oneLine(value)}`;
  return pairs.map(([name, value]) => printable(line(name, value)).trimEnd()).join('\n');
}

/** The hyperparameters on one line. */
export function describeMethod({rank, alpha, lr, inner, targets}: Result['options']): string {
  const own = [rank === null ? [] : `rank ${rank}`, alpha === null ? [] : `alpha ${alpha}`].flat();
  return [...own, `rate ${lr}`, inner, targets].join(', ');
}

/**
 * The result and where it is.
 * @param told what is to be said of it
 */
export function resultText(result: Result, told: readonly (readonly [string, string])[] = []): string {
  const {out} = result.options;
  const {adapter, report, result: json} = runFiles;
  const files = [...(result.adapterBytes === null ? [] : [adapter]), `${mergedFolder}/`, report, json];
  return [
    ...resultTables(result).map(rows => table(rows)),
    facts([['Wrote', `${files.join(', ')} in ${out}`], ['Open', join(out, report)], ...told]),
  ].join('\n\n');
}

/** The report. */
export function resultPage(
  result: Result,
  understood: readonly [string, string][],
  backendNote: string,
  remarks: readonly (readonly [string, string])[],
): string {
  const {options, parameters, versions} = result;
  const {title} = methodOf(options.method);
  const [learned, cost] = resultTables(result) as [string[][], string[][]];
  const confusion = confusionTable(result);
  const unfinished = result.steps < options.steps ? `, of ${options.steps}` : '';
  return printable(
    reportPage({
      title: `${basename(options.data)}: ${result.steps} steps${unfinished}`,
      subtitle: `${basename(options.model)} learned this data through ${title}: ${describeMethod(options)}. Held-out examples were not trained on.`,
      tables: [learned, ...(confusion ? [confusion] : []), cost],
      charts: [{title: 'Training', html: trainingChart(result)}],
      samples: [],
      facts: [
        ['Model', options.model],
        ['Data', options.data],
        ...understood,
        ...remarks.map(([name, text]): [string, string] => [name, text]),
        [title, describeMethod(options)],
        ['Trained', `${count(parameters.trained)} numbers, ${percent(parameters.trained / parameters.all)}`],
        [
          'Steps',
          `${result.steps} of ${options.steps}, ${options.batch} examples each, seed ${options.seed}`,
        ],
        ['Backend', backendNote],
        ['Versions', describeVersions(result.backend, versions)],
        ['Date', result.date],
      ],
      usage: {
        title: 'Use the model',
        command: `const model = await tf.loadLayersModel('${mergedFolder}/model.json');`,
        note:
          'From where a server offers it; in Node by nodeFiles(folder) of tfjs-lora/adapter, or from file:// with tfjs-node. model/data.json says what to do with inputs and outputs. ' +
          (result.adapterBytes === null ? '' : `${runFiles.adapter} holds the change alone. `) +
          'result.json has all that was measured.',
      },
    }),
  );
}

/** A head that has never seen the units begins so far off that the rest of the curve would be flat: it is cut. */
function trainingChart({loss, heldOut, task, input}: Result): string {
  const {before, after, baseline} = heldOut;
  const ceiling = 2 * Math.max(baseline.loss, after?.loss ?? NaN);
  const isCut = Number.isFinite(ceiling) && [before.loss, ...loss].some(value => !(value <= ceiling));
  const cut = (value: number) => (isCut ? Math.min(value, ceiling) : value);
  const first =
    isCut && !(before.loss <= ceiling)
      ? {name: task.kind === 'classes' ? 'by the shares of classes' : 'always the mean', bits: baseline.loss}
      : {name: 'held out, before', bits: before.loss};
  const levels = [first, ...(after ? [{name: 'held out, after', bits: after.loss}] : [])];
  const chart = lossChart({
    loss: loss.map(cut),
    levels: levels.filter(({bits}) => Number.isFinite(bits)),
    unit: task.kind === 'classes' ? 'cross-entropy, nats' : 'mean squared error',
  });
  const notes = [
    isCut ? `Losses above ${rounded(Number(ceiling.toPrecision(3)))} are drawn there.` : '',
    input.outputs ? 'These are errors of the standardised labels.' : '',
  ].filter(note => note !== '');
  return [chart, ...(notes.length > 0 ? [`<p class="legend">${notes.join(' ')}</p>`] : [])].join('\n');
}
