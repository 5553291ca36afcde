import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {addN, engine, getBackend, getKernel, setBackend, square, sum, zeros} from '@tensorflow/tfjs-core';
import type {Explained, Printer} from '../explain.js';
import {expectNumber, expectOptions} from '../options.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {loraAdam} from '../sugar.js';
import {type Audit, type AuditedWeight, linesOf, megabytes} from './audit-lines.js';
import {forwards, peakOf, probe, reason, trial, UNUSED} from './audit-pass.js';
import {holdStates, holdStill} from './audit-states.js';

export type {Audit, AuditedWeight};

/** A model of tfjs-layers, as far as the audit needs it. */
export interface AuditedModel {
  readonly inputs: readonly {readonly name: string; readonly shape: readonly (number | null)[]}[];
  readonly weights: readonly {read(): unknown}[];
  apply(inputs: never, options?: never): unknown;
}

/** Any other model: what it is trained on, and its weights. */
export interface AuditedLoss {
  /** The loss of a typical batch. */
  readonly loss: () => Scalar;
  readonly variables: readonly Variable[];
}

export interface AuditOptions {
  /** A registered backend to look at; the one in use is taken up again afterwards. Default: the one in use. */
  readonly backend?: string;
  /** What the model would be trained with; untouched. Default: `loraAdam(1e-3, {rank: 8})`. */
  readonly optimizer?: ProjectedOptimizer;
  /** Examples in a batch of the planned run, for the estimate of bytes. Default 32. */
  readonly batchSize?: number;
  /** Sizes for the axes that a model of tfjs-layers leaves open besides the batch, such as steps in time. Default 16. */
  readonly openAxis?: number;
  /** Where lines go; null prints nothing. Default `console.log`. */
  readonly print?: Printer | null;
}

/** Temporaries of a step of Adam, in factors: 16 to 25 measured, up to 30 with clipNorm and accumulate. */
const STEP = 25;

const WASM_LIMIT = 4 * 1024 ** 3;

/**
 * Finds out what of a model can be trained on a backend, what cannot and why, and what it would cost, before a long run
 * starts: runs a pass forwards and backwards with one example of zeros, through the very code that training uses. The
 * model and the optimizer are as before.
 *
 *     await audit(model, 'wasm')
 *     await audit({loss: () => lossOf(batch), variables}, {optimizer, batchSize: 64})
 *
 * @throws Error for a backend that is not registered or does not start, and for a model that fails already forwards
 */
export async function audit(
  model: AuditedModel | AuditedLoss,
  given: string | AuditOptions = {},
): Promise<Audit> {
  const options: AuditOptions = typeof given === 'string' ? {backend: given} : given;
  expectOptions('audit', options, ['backend', 'optimizer', 'batchSize', 'openAxis', 'print']);
  const {batchSize = 32, openAxis = 16} = options;
  for (const [name, value] of Object.entries({batchSize, openAxis})) {
    expectNumber(`audit: ${name}`, value, 'a whole number of at least 1', n => Number.isInteger(n) && n >= 1);
  }
  expectAuditable(model);
  if (options.optimizer && typeof options.optimizer.explain !== 'function') {
    throw new TypeError(
      'audit: the optimizer must be one of tfjs-lora, e.g. loraAdam(1e-3) or projected(tf.train.adam(1e-3), lora())',
    );
  }
  const before = getBackend();
  const own = options.optimizer ? null : loraAdam(1e-3, {rank: 8});
  try {
    if (options.backend !== undefined && options.backend !== before) {
      // The next backend fetches them at once, which webgpu can do only for what it has been asked for before.
      await Promise.all(weightsOf(model).map(weight => weight.data()));
      await take(options.backend);
    }
    return await auditHere(model, options, options.optimizer ?? own!);
  } finally {
    own?.dispose();
    // Also where it has the same name: a backend that did not start leaves none.
    await setBackend(before);
  }
}

function expectAuditable(model: unknown): void {
  if (isLossOf(model)) return;
  const {weights, inputs, apply, executor, applyAll} = (model ?? {}) as Record<string, unknown>;
  if (Array.isArray(weights) && Array.isArray(inputs) && typeof apply === 'function') return;
  const isGraph = executor !== undefined || typeof applyAll === 'function';
  throw new TypeError(
    isGraph
      ? 'audit: of a GraphModel it takes {loss: () => lossOf(trainable.apply(batch)), variables: ' +
          'Object.values(trainable.variables)}, where trainable = trainableGraphModel(model)'
      : 'audit takes a model of tfjs-layers, or {loss: () => a scalar, variables: [tf.Variable, …]}',
  );
}

/** A model that was compiled has a `loss` too. */
function isLossOf(model: unknown): model is AuditedLoss {
  const {loss, variables} = (model ?? {}) as Record<string, unknown>;
  return typeof loss === 'function' && Array.isArray(variables);
}

const weightsOf = (model: AuditedModel | AuditedLoss): Variable[] =>
  isLossOf(model) ? [...model.variables] : model.weights.map(weight => weight.read() as Variable);

