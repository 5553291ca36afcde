import {count, kilobytes, percent} from '../table.js';

/** What a run measured: bytes, bits per byte, milliseconds. It is written as result.json. */
export interface Result {
  target: {before: number; after: number};
  base: {before: number; after: number};
  parameters: {trained: number; all: number};
  optimizerStateBytes: number;
  adamStateBytes: number;
  adapterBytes: number;
  modelBytes: number;
  msPerStep: number;
  steps: number;
  /** Of every step. */
  loss: number[];
  options: object;
  backend: string;
  versions: Record<string, string>;
}

/** The result as two tables: what was learned and forgotten, and what it cost. */
export function resultTables(result: Result): string[][][] {
  const bits = (name: string, {before, after}: {before: number; after: number}) => [
    name,
    before.toFixed(3),
    after.toFixed(3),
    `${after > before ? '+' : ''}${percent(after / before - 1)}`,
  ];
  const size = (name: string, part: number, whole: number, unit: (n: number) => string) => [
    name,
    unit(whole),
    unit(part),
    percent(part / whole),
  ];
  return [
    [
      ['Bits per byte', 'before', 'after', 'change'],
      bits('The new text, held out', result.target),
      bits('English, held out', result.base),
    ],
    [
      ['Cost', 'all weights', 'LoRA', 'share'],
      size('Trained parameters', result.parameters.trained, result.parameters.all, count),
      size(
        'Optimizer state (all weights: Adam)',
        result.optimizerStateBytes,
        result.adamStateBytes,
        kilobytes,
      ),
      size('File (model; adapter)', result.adapterBytes, result.modelBytes, kilobytes),
      ['Median time of a step', '', `${result.msPerStep.toFixed(0)} ms`, ''],
    ],
  ];
}
