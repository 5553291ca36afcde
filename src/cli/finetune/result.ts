import {count, kilobytes, milliseconds, percent, several} from '../table.js';
import {methodOf} from '../adapt/method-names.js';
import type {Scores} from './measure.js';
import type {InputFacts} from './prepare.js';
import {oneLine} from './records.js';
import type {Task} from './task.js';

/** What a run measured. It is written as result.json. */
export interface Result {
  /** When it was written, ISO 8601. */
  date: string;
  task: Task;
  input: InputFacts;
  /** On the examples set aside; `baseline` looks at no input. */
  heldOut: {size: number; is: string; before: Scores; after: Scores | null; baseline: Scores};
  trainSize: number;
  parameters: {trained: number; all: number};
  optimizerStateBytes: number;
  /** Null where there is no adapter. */
  adapterBytes: number | null;
  modelBytes: number;
  /** The median; null where no step was taken, as by a run that goes on and was done. */
  msPerStep: number | null;
  steps: number;
  /** Of every step. */
  loss: number[];
  /** As they took effect. */
  options: {
    model: string;
    data: string;
    method: string;
    rank: number | null;
    alpha: number | null;
    lr: number;
    steps: number;
    batch: number;
    targets: string;
    head: string;
    newHead: boolean;
    batchNorm: string;
    inner: string;
    seed: number;
    out: string;
  };
  backend: string;
  versions: Record<'tfjs-lora' | 'tfjs' | 'node' | 'backend', string>;
}

/** Five significant digits, thousands set apart. */
export function rounded(value: number): string {
  if (!Number.isFinite(value)) return 'no number';
  const five = Number(value.toPrecision(5));
  return Math.abs(five) >= 1000 && Math.abs(five) < 1e15 ? count(five) : String(five);
}

/** Scores by what they are called. */
const shown = (scores: Scores): [string, string][] =>
  'accuracy' in scores
    ? [
        ['Accuracy', percent(scores.accuracy)],
        ['Cross-entropy, nats', rounded(scores.loss)],
      ]
    : [
        ['Root mean squared error', rounded(scores.rmse)],
        ['Mean absolute error', rounded(scores.mae)],
      ];

/** The result as tables: what was learned, and what it cost. */
export function resultTables(result: Result): string[][][] {
  const {heldOut, parameters, options} = result;
  const isClasses = result.task.kind === 'classes';
  const [after, baseline] = [heldOut.after && shown(heldOut.after), shown(heldOut.baseline)];
  const learned = shown(heldOut.before).map(([name, before], i) => [
    name,
    before,
    after ? after[i]![1] : 'not measured',
    baseline[i]![1],
  ]);
  return [
    [
      [
        `Held out, ${several(heldOut.size, 'example')}`,
        'before',
        'after',
        isClasses ? 'by the shares of classes' : 'always the mean',
      ],
      ...learned,
    ],
    [
      ['Cost', methodOf(options.method).title],
      ['Trained parameters', `${count(parameters.trained)} of ${count(parameters.all)}`],
      ['Optimizer state', kilobytes(result.optimizerStateBytes)],
      ['Adapter on disk', result.adapterBytes === null ? 'none' : kilobytes(result.adapterBytes)],
      ['Model on disk', kilobytes(result.modelBytes)],
      ['Median time of a step', result.msPerStep === null ? 'not measured' : milliseconds(result.msPerStep)],
    ],
  ];
}

/** Most classes that a table of confusions has. */
const mostClasses = 12;

/** Right classes down, likeliest classes across; none for many classes. */
export function confusionTable({task, heldOut: {after}}: Result): string[][] | undefined {
  if (task.kind !== 'classes' || !after || !('confusion' in after) || task.classes.length > mostClasses)
    return undefined;
  return [
    ['Is ↓ taken for →', ...task.classes.map(oneLine)],
    ...after.confusion.map((row, i) => [oneLine(task.classes[i]!), ...row.map(String)]),
  ];
}
