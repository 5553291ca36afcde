import type {Variable} from '@tensorflow/tfjs-core';
import {Variable as VariableClass} from '@tensorflow/tfjs-core';
import {plainName} from '../targets.js';
import {pathOf} from '../variable-path.js';

/** A layer of tfjs-layers, as far as paths need it: a model is one that has layers. */
export interface LayerLike {
  readonly name: string;
  readonly weights: readonly {readonly name: string; read(): unknown}[];
  readonly layers?: readonly LayerLike[];
}

/** A model of tfjs-layers, variables, or variables by the paths they shall have. */
export type WeightsOf = LayerLike | readonly Variable[] | Readonly<Record<string, Variable>>;

/** What `namedWeights` of named-weights.ts gives, for those who have looked at what they were given. */
export function namedWeights(of: WeightsOf): Map<string, Variable> {
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
  else if (Array.isArray(of)) for (const variable of of as Variable[]) add(pathOf(variable), variable);
  else for (const [path, variable] of Object.entries(of as Record<string, Variable>)) add(path, variable);
  for (const [path, variable] of named) {
    if (variable instanceof VariableClass) continue;
    throw new TypeError(`${path} is no tf.Variable, so nothing can be learned for it or merged into it`);
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
