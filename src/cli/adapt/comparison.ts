/** What a comparison of methods measured, and its tables. */
import {count, kilobytes, milliseconds, percent} from '../table.js';
import {methodOf} from './method-names.js';
import {isDiverged, type Result} from './result.js';
import type {Snapshot} from './snapshot.js';

/** One training of one method. */
export interface Trial {
  method: string;
  rank: number | null;
  alpha: number | null;
  lr: number;
  /** The inner optimizer. */
  inner: string;
  /** Numbers trained. */
  trained: number;
  /** Of every step taken, in bits per byte. */
  loss: number[];
  msPerStep: number;
  optimizerStateBytes: number;
  /** Bits per byte of the held-out texts, and how the prompt is continued; null where it did not get there. */
  after: Snapshot | null;
  /** `stopped`: by a signal. `failed`: by an error, which `why` tells. */
  ended: 'done' | 'stopped' | 'diverged' | 'failed';
  why: string | null;
  /** Other rates that were tried, and the held-out bits per byte; null where it did not get there. */
  others: {lr: number; target: number | null}[];
}

/** It is written as result.json. */
export interface Comparison {
  /** When it was written, ISO 8601. */
  date: string;
  /** Of the model as it ships. */
  before: Snapshot;
  /** Trained numbers that the ranks were chosen for. */
  budget: number;
  /** Numbers of the model. */
  weights: number;
  /** What Adam on all weights would keep. */
  adamStateBytes: number;
  methods: Trial[];
  /** Methods that a signal left no time for. */
  missing: string[];
  prompt: string;
  options: {
    text: string;
    compare: string[];
    rank: number;
    /** Null: each method's own. */
    lr: number | null;
    lrs: number[];
    steps: number;
    targets: string;
    /** Of the methods that are not meant for another. */
    inner: string;
    backend: string;
    seed: number;
    out: string;
  };
  backend: string;
  versions: Result['versions'];
}

/** The result of a trial in a cell. */
const bits = ({ended, after}: Trial, of: 'target' | 'base'): string => {
  if (!after) return ended;
  const value = after[of];
  if (value === null) return '-';
  return isDiverged(value) ? 'diverged' : value.toFixed(3);
};

/** Everything in a row per method, no wider than 80 characters. */
export function comparisonTable({before, methods}: Comparison): string[][] {
  return [
    ['Method', 'rank', 'trained', 'rate', 'new text', 'English', 'state', 'ms/step'],
    ['as it ships', '', '', '', before.target.toFixed(3), before.base?.toFixed(3) ?? '-', '', ''],
    ...methods.map(trial => [
      trial.method,
      trial.rank === null ? '-' : String(trial.rank),
      count(trial.trained),
      String(trial.lr),
      bits(trial, 'target'),
      bits(trial, 'base'),
      kilobytes(trial.optimizerStateBytes),
      trial.msPerStep.toFixed(0),
    ]),
  ];
}

/** For the report: what was learned and forgotten, and what it cost. */
export function comparisonTables(comparison: Comparison): string[][][] {
  const {before, methods, weights, adamStateBytes} = comparison;
  const change = (now: number | null | undefined, then: number | null) =>
    now === null || now === undefined || then === null || isDiverged(now)
      ? ''
      : `${now > then ? '+' : ''}${percent(now / then - 1)}`;
  const title = ({method}: Trial) => methodOf(method).title;
  return [
    [
      ['Bits per byte', 'new text', 'change', 'English', 'change', 'rate'],
      ['as it ships', before.target.toFixed(3), '', before.base?.toFixed(3) ?? '-', '', ''],
      ...methods.map(trial => [
        title(trial),
        bits(trial, 'target'),
        change(trial.after?.target, before.target),
        bits(trial, 'base'),
        change(trial.after?.base, before.base),
        String(trial.lr),
      ]),
    ],
    [
      ['Cost', 'rank', 'trained', 'share', 'optimizer state', 'share', 'step'],
      ['Adam on all weights', '', count(weights), percent(1), kilobytes(adamStateBytes), percent(1), ''],
      ...methods.map(trial => [
        title(trial),
        trial.rank === null ? '-' : String(trial.rank),
        count(trial.trained),
        percent(trial.trained / weights),
        kilobytes(trial.optimizerStateBytes),
        percent(trial.optimizerStateBytes / adamStateBytes),
        milliseconds(trial.msPerStep),
      ]),
    ],
    ...ratesTable(methods),
  ];
}

/** Every rate tried, where there were several. */
function ratesTable(methods: Trial[]): string[][][] {
  if (methods.every(({others}) => others.length === 0)) return [];
  const tried = methods.map(trial =>
    [{lr: trial.lr, target: trial.after?.target ?? null}, ...trial.others]
      .sort((a, b) => a.lr - b.lr)
      .map(({lr, target}) => `${lr}: ${target === null || isDiverged(target) ? '-' : target.toFixed(3)}`),
  );
  const most = Math.max(...tried.map(cells => cells.length));
  return [
    [
      ['New text, by rate', ...Array.from({length: most}, (_, i) => (i === 0 ? 'rate: bits per byte' : ''))],
      ...tried.map((cells, i) => [
        methodOf(methods[i]!.method).title,
        ...Array.from({length: most}, (_, k) => cells[k] ?? ''),
      ]),
    ],
  ];
}
