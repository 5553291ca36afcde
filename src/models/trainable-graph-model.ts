import type {io, NamedTensorMap, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, io as tfio, Tensor as TensorClass, variable} from '@tensorflow/tfjs-core';
import {expectOptions} from '../options.js';
import {describePattern, matcher, type Pattern, type WeightInfo} from '../targets.js';
import {isGone} from '../tensors.js';
import {asynchronous, type Blocked, GradientPaths, needed} from './gradient-path.js';
import {
  exchangeWeights,
  type GraphInternals,
  type GraphModelLike,
  type GraphNode,
  internalsOf,
} from './graph-model.js';
import {isWeight} from './graph-weights.js';
import {mergedArtifacts} from './merged-artifacts.js';

export type {Blocked, GraphModelLike};

export interface TrainableGraphModelOptions {
  /** Which of the weights become variables, by path or node name. Default: all that a gradient can reach. */
  readonly targets?: Pattern;
  /** Constants to make variables besides: scalars, statistics of a batch norm. Default: none. */
  readonly include?: Pattern;
  /** What the loss is made of, by signature key or node name: ops behind it block nothing. Default: the model's outputs. */
  readonly outputs?: readonly string[];
  /** Nodes that `apply` is fed at, where those are not the model's inputs: what lies before is not run. */
  readonly inputs?: readonly string[];
}

/** A GraphModel whose weights are variables for now. */
export interface TrainableGraphModel<M extends GraphModelLike = GraphModelLike> {
  /** The model itself: it always computes with the weights as they are now. */
  readonly model: M;
  /** The weights by paths that come from the names in the graph, e.g. `model/dense/MatMul`. */
  readonly variables: Readonly<Record<string, Variable>>;
  /** The ops that keep weights from being trained, which are therefore left out of `variables`. */
  readonly blocked: readonly Blocked[];
  /** The model's `predict`. */
  predict(inputs: Tensor | Tensor[] | NamedTensorMap): Tensor | Tensor[] | NamedTensorMap;
  /** The one output, for use in a loss. */
  apply(inputs: Tensor | Tensor[] | NamedTensorMap): Tensor;
  /** All outputs in their order, for use in a loss. */
  applyAll(inputs: Tensor | Tensor[] | NamedTensorMap): Tensor[];
  /** Writes the model with the weights as they are now, to be loaded by `tf.loadGraphModel`. */
  save(handlerOrUrl: io.IOHandler | string): Promise<io.SaveResult>;
  /** Makes the model what it was, bit by bit, and disposes the variables. */
  restore(): void;
}

/** One constant of a graph that can be trained. */
interface Candidate extends WeightInfo {
  readonly node: GraphNode;
  readonly isWeight: boolean;
  readonly obstacles: ReadonlyMap<string, {readonly node: GraphNode; readonly why: string}>;
}

const wrapped = new WeakSet<object>();

/**
 * Makes a frozen GraphModel (a SavedModel that was converted) trainable: its constants become variables, in place.
 *
 *     const trainable = trainableGraphModel(await tf.loadGraphModel(url));
 *     const optimizer = loraAdam(1e-3, {rank: 8});
 *     optimizer.minimize(
 *       () => tf.losses.softmaxCrossEntropy(labels, trainable.apply(images)),
 *       false,
 *       Object.values(trainable.variables),
 *     );
 *     await trainable.save('file://tuned');
 *
 * GraphModel has no public way to its weights: this uses private fields of tfjs 4, and says so when they are not there.
 * Variables share the data of the constants until they first move; from then on the constants are kept besides, for
 * `restore`. Disposing the model disposes the variables too.
 *
 * @throws When nothing can be trained, when a pattern matches nothing, or when a weight that was named has an op without
 * gradient between it and the outputs.
 */
