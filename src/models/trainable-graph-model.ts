import type {io, NamedTensorMap, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, io as tfio, keep, Tensor as TensorClass, variable} from '@tensorflow/tfjs-core';
import {expectOptions} from '../options.js';
import {isGone} from '../tensors.js';
import {givePath} from '../variable-path.js';
import type {Blocked} from './gradient-path.js';
import {choose, survey, type TrainableGraphModelOptions} from './graph-candidates.js';
import {exchangeWeights, type GraphModelLike, internalsOf} from './graph-model.js';
import {mergedArtifacts} from './merged-artifacts.js';

export type {Blocked, GraphModelLike, TrainableGraphModelOptions};

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
  /** Writes the model with the weights as they are at the call, to be loaded by `tf.loadGraphModel`. */
  save(handlerOrUrl: io.IOHandler | string): Promise<io.SaveResult>;
  /** Makes the model what it was, bit by bit, and disposes the variables. */
  restore(): void;
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
  const {weightMap} = internals.executor;
  if (Object.values(weightMap).some(tensors => tensors.some(({isDisposed}) => isDisposed)))
    throw new Error('this model was disposed; load it again');
  const seen = survey(internals, options);
  const {candidates, outputs, fed} = seen;
  const chosen = choose(seen, options);
  const blocked = seen.blockedOf(candidates.filter(({isWeight}) => isWeight));
  const sources = new Map(chosen.map(({node}) => [node.name, internals.executor.weightMap[node.name]![0]!]));
  const variables = Object.fromEntries(
    chosen.map(({name, node}) => [name, variable(sources.get(node.name)!, true, unusedName(name))]),
  );
  for (const [path, each] of Object.entries(variables)) givePath(each, path);
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
      const save = saverOf(handlerOrUrl);
      const moved = [...byNode].filter(([name, {dataId}]) => dataId !== sources.get(name)!.dataId);
      // Handles on the numbers of this moment: training may go on while they are fetched.
      const now = new Map(moved.map(([name, each]) => [name, keep(each.clone())]));
      try {
        const tensorOf = (name: string) => now.get(name) ?? sources.get(name) ?? weightMap[name]![0]!;
        const all = () => new Map(Object.keys(weightMap).map(name => [name, tensorOf(name)]));
        return await save(await mergedArtifacts(internals.artifacts, now, all));
      } finally {
        dispose([...now.values()]);
      }
    },
    restore,
  };
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
  if (handlers.length !== 1 || !handler?.save) {
    throw new Error(
      typeof handlerOrUrl === 'string' && handlerOrUrl.startsWith('file://')
        ? `nothing here can save to ${handlerOrUrl}: under Node give nodeFiles('${handlerOrUrl.slice(7)}') of ` +
            'tfjs-lora/adapter, or import @tensorflow/tfjs-node'
        : typeof handlerOrUrl === 'string'
          ? `${handlers.length} handlers can save to ${handlerOrUrl}; one is needed`
          : "save needs an address such as 'downloads://tuned', or a handler that has save",
    );
  }
  return artifacts => handler.save!(artifacts);
}
