import type {Tensor} from '@tensorflow/tfjs-core';
import {engine} from '@tensorflow/tfjs-core';
import type {Attributes, Inputs} from './node.js';

/** The gradients of a node's inputs, by key, computed when they are asked for. */
export type InputGradients = Record<string, () => Tensor>;

/** An op as tfjs has recorded it. */
export interface TapeNode {
  readonly kernelName: string;
  inputs: Inputs;
  readonly outputs: readonly Tensor[];
  /** Disposed by tfjs when the pass is over. */
  saved: readonly Tensor[];
  /** Missing where tfjs has none. */
  gradient?: (deltas: readonly Tensor[]) => InputGradients;
}

/** What the engine of tfjs-core offers to those who look in. */
export interface TapeEngine {
  addTapeNode(
    kernelName: string,
    inputs: Inputs,
    outputs: Tensor[],
    gradient: unknown,
    saved: Tensor[],
    attrs?: Attributes,
  ): void;
  runKernel(kernelName: string, inputs: Inputs, attrs?: Attributes): unknown;
  gradients(
    f: () => Tensor,
    xs: Tensor[],
    dy: null,
    allowNoGradients: boolean,
  ): {value: Tensor; grads: (Tensor | null)[]};
  state: {activeTape: TapeNode[] | null; gradientDepth: number};
}

export const tapeEngine = () => engine() as unknown as TapeEngine;

/** Whether this tfjs can be listened to; without it gradients come dense, and all at once. */
export function canTap(): boolean {
  const e = tapeEngine() as Partial<TapeEngine>;
  return (
    [e.addTapeNode, e.runKernel, e.gradients].every(member => typeof member === 'function') &&
    !!e.state &&
    Object.isExtensible(e) &&
    ['addTapeNode', 'runKernel'].every(name => Object.getOwnPropertyDescriptor(e, name)?.configurable ?? true)
  );
}

/** Runs `f` while an object has other methods; they are put back whatever `f` throws, and if one cannot be replaced. */
export function withMethods<T>(target: object, methods: Readonly<Record<string, unknown>>, f: () => T): T {
  const names = Object.keys(methods);
  const own = names.map(name => Object.getOwnPropertyDescriptor(target, name));
  try {
    for (const name of names) {
      Object.defineProperty(target, name, {value: methods[name], configurable: true, writable: true});
    }
    return f();
  } finally {
    names.forEach((name, i) => {
      const descriptor = own[i];
      if (descriptor) Object.defineProperty(target, name, descriptor);
      else Reflect.deleteProperty(target, name);
    });
  }
}
