import type {Tensor} from '@tensorflow/tfjs-core';
import type {Term} from './factored.js';
import type {Gradient} from './gradient.js';

export type Attributes = Readonly<Record<string, unknown>>;
export type Inputs = Readonly<Record<string, Tensor>>;

/** An op on the tape that consumes a weight. */
export interface ConsumingNode {
  /** Under which input the weight, or a view of it, came in. */
  readonly key: string;
  readonly inputs: Inputs;
  /** What the tape keeps for the backward pass, in the order of tfjs's own gradient function; to be read then. */
  readonly saved: readonly Tensor[];
  readonly attrs: Attributes;
  /** Whether the view is the transpose of the weight, or of a part of it. */
  readonly transposed: boolean;
  /** The weight as a matrix, or the part of it in view. */
  readonly shape: readonly [m: number, n: number];
}

/** A part of a weight's gradient, as an operator on tensors that may have to be kept until all parts are there. */
export interface Part {
  readonly tensors: readonly Tensor[];
  /** A term `x^T delta` where it is one, so that several can be multiplied at once. */
  readonly term?: (tensors: readonly Tensor[]) => Term;
  readonly gradient: (tensors: readonly Tensor[]) => Gradient;
  /** Formed by tfjs: one tensor, so that several can be added up. */
  readonly isDense?: true;
}

/**
 * What takes the place of tfjs's gradient function in a node whose weight is tapped. The functions that make one
 * return why not where the op is used in a way that has no factored form.
 */
export interface Consumer {
  /** Gradients of the other inputs by key, computed when they are asked for. */
  others(dy: Tensor): Record<string, () => Tensor>;
  /** What this use of the weight adds to its gradient. */
  part(dy: Tensor): Part;
}

export const sameShape = (a: Tensor | undefined, b: Tensor | undefined): boolean =>
  a !== undefined && b !== undefined && String(a.shape) === String(b.shape);
