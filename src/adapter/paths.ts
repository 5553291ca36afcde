import type {Variable} from '@tensorflow/tfjs-core';
import {Variable as VariableClass} from '@tensorflow/tfjs-core';
import {plainName} from '../targets.js';
import {expectWeights} from './expect.js';
import {given} from './given.js';
import {visible} from './untrusted.js';

/** A layer of tfjs-layers, as far as paths need it: a model is one that has layers. */
export interface LayerLike {
  readonly name: string;
  readonly weights: readonly {readonly name: string; read(): unknown}[];
  readonly layers?: readonly LayerLike[];
}

/** A model of tfjs-layers, variables, or variables by the paths they shall have. */
export type WeightsOf = LayerLike | readonly Variable[] | Readonly<Record<string, Variable>>;

/**
 * The weights of a model by paths that stay when the model is saved and loaded again, which the names of variables do
 * not: tfjs appends `_1` to those. A path is the names of the layers on the way and the weight's own, for instance
 * `encoder/dense_1/kernel`. A weight that several layers share has the path of the first. Two weights of one name are
 * told apart as `kernel` and `kernel#2`, in the model's order.
 *
 * Variables without a model go by their names, without the `_1`.
 */
export function namedWeights(of: WeightsOf): Map<string, Variable> {
  expectWeights('namedWeights', of);
  const named = new Map<string, Variable>();
  const seen = new Set<Variable>();
  const add = (path: string, variable: Variable) => {
    if (seen.has(variable)) return;
    seen.add(variable);
    let unique = path;
    for (let i = 2; named.has(unique); i++) unique = `${path}#${i}`;
    named.set(unique, variable);
  };
  const walk = (layer: LayerLike, prefix: string) => {
    for (const inner of layer.layers ?? []) walk(inner, inner.layers ? `${prefix}${inner.name}/` : prefix);
    for (const weight of layer.weights) {
      const {originalName} = weight as {originalName?: string};
      const name = originalName ?? plainName(weight.name);
      const isPrefixed = layer.layers !== undefined || name.startsWith(`${layer.name}/`);
      add(prefix + (isPrefixed ? name : `${layer.name}/${name}`), weight.read() as Variable);
    }
  };
  if (isModel(of)) walk(of, '');
  else if (Array.isArray(of))
    for (const variable of of as Variable[]) add(plainName(variable.name), variable);
  else for (const [path, variable] of Object.entries(of as Record<string, Variable>)) add(path, variable);
  for (const [path, variable] of named) {
    if (variable instanceof VariableClass) continue;
    const what = `${path} is no tf.Variable but ${given(variable).words}`;
    throw new TypeError(visible(`${what}, so nothing can be learned for it or merged into it`));
  }
  return named;
}

/** The weights that are to be trained: `layer.trainable` says so for those of a model, whatever its variables say. */
export function trainableOf(of: WeightsOf): Set<Variable> {
  if (!isModel(of)) return new Set(Object.values(of).filter(({trainable}) => trainable));
  const weights = (of as {trainableWeights?: LayerLike['weights']}).trainableWeights ?? of.weights;
  return new Set(weights.map(weight => weight.read() as Variable).filter(({trainable}) => trainable));
}

export function isModel(of: WeightsOf): of is LayerLike {
  return 'weights' in of && Array.isArray(of.weights) && typeof (of as LayerLike).name === 'string';
}