async function auditHere(
  model: AuditedModel | AuditedLoss,
  options: AuditOptions,
  optimizer: ProjectedOptimizer,
): Promise<Audit> {
  const {batchSize = 32, openAxis = 16, print = console.log} = options;
  const isLoss = isLossOf(model);
  const weights = weightsOf(model);
  const rows = optimizer.explain(weights, null);
  const trained = weights.filter((_, i) => rows[i]!.treatment !== 'freeze');
  const loss = (count: number) => (isLoss ? model.loss : lossOf(model, count, openAxis));
  const undo = holdStill(isLoss ? [] : weights.filter(weight => !weight.trainable));
  const undoStates = isLoss ? () => {} : holdStates(model);
  try {
    const problems = new Map<Variable, string>();
    forwards(loss(1));
    const rankOf = (weight: Variable) => rows[weights.indexOf(weight)]!.rank;
    const attempt = (some: readonly Variable[]) => probe(loss(1), some, rankOf);
    let seen = trial(() => attempt(trained));
    if (seen instanceof Error) {
      // One weight at a time tells which.
      const all = new Map<Variable, string>();
      for (const weight of trained) {
        const one = trial(() => attempt([weight]));
        if (one instanceof Error) problems.set(weight, reason(one));
        else one.forEach((how, w) => all.set(w, how));
      }
      seen = all;
    }
    const found = seen;
    const audited = rows.map((row, i): AuditedWeight => {
      const weight = weights[i]!;
      if (row.treatment === 'freeze') return {...row, trains: false, problem: null};
      const problem = problems.get(weight) ?? (found.has(weight) ? null : UNUSED);
      return {...row, capture: found.get(weight) ?? row.capture, trains: problem === null, problem};
    });
    const usable = weights.filter((_, i) => audited[i]!.trains);
    const one = await peakOf(loss(1), usable, rankOf);
    const two = isLoss ? one : await peakOf(loss(2), usable, rankOf);
    const pass = Math.max(one.peak, two.peak + (two.peak - one.peak) * (batchSize - 2));
    const sumOf = (pick: (row: AuditedWeight) => number) =>
      audited.reduce((total, row) => total + pick(row), 0);
    const bytes = {
      model: sumOf(row => 4 * row.of),
      state: sumOf(row => row.stateBytes),
      factors: sumOf(row => 4 * row.trained),
      pass,
      step: STEP * sumOf(row => 4 * row.trained),
    };
    const result: Audit = {
      backend: getBackend(),
      weights: audited,
      trains: audited.every(({problem}) => problem === null) && usable.length > 0,
      bytes,
      warnings: [...(usable.length === 0 ? [nothing(rows)] : []), ...warningsOf(weights, bytes, one.kernels)],
    };
    if (print) for (const line of linesOf(result, isLoss ? null : batchSize)) print(line);
    return result;
  } finally {
    undo();
    undoStates();
  }
}

async function take(name: string): Promise<void> {
  const known = Object.keys(engine().registryFactory);
  if (!known.includes(name)) {
    throw new Error(
      `audit: no backend '${name}' is registered; there is ${known.join(', ') || 'none'}. Import its package first, ` +
        `e.g. @tensorflow/tfjs-backend-${name}`,
    );
  }
  if ((await setBackend(name)) && getBackend() === name) return;
  throw new Error(`audit: the backend '${name}' is registered, and does not start here`);
}

/** A loss that depends on every output, for a batch of zeros. */
function lossOf(model: AuditedModel, batch: number, openAxis: number): () => Scalar {
  return () => {
    const inputs = model.inputs.map(({shape}) =>
      zeros(shape.map((axis, i) => axis ?? (i === 0 ? batch : openAxis))),
    );
    const given = (inputs.length === 1 ? inputs[0]! : inputs) as never;
    const outputs = model.apply(given, {training: true} as never) as Tensor | Tensor[];
    // Numbers that are counted, such as argMax, have no gradient.
    const all = [outputs].flat().filter(({dtype}) => dtype === 'float32');
    if (all.length === 0) throw new Error('none of its outputs is float32');
    return addN(all.map(output => sum(square(output)) as Scalar));
  };
}

/** Why nothing would be trained. */
const nothing = (rows: readonly Explained[]): string => {
  const [row] = rows;
  return `nothing would be trained: ${row ? `${row.name} is frozen (${row.why})` : 'there are no weights'}; lower the rank, name targets, or set rest: 'train'`;
};

function warningsOf(
  weights: readonly Variable[],
  bytes: Audit['bytes'],
  kernels: readonly string[],
): string[] {
  const warnings: string[] = [];
  const total = bytes.model + bytes.state + Math.max(bytes.pass, bytes.step);
  if (getBackend() === 'wasm' && total > 0.8 * WASM_LIMIT) {
    warnings.push(`about ${megabytes(total)} in all, and wasm has 4 GiB: take a smaller batch`);
  }
  if (getBackend() === 'cpu') warnings.push('the cpu backend is slow; wasm runs everywhere and is faster');
  const isStock = getBackend() === 'wasm' && !getKernel('UnsortedSegmentSum', 'wasm');
  if (isStock && kernels.includes('MaxPoolGrad')) {
    warnings.push(
      'wasm\'s own gradient of max pooling is wrong where a window has no positive number: import "tfjs-lora/wasm"',
    );
  }
  if (weights.some(({name}) => /moving_(mean|variance)/.test(name))) {
    warnings.push(
      'tfjs moves the statistics of BatchNormalization in training, also of frozen layers: freezeBatchNorm(model)',
    );
  }
  return warnings;
}
