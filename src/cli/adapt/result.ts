import {count, kilobytes, milliseconds, percent} from '../table.js';
import {methodOf} from './method-names.js';

/** Bits per byte of a held-out text before and after the training; null where it was not measured. */
export interface Change {
  before: number;
  after: number | null;
}

/** What a run measured: bytes, bits per byte, milliseconds. It is written as result.json. */
export interface Result {
  /** When it was written, ISO 8601. */
  date: string;
  target: Change;
  /** Null where too little English is installed to measure it. */
  base: Change | null;
  parameters: {trained: number; all: number};
  optimizerStateBytes: number;
  adamStateBytes: number;
  /** Null where there is no adapter: the merged model is written then. */
  adapterBytes: number | null;
  modelBytes: number;
  msPerStep: number;
  steps: number;
  /** Of every step. */
  loss: number[];
  /** As they took effect. */
  options: {
    text: string;
    method: string;
    /** Null for a method without one; alpha too. */
    rank: number | null;
    alpha: number | null;
    lr: number;
    steps: number;
    targets: string;
    inner: string;
    backend: string;
    seed: number;
    out: string;
  };
  backend: string;
  versions: Record<'tfjs-lora' | 'tfjs' | 'node' | 'backend', string>;
}

/** Whether the model is worse than one that takes every byte for equally likely. */
export const isDiverged = (bits: number | null): boolean =>
  bits !== null && (!Number.isFinite(bits) || bits > 8);

/** The result as two tables: what was learned and forgotten, and what it cost. */
export function resultTables(result: Result): string[][][] {
  const bits = (name: string, {before, after}: Change) => {
    if (after === null) return [name, before.toFixed(3), 'not measured', ''];
    if (isDiverged(after)) return [name, before.toFixed(3), 'diverged', ''];
    const change = `${after > before ? '+' : ''}${percent(after / before - 1)}`;
    return [name, before.toFixed(3), after.toFixed(3), change];
  };
  const size = (name: string, part: number, whole: number, unit: (n: number) => string) => [
    name,
    unit(whole),
    unit(part),
    percent(part / whole),
  ];
  const {parameters, optimizerStateBytes, adamStateBytes, adapterBytes, modelBytes} = result;
  return [
    [
      ['Bits per byte', 'before', 'after', 'change'],
      bits('The new text, held out', result.target),
      ...(result.base ? [bits('English, held out', result.base)] : []),
    ],
    [
      ['Cost', 'all weights', methodOf(result.options.method).title, 'share'],
      size('Trained parameters', parameters.trained, parameters.all, count),
      size('Optimizer state (Adam on all weights)', optimizerStateBytes, adamStateBytes, kilobytes),
      adapterBytes === null
        ? size('Size on disk (the merged model)', modelBytes, modelBytes, kilobytes)
        : size('Size on disk (model; adapter)', adapterBytes, modelBytes, kilobytes),
      ['Median time of a step', '', milliseconds(result.msPerStep), ''],
    ],
  ];
}
