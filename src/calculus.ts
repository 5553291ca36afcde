import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, grads, reshape, sub} from '@tensorflow/tfjs-core';
import type {
  Additive,
  BasedState,
  Composed,
  Gradient,
  Parametrization,
  State,
  Tangent,
} from './parametrization.js';

/** A state as the library holds it: the base is there when the parametrization needs it. */
export type HeldState = State & {readonly base?: Tensor2D};

/** Whether W is a function of the base that a difference of deltas cannot express. */
export function isComposed(p: Parametrization): p is Composed {
  return 'compose' in p;
}

/** `Phi(state)` up to the base: `delta` where W = W0 + delta, else the whole weight. `[m, n]`. */
export function phi(p: Parametrization, state: HeldState): Tensor {
  return isComposed(p) ? p.compose(based(p, state)) : p.delta(state);
}

/** The weight itself, `[m, n]`, from the base it started at. */
export function weightAt(p: Parametrization, state: State & {readonly base: Tensor2D}): Tensor {
  return isComposed(p) ? p.compose(state) : add(state.base, (p as Additive).delta(state));
}

/** DPhi* G: the gradient of every factor. By hand where the parametrization has it, else automatic. */
export function pullback(p: Parametrization, state: HeldState, gradient: Gradient): Record<string, Tensor> {
  if (!p.pullback) return automaticPullback(p, state, gradient);
  return isComposed(p) ? p.pullback!(based(p, state), gradient) : p.pullback(state, gradient);
}

/** DPhi* G by reverse-mode differentiation of Phi on the dense gradient. */
export function automaticPullback(
  p: Parametrization,
  state: HeldState,
  gradient: Gradient,
): Record<string, Tensor> {
  const names = Object.keys(state.factors);
  const [m, n] = gradient.shape;
  const ofFactors = (...values: Tensor[]) =>
    reshape(phi(p, {...state, factors: Object.fromEntries(names.map((k, i) => [k, values[i]!]))}), [m, n]);
  // Handles of their own: a frozen part may be the very tensor a factor starts at, and is a constant all the same.
  const values = names.map(k => state.factors[k]!.clone());
  const results = grads(ofFactors)(values, gradient.dense());
  return Object.fromEntries(names.map((k, i) => [k, results[i]!]));
}

/** Phi(next) - Phi(state), `[m, n]`: the change of W when the factors move. */
export function lift(p: Parametrization, state: HeldState, next: HeldState): Tensor {
  if (!p.lift) return sub(phi(p, next), phi(p, state));
  return isComposed(p) ? p.lift!(based(p, state), based(p, next)) : p.lift(state, next);
}

/** The image of DPhi, where the parametrization knows it. */
export function tangentOf(p: Parametrization, state: HeldState): Tangent | null {
  if (!p.tangent) return null;
  return isComposed(p) ? p.tangent!(based(p, state)) : p.tangent(state);
}

function based(p: Parametrization, state: HeldState): BasedState {
  if (!state.base) throw new Error(`${p.name}: compose needs the base, and the state has none`);
  return state as BasedState;
}
