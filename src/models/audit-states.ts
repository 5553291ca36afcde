import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, keep, tidy} from '@tensorflow/tfjs-core';

/** Statistics move in a pass that trains; this puts them back. */
export function holdStill(variables: readonly Variable[]): () => void {
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
export function holdStates(model: unknown): () => void {
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
