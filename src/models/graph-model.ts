import type {io, NamedTensorMap, Tensor} from '@tensorflow/tfjs-core';
import {Tensor as TensorClass, version_core} from '@tensorflow/tfjs-core';

/** What `tf.loadGraphModel` gives, as far as it is public. */
export interface GraphModelLike {
  predict(inputs: Tensor | Tensor[] | NamedTensorMap): Tensor | Tensor[] | NamedTensorMap;
  execute(inputs: Tensor | Tensor[] | NamedTensorMap, outputs?: string | string[]): Tensor | Tensor[];
  dispose(): void;
}

/** Which inputs of a node a parameter is. */
interface InputParam {
  readonly type: string;
  readonly inputIndexStart?: number;
  readonly inputIndexEnd?: number;
}

/** A node of the graph, as the converter reads it. */
export interface GraphNode {
  readonly name: string;
  readonly op: string;
  /** The file of the converter that runs it: 'matrices', 'control', 'custom'. */
  readonly category?: string;
  readonly inputs: readonly (GraphNode | undefined)[];
  readonly inputNames: readonly string[];
  readonly inputParams: Readonly<Record<string, InputParam>>;
  readonly attrParams: Readonly<Record<string, {readonly value?: unknown}>>;
}

export type WeightMap = Record<string, Tensor[]>;

interface Executor {
  /** Set anew, it also tells the executor which tensors it must not dispose. */
  weightMap: WeightMap;
  readonly weightIds: readonly number[];
  readonly graph: {readonly nodes: Readonly<Record<string, GraphNode>>};
  /** Signature keys, or names of nodes. */
  readonly outputNodes: readonly string[];
}

/** The names of nodes, with the number of the output, by signature key. */
type Keys = Readonly<Record<string, {readonly name: string}>>;

/** The private side of a GraphModel of @tensorflow/tfjs-converter 4. */
export interface GraphInternals extends GraphModelLike {
  readonly executor: Executor;
  /** Runs once, for hash tables; shares the weights. */
  readonly initializer?: {weightMap: WeightMap};
  readonly artifacts: io.ModelArtifacts;
  readonly signature?: {readonly inputs?: Keys; readonly outputs?: Keys};
}

/** The internals of a GraphModel; throws where they are not what this package knows. */
export function internalsOf(model: GraphModelLike): GraphInternals {
  const {executor, artifacts, layers} = (model ?? {}) as Partial<GraphInternals> & {layers?: unknown};
  if (Array.isArray(layers)) {
    throw new TypeError(
      'trainableGraphModel is for models of tf.loadGraphModel; a LayersModel can be compiled with the optimizer as it is',
    );
  }
  if (!executor && typeof model?.execute === 'function') throw unknown('model.executor');
  if (!executor)
    throw new TypeError(`trainableGraphModel needs a model of tf.loadGraphModel, not ${String(model)}`);
  const {weightMap, graph, outputNodes, weightIds} = executor;
  if (!weightMap || !Object.values(weightMap).every(isTensors)) throw unknown('executor.weightMap');
  if (!Array.isArray(weightIds)) throw unknown('executor.weightIds');
  if (!graph?.nodes || !Object.values(graph.nodes).every(isNode)) throw unknown('executor.graph.nodes');
  if (!Array.isArray(outputNodes)) throw unknown('executor.outputNodes');
  if (!artifacts || typeof artifacts !== 'object') throw unknown('model.artifacts');
  return model as GraphInternals;
}

/** Puts other tensors in the place of constants. The map stays the same object: an initializer shares it. */
export function exchangeWeights(
  {executor, initializer}: GraphInternals,
  tensors: ReadonlyMap<string, Tensor>,
): void {
  const {weightMap} = executor;
  for (const [name, tensor] of tensors) weightMap[name] = [tensor];
  executor.weightMap = weightMap;
  if (initializer?.weightMap === weightMap) initializer.weightMap = weightMap;
  for (const [name, {id}] of tensors) {
    if (executor.weightMap[name]?.[0]?.id !== id || !executor.weightIds.includes(id)) {
      throw unknown('executor.weightMap, which does not take other tensors');
    }
  }
}

const isTensors = (tensors: unknown) =>
  Array.isArray(tensors) && tensors.every(tensor => tensor instanceof TensorClass);

const isNode = (node: Partial<GraphNode> | undefined) =>
  typeof node?.op === 'string' &&
  Array.isArray(node.inputs) &&
  Array.isArray(node.inputNames) &&
  !!node.inputParams &&
  !!node.attrParams;

const unknown = (what: string) =>
  new Error(
    `this GraphModel is built otherwise than the one of tfjs 4.22 that trainableGraphModel knows: ${what}. ` +
      `The tfjs-core here is ${version_core}. GraphModel has no public way to its weights, so nothing was changed.`,
  );
