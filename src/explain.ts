import type {Variable} from '@tensorflow/tfjs-core';
import {backend} from '@tensorflow/tfjs-core';
import {isComposed} from './calculus.js';
import type {Inners} from './inners.js';
import type {Roster} from './roster.js';
import {matrixShape, type Plan} from './targets.js';

/** Where a line of a table goes. */
export type Printer = (line: string) => void;

/** A model of tfjs-layers, or variables. */
export type Explainable = readonly Variable[] | {readonly weights: readonly {read(): unknown}[]};

/** What happens to one weight. */
export interface Explained {
  name: string;
  shape: number[];
  /** The rule that decided, in words. */
  rule: string;
  why: string;
  /** Name of the parametrization, 'train' or 'freeze'. */
  treatment: string;
  rank: number | null;
  /** Numbers that are trained. */
  trained: number;
  /** Numbers that the weight has. */
  of: number;
  /** What the optimizer keeps for it: measured once it is attached, predicted before. */
  stateBytes: number;
  /** How its gradient arrives, by which op, or why it is formed. */
  capture: string;
}

/** The variables of a model, or the variables given. */
export function weightsOf(of: Explainable): Variable[] {
  return 'weights' in of ? of.weights.map(weight => weight.read() as Variable) : [...of];
}

/** A row per weight, printed as a table with totals and warnings below. */
export function explain(
  weights: readonly Variable[],
  plan: Plan,
  roster: Roster,
  inners: Inners,
  print: Printer | null,
): Explained[] {
  const rows = weights.map(weight => explainOne(weight, plan, roster, inners));
  if (print)
    for (const line of [...table(rows), ...summary(rows, inners), ...idle(weights, plan)]) print(line);
  return rows;
}

function explainOne(weight: Variable, plan: Plan, roster: Roster, inners: Inners): Explained {
  const decision = plan.decide(weight);
  const attachment = roster.find(weight);
  const treatment = !attachment && !weight.trainable ? 'freeze' : decision.treatment;
  const row = {
    name: weight.name,
    shape: weight.shape,
    rule: decision.rule,
    why: treatment === decision.treatment ? decision.why : 'not trainable',
    of: weight.size,
  };
  if (treatment === 'freeze') {
    return {...row, treatment, rank: null, trained: 0, stateBytes: 0, capture: 'none: frozen'};
  }
  const how = attachment?.captured;
  // A weight that is trained as it is needs the matrix, however it came.
  const isFormed = treatment === 'train' && how?.path !== 'dense';
  const capture = how ? (isFormed ? 'dense: trained as it is' : `${how.path}: ${how.why}`) : 'not seen yet';
  const [name, rank] = treatment === 'train' ? [treatment, null] : [treatment.name, treatment.rank ?? null];
  if (attachment) {
    const factors = Object.values(attachment.factors);
    const held = Object.values(attachment.store.all()).reduce((sum, tensor) => sum + 4 * tensor.size, 0);
    const moments = factors.reduce((sum, factor) => sum + inners.bytesOf(factor), 0);
    const trained = factors.reduce((sum, factor) => sum + factor.size, 0);
    return {...row, treatment: name, rank, trained, stateBytes: held + moments, capture};
  }
  const trained =
    treatment === 'train' ? weight.size : (treatment.trained?.(matrixShape(weight.shape)) ?? weight.size);
  const {keepBase, keepStart} = roster.holding;
  const isWhole = treatment === 'train';
  const copies = (isWhole ? 0 : 1) + (keepStart && !isWhole ? 1 : 0) + inners.momentsPerNumber;
  const keepsWeight = keepBase || (isWhole ? keepStart : isComposed(treatment));
  const stateBytes = 4 * (trained * copies + (keepsWeight ? weight.size : 0));
  return {...row, treatment: name, rank, trained, stateBytes, capture};
}

function table(rows: readonly Explained[]): string[] {
  const head = ['weight', 'shape', 'treatment', 'trained', 'of', 'state', 'gradient', 'rule'];
  const cells = rows.map(row => [
    row.name,
    row.shape.join(' x ') || 'scalar',
    row.rank === null ? row.treatment : `${row.treatment} r=${row.rank}`,
    count(row.trained),
    count(row.of),
    bytes(row.stateBytes),
    row.capture,
    `${row.rule} (${row.why})`,
  ]);
  const widths = head.map((title, i) => Math.max(title.length, ...cells.map(row => row[i]!.length)));
  const isNumber = [false, false, false, true, true, true, false, false];
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...cells.map(line)];
}

function summary(rows: readonly Explained[], inners: Inners): string[] {
  const total = (pick: (row: Explained) => number) => rows.reduce((sum, row) => sum + pick(row), 0);
  const [trained, all, state] = [total(r => r.trained), total(r => r.of), total(r => r.stateBytes)];
  const share = all > 0 ? ((100 * trained) / all).toFixed(1) : '0';
  const lines = [
    '',
    `trained ${count(trained)} of ${count(all)} numbers (${share} %); the optimizer keeps ${bytes(state)}, ` +
      `tf.train.adam on all of them ${bytes(8 * all)}`,
  ];
  if (rows.length === 0) lines.push('no weight seen yet: pass the model, or take a step first');
  for (const {config} of inners.all.filter(inner => inner)) {
    const epsilon = config.config['epsilon'];
    if (epsilon !== 1e-7 && epsilon === backend().epsilon()) {
      lines.push(
        `warning: the ${config.className} has the backend's epsilon ${String(epsilon)}; give it 1e-7`,
      );
      break;
    }
  }
  return lines;
}

const idle = (weights: readonly Variable[], plan: Plan) =>
  weights.length > 0
    ? plan.idleRules(weights).map(rule => `warning: the rule ${rule} matches no weight`)
    : [];

const count = (n: number) => n.toLocaleString('en-US');

function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  return n < 1024 ** 2 ? `${(n / 1024).toFixed(1)} KB` : `${(n / 1024 ** 2).toFixed(2)} MB`;
}
