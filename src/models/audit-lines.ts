import type {Explained} from '../explain.js';

/** One weight: what would happen to it, and whether it can happen here. */
export interface AuditedWeight extends Explained {
  /** Whether it will be trained here; false also where it is frozen. */
  readonly trains: boolean;
  /** Why it is to be trained and cannot be here, and what helps; null otherwise. */
  readonly problem: string | null;
}

export interface Audit {
  readonly backend: string;
  readonly weights: readonly AuditedWeight[];
  /** Whether everything that is to be trained can be. */
  readonly trains: boolean;
  readonly bytes: {
    /** All weights of the model. */
    readonly model: number;
    /** What the optimizer keeps between steps. */
    readonly state: number;
    /** The factors alone: what an adapter file holds, with a few hundred bytes for each weight. */
    readonly factors: number;
    /** What one pass takes at its peak besides all that, for the batch size asked: measured with 1 and 2 examples. */
    readonly pass: number;
    /** What the optimizer's step after it takes at its peak besides: 25 times the factors, see docs/audit.md. */
    readonly step: number;
  };
  /** What is worth knowing before a long run starts. */
  readonly warnings: readonly string[];
}

/** The table that is printed, a line at a time. */
export function* linesOf(
  {backend, weights, bytes, warnings}: Audit,
  batchSize: number | null,
): Iterable<string> {
  const width = Math.max(...weights.map(({name}) => name.length), 6);
  for (const {name, shape, treatment, rank, problem, trains, capture} of weights) {
    const what = rank === null ? treatment : `${treatment} r=${rank}`;
    const verdict = problem !== null ? `CANNOT: ${problem}` : trains ? capture : 'frozen';
    yield `${name.padEnd(width)}  [${shape}]  ${what}  ${verdict}`;
  }
  const batch = batchSize === null ? 'the batch given' : `a batch of ${batchSize}`;
  const failing = weights.filter(({problem}) => problem !== null).length;
  yield '';
  if (weights.every(({treatment}) => treatment === 'freeze')) yield `on ${backend}: nothing is to be trained`;
  else
    yield `on ${backend}: ${failing === 0 ? 'everything that is to be trained can be' : `${failing === 1 ? 'one weight' : `${failing} weights`} cannot be trained`}`;
  yield (
    `weights ${megabytes(bytes.model)}, optimizer ${megabytes(bytes.state)}, factors ${megabytes(bytes.factors)}, ` +
    `a pass about ${megabytes(bytes.pass)} more for ${batch}, a step up to ${megabytes(bytes.step)}`
  );
  for (const warning of warnings) yield `warning: ${warning}`;
}

export const megabytes = (bytes: number): string =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