export function trainableGraphModel<M extends GraphModelLike>(
  model: M,
  options: TrainableGraphModelOptions = {},
): TrainableGraphModel<M> {
  expectOptions('trainableGraphModel', options, ['targets', 'include', 'outputs', 'inputs']);
  const internals = internalsOf(model);
  if (wrapped.has(model))
    throw new Error('this model is trainable already; restore() the first before making a second');
  const {candidates, outputs, fed} = survey(internals, options);
  const chosen = choose(candidates, options);
  const blocked = blockedBy(candidates.filter(({isWeight}) => isWeight));
  const sources = new Map(chosen.map(({node}) => [node.name, internals.executor.weightMap[node.name]![0]!]));
  const variables = Object.fromEntries(
    chosen.map(({name, node}) => [name, variable(sources.get(node.name)!, true, unusedName(name))]),
  );
  const byNode = new Map(chosen.map(({name, node}) => [node.name, variables[name]!]));
  try {
    exchangeWeights(internals, byNode);
  } catch (error) {
    for (const [name, source] of sources) internals.executor.weightMap[name] = [source];
    dispose(variables);
    throw error;
  }

  let alive = true;
  const restore = () => {
    if (!alive) return;
    alive = false;
    wrapped.delete(model);
    Reflect.deleteProperty(model, 'dispose');
    exchangeWeights(internals, sources);
    for (const each of Object.values(variables)) if (!isGone(each)) each.dispose();
  };
  const expectAlive = () => {
    if (!alive) throw new Error('this trainable model was restored, or its model disposed; make it anew');
    const gone = Object.values(variables).find(isGone);
    if (gone) throw new Error(`${gone.name} was disposed elsewhere; restore() brings the model back`);
  };
  const applyAll = (inputs: Tensor | Tensor[] | NamedTensorMap): Tensor[] => {
    expectAlive();
    return [model.execute(fedAt(fed, inputs), [...outputs])].flat();
  };
  // The variables and the constants they came from go with the model.
  Object.defineProperty(model, 'dispose', {
    configurable: true,
    value: () => {
      restore();
      model.dispose();
    },
  });
  wrapped.add(model);

  return {
    model,
    variables,
    blocked,
    predict(inputs) {
      expectAlive();
      return model.predict(inputs);
    },
    apply(inputs) {
      if (outputs.length !== 1) {
        throw new Error(
          `apply gives one tensor, and the outputs are ${outputs.join(', ')}: name one of them in the option outputs, ` +
            'or call applyAll',
        );
      }
      return applyAll(inputs)[0]!;
    },
    applyAll,
    async save(handlerOrUrl) {
      expectAlive();
      const moved = [...byNode].filter(([name, {dataId}]) => dataId !== sources.get(name)!.dataId);
      const all = () =>
        new Map(Object.entries(internals.executor.weightMap).map(([name, [tensor]]) => [name, tensor!]));
      const artifacts = await mergedArtifacts(internals.artifacts, new Map(moved), all);
      return saverOf(handlerOrUrl)(artifacts);
    },
    restore,
  };
}

/** What the graph has that could be trained, and what stands in the way. */
function survey(
  {executor, signature}: GraphInternals,
  {outputs = executor.outputNodes, inputs = []}: TrainableGraphModelOptions,
): {candidates: Candidate[]; outputs: readonly string[]; fed: readonly string[]} {
  const {nodes} = executor.graph;
  const nodeOf = (option: 'inputs' | 'outputs') => (key: string) => {
    const name = (signature?.[option]?.[key]?.name ?? key).replace(/:.*$/, '');
    if (!nodes[name]) throw new Error(`${option}: the graph has no node ${JSON.stringify(key)}`);
    return name;
  };
  const ends = outputs.map(nodeOf('outputs'));
  const fed = inputs.map(nodeOf('inputs'));
  const starts = new Set(fed);
  const run = needed(nodes, ends, starts);
  const [waiting] = asynchronous(run);
  if (waiting) {
    throw new Error(
      `${waiting.name} is ${waiting.op}, which tfjs runs with executeAsync only, and a gradient cannot wait for it. ` +
        'Name outputs that come before it, or inputs behind it',
    );
  }
  const paths = new GradientPaths(nodes, ends, starts);
  const {weightMap} = executor;
  const isRun = new Set(run);
  const constants = Object.values(nodes).filter(
    node => isRun.has(node) && weightMap[node.name]?.[0]?.dtype === 'float32' && paths.has(node.name),
  );
  const names = pathsOf(constants.map(({name}) => name));
  const candidates = constants.map((node, i) => {
    const {shape} = weightMap[node.name]![0]!;
    return {
      name: names[i]!,
      shape,
      node,
      isWeight: isWeight(node, shape, paths),
      obstacles: paths.obstacles(node.name),
    };
  });
  return {candidates, outputs, fed};
}

