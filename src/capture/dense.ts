import type {Optimizer, Tensor, Variable} from '@tensorflow/tfjs-core';
import {engine} from '@tensorflow/tfjs-core';
import {describe} from '../attachment.js';
import type {Plan} from '../targets.js';

/** Gradients as tfjs hands them to an optimizer: by name, or a list that may hold nulls. */
export type HostGradients = Parameters<Optimizer['applyGradients']>[0];

/** Gradients that tfjs has formed, by the weight they belong to. */
export type DenseGradients = ReadonlyMap<Variable, Tensor>;

/** The variables that tfjs's gradients name, in their order; null gradients included. */
export function variablesOf(gradients: HostGradients): Variable[] {
  const names = Array.isArray(gradients) ? gradients.map(({name}) => name) : Object.keys(gradients);
  return names.map(name => {
    const found = engine().registeredVariables[name];
    if (found) return found;
    throw new Error(`applyGradients: there is no variable called ${name}; was it disposed?`);
  });
}

/** The gradients of the weights that are trained. Throws when one cannot be its weight's. */
export function trainedGradients(gradients: HostGradients, plan: Plan): DenseGradients {
  const tensors: readonly (Tensor | null | undefined)[] = Array.isArray(gradients)
    ? gradients.map(({tensor}) => tensor)
    : Object.values(gradients);
  const found = new Map<Variable, Tensor>();
  variablesOf(gradients).forEach((weight, i) => {
    const gradient = tensors[i];
    if (!gradient || !plan.trains(weight)) return;
    if (found.has(weight)) throw new Error(`applyGradients: two gradients for ${describe(weight)}`);
    if (String(gradient.shape) !== String(weight.shape)) {
      throw new Error(
        `applyGradients: the gradient of ${describe(weight)} has the shape [${gradient.shape}]`,
      );
    }
    found.set(weight, gradient);
  });
  return found;
}
