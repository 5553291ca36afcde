/** The weights of a model on disk, without its code: layers of one's own need not be known to merge into them. */
import {dispose, io, type Tensor, type Variable, variable} from '@tensorflow/tfjs-core';
import type {Adapter} from '../adapter/adapter.js';

/** Every weight of the files as a tensor, by the name it has there; quantized ones as the numbers they stand for. */
export function tensorsOf({weightData, weightSpecs = []}: io.ModelArtifacts): Record<string, Tensor> {
  return io.decodeWeights(weightData ?? new ArrayBuffer(0), weightSpecs);
}

/** The weights of the files as variables, for `mergeAdapter`. */
export interface ModelWeights {
  /** Those an adapter can be for, by the path it calls them where it calls them otherwise. */
  readonly variables: Readonly<Record<string, Variable>>;
  /** The name in the files of each of them. */
  readonly names: ReadonlyMap<Variable, string>;
  dispose(): void;
}

/**
 * The files name a weight without the models around it (`dense/kernel` of `head/dense/kernel`), and a GraphModel with the
 * op that reads it (`head/dense/kernel/ReadVariableOp`): where just one weight of the right shape is meant, the
 * adapter's path is taken for it.
 */
export function modelWeights(artifacts: io.ModelArtifacts, adapter: Adapter): ModelWeights {
  const tensors = tensorsOf(artifacts);
  const names = new Map<Variable, string>();
  const variables: Record<string, Variable> = {};
  const pathOf = new Map<string, string>();
  for (const {path, shape} of adapter.weights) {
    if (path in tensors) continue;
    const meant = Object.entries(tensors).filter(
      ([name, tensor]) =>
        String(tensor.shape) === String(shape) &&
        (path.endsWith(`/${name}`) || name.startsWith(`${path}/`) || name.includes(`/${path}/`)),
    );
    if (meant.length === 1 && !pathOf.has(meant[0]![0])) pathOf.set(meant[0]![0], path);
  }
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor.dtype !== 'float32') continue;
    const made = variable(tensor);
    variables[pathOf.get(name) ?? name] = made;
    names.set(made, name);
  }
  dispose(tensors);
  return {variables, names, dispose: () => dispose([...names.keys()])};
}