/** Inputs by the nodes they are fed at. */
function fedAt(
  fed: readonly string[],
  inputs: Tensor | Tensor[] | NamedTensorMap,
): Tensor | Tensor[] | NamedTensorMap {
  const isList = inputs instanceof TensorClass || Array.isArray(inputs);
  if (fed.length === 0 || !isList) return inputs;
  const list = [inputs].flat() as Tensor[];
  if (list.length !== fed.length) {
    throw new Error(`apply: ${list.length} tensors for the ${fed.length} inputs ${fed.join(', ')}`);
  }
  return Object.fromEntries(fed.map((name, i) => [name, list[i]!]));
}

/** The constants that become variables. */
function choose(
  candidates: readonly Candidate[],
  {targets, include}: TrainableGraphModelOptions,
): readonly Candidate[] {
  const weights = candidates.filter(({isWeight}) => isWeight);
  const named = new Set([
    ...(targets === undefined ? [] : matching('targets', targets, weights)),
    ...(include === undefined ? [] : matching('include', include, candidates)),
  ]);
  const stuck = blockedBy([...named]);
  if (stuck.length > 0)
    throw new Error(`no gradient comes to every weight that was named: ${inWords(stuck)}`);
  const free = weights.filter(({obstacles}) => obstacles.size === 0);
  const chosen = targets === undefined ? [...new Set([...free, ...named])] : [...named];
  if (chosen.length > 0) return chosen;
  const why = weights.length > 0 ? inWords(blockedBy(weights)) : 'no float32 weights lead to the outputs';
  throw new Error(`nothing in this graph can be trained: ${why}`);
}

/** What a pattern means, by path or by the name of the node. Of a list, every name must match something. */
function matching(option: string, pattern: Pattern, among: readonly Candidate[]): Candidate[] {
  const patterns = Array.isArray(pattern) ? (pattern as readonly string[]) : [pattern];
  return patterns.flatMap(each => {
    const matches = matcher(each);
    const found = among.filter(
      ({name, shape, node}) => matches({name, shape}) || matches({name: node.name, shape}),
    );
    if (found.length > 0) return found;
    const seen = among.map(({name, shape}) => `${name} [${shape}]`).join(', ') || 'none';
    throw new Error(`${option}: ${describePattern(each)} matches no weight. The weights seen: ${seen}`);
  });
}

/** The obstacles, with the weights that each is in the way of. */
function blockedBy(candidates: readonly Candidate[]): Blocked[] {
  const found = new Map<string, Blocked & {weights: string[]}>();
  for (const {name, obstacles} of candidates) {
    for (const [at, {node, why}] of obstacles) {
      const entry = found.get(at) ?? {node: at, op: node.op, why, weights: []};
      entry.weights.push(name);
      found.set(at, entry);
    }
  }
  return [...found.values()];
}

const inWords = (blocked: readonly Blocked[]) =>
  blocked
    .map(({node, why, weights}) => `${why} (node ${node}), which is on the way to ${weights.join(', ')}`)
    .join('; ');

/**
 * Node names without what the converter and TensorFlow wrap around them: `StatefulPartitionedCall/model/dense/MatMul/
 * ReadVariableOp` is `model/dense/MatMul`. Where that leaves two alike, both keep all of their names.
 */
function pathsOf(names: readonly string[]): string[] {
  const short = names.map(name =>
    name
      .replace(/^(Stateful)?PartitionedCall(_\d+)?\//, '')
      .replace(/\/(ReadVariableOp|Read|read|resource)(_\d+)?(\/ReadVariableOp(_\d+)?|\/resource)?$/, ''),
  );
  const counts = new Map<string, number>();
  for (const name of short) counts.set(name, (counts.get(name) ?? 0) + 1);
  return short.map((name, i) => (counts.get(name)! > 1 || name === '' ? names[i]! : name));
}

/** A name that no living variable has: tfjs refuses a second. */
function unusedName(name: string): string {
  const {registeredVariables} = engine();
  let unused = name;
  for (let i = 1; registeredVariables[unused]; i++) unused = `${name}_${i}`;
  return unused;
}

function saverOf(handlerOrUrl: io.IOHandler | string): io.SaveHandler {
  const handlers = typeof handlerOrUrl === 'string' ? tfio.getSaveHandlers(handlerOrUrl) : [handlerOrUrl];
  const [handler] = handlers;
  if (handlers.length !== 1 || !handler!.save) {
    throw new Error(
      typeof handlerOrUrl === 'string'
        ? `${handlers.length} handlers can save to ${handlerOrUrl}; one is needed`
        : 'save needs a URL such as file://tuned, or a handler that has save',
    );
  }
  return artifacts => handler!.save!(artifacts);
}
