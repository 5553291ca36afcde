import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  addN,
  dispose,
  engine,
  getBackend,
  getKernel,
  keep,
  ones,
  profile,
  setBackend,
  square,
  sum,
  tidy,
  zeros,
} from '@tensorflow/tfjs-core';
import {canTap, denseGradients, tapGradients} from '../capture/tape.js';
import type {Gradient} from '../capture/gradient.js';
import type {Explained, Printer} from '../explain.js';
import {expectNumber, expectOptions} from '../options.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {loraAdam} from '../sugar.js';

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

/** What `tfjs-lora/wasm` brings. */
const WASM_KERNELS =
  /UnsortedSegmentSum|Conv2DBackpropFilter|DepthwiseConv2dNativeBackprop|Einsum|MaxPoolGrad|Conv2DBackpropInput/;

const UNUSED = 'the loss does not depend on it, so it gets no gradient';

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
    if (options.backend !== undefined) await take(options.backend);
    return await auditHere(model, options, options.optimizer ?? own!);
  } finally {
    own?.dispose();
    // Also where it has the same name: a backend that did not start leaves none.
    await setBackend(before);
  }
}

function expectAuditable(model: unknown): void {
  const {loss, variables, weights, inputs, apply, executor, applyAll} = (model ?? {}) as Record<
    string,
    unknown
  >;
  if (typeof loss === 'function' && Array.isArray(variables)) return;
  if (Array.isArray(weights) && Array.isArray(inputs) && typeof apply === 'function') return;
  const isGraph = executor !== undefined || typeof applyAll === 'function';
  throw new TypeError(
    isGraph
      ? 'audit: of a GraphModel it takes {loss: () => lossOf(trainable.apply(batch)), variables: ' +
          'Object.values(trainable.variables)}, where trainable = trainableGraphModel(model)'
      : 'audit takes a model of tfjs-layers, or {loss: () => a scalar, variables: [tf.Variable, …]}',
  );
}

async function auditHere(
  model: AuditedModel | AuditedLoss,
  options: AuditOptions,
  optimizer: ProjectedOptimizer,
): Promise<Audit> {
  const {batchSize = 32, openAxis = 16, print = console.log} = options;
  const isLoss = 'loss' in model;
  const weights = isLoss ? [...model.variables] : model.weights.map(weight => weight.read() as Variable);
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

/** Statistics move in a pass that trains; this puts them back. */
function holdStill(variables: readonly Variable[]): () => void {
  const kept = variables.map(variable => tidy(() => variable.clone()));
  return () => {
    variables.forEach((variable, i) => variable.assign(kept[i]!));
    dispose(kept);
  };
}

/** A layer as far as its states go: those of a stateful RNN move with every pass. */
interface Stateful {
  states_?: (Tensor | null)[] | null;
  keptStates?: Tensor[][];
  readonly layers?: readonly Stateful[];
  readonly layer?: Stateful;
  readonly forwardLayer?: Stateful;
  readonly backwardLayer?: Stateful;
}

/** Keeps the states of recurrent layers, and gives back what puts them in place and disposes those that came since. */
function holdStates(model: unknown): () => void {
  const found: Stateful[] = [];
  const walk = (layer: Stateful) => {
    if (layer.states_ !== undefined) found.push(layer);
    const {layers = [], layer: inner, forwardLayer, backwardLayer} = layer;
    for (const each of [...layers, inner, forwardLayer, backwardLayer]) if (each) walk(each);
  };
  walk(model as Stateful);
  const undos = found.map(layer => {
    // tfjs writes into the list it has.
    const states = layer.states_?.slice();
    const before = new Set<unknown>([...(states ?? []), ...(layer.keptStates ?? []).flat()]);
    const kept = states?.map(state => state && keep(state.clone()));
    const count = layer.keptStates?.length ?? 0;
    return () => {
      const since = [...(layer.states_ ?? []), ...(layer.keptStates ?? []).flat()].filter(
        state => state && !before.has(state) && !state.isDisposed,
      ) as Tensor[];
      dispose(since);
      layer.keptStates?.splice(count);
      if (!states) {
        layer.states_ = null;
        return;
      }
      layer.states_ = states.map((state, i) => {
        if (state?.isDisposed) return kept![i]!;
        kept![i]?.dispose();
        return state;
      });
    };
  });
  return () => undos.forEach(undo => undo());
}

function forwards(loss: () => Scalar): void {
  try {
    dispose(tidy(loss));
  } catch (error) {
    throw new Error(`audit: the model fails already forwards: ${reason(error as Error)}`);
  }
}

/** One pass backwards, each gradient used as a step would use it. How each came, by weight. */
function probe(
  loss: () => Scalar,
  weights: readonly Variable[],
  rankOf: (weight: Variable) => number | null,
): Map<Variable, string> {
  const seen = new Map<Variable, string>();
  if (weights.length === 0) return seen;
  const listen = canTap() ? tapGradients : denseGradients;
  const value = listen(loss, weights, (weight, gradient, how) => {
    tidy(() => use(gradient, rankOf(weight)));
    seen.set(weight, rankOf(weight) === null ? `${how.path}: trained as it is` : `${how.path}: ${how.why}`);
  });
  value.dispose();
  return seen;
}

function use(gradient: Gradient, rank: number | null): void {
  const [m, n] = gradient.shape;
  if (rank === null) {
    gradient.dense();
    return;
  }
  gradient.leftMul(ones([m, rank]));
  gradient.rightMul(ones([n, rank]));
}

async function peakOf(
  loss: () => Scalar,
  weights: readonly Variable[],
  rankOf: (weight: Variable) => number | null,
): Promise<{peak: number; kernels: readonly string[]}> {
  const {numBytes} = engine().memory();
  const {peakBytes, kernelNames} = await profile(() => {
    probe(loss, weights, rankOf);
    return [];
  });
  return {peak: Math.max(0, peakBytes - numBytes), kernels: kernelNames};
}

function trial<T>(f: () => T): T | Error {
  engine().startScope();
  try {
    return f();
  } catch (error) {
    return error as Error;
  } finally {
    engine().endScope();
  }
}

function reason({message}: Error): string {
  const kernel = /Kernel '(\w+)' not registered/.exec(message)?.[1];
  if (kernel !== undefined) {
    const isOurs = getBackend() === 'wasm' && WASM_KERNELS.test(kernel);
    const help = isOurs ? 'import "tfjs-lora/wasm", which brings it' : 'take another backend';
    return `the ${getBackend()} backend has no ${kernel}: ${help}`;
  }
  const op = /gradient function not found for (\w+)/.exec(message)?.[1];
  if (op !== undefined) return `tfjs has no gradient for ${op}: freeze the weights before it`;
  return /connected to the loss/.test(message) ? UNUSED : message.split('\n')[0]!;
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

function* linesOf({backend, weights, bytes, warnings}: Audit, batchSize: number | null): Iterable<string> {
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

const megabytes = (bytes: number): string =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
