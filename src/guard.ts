import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  all,
  cast,
  concat,
  fill,
  isFinite as isFiniteEach,
  keep,
  logicalAnd,
  reshape,
  stack,
  where,
  zerosLike,
} from '@tensorflow/tfjs-core';
import {joined} from './pack.js';
import {sumOfSquares} from './tensors.js';

/**
 * A step that undoes itself where it went wrong, for backends on which it may not wait for a number (webgpu). What it
 * moves, factors and moments, becomes
 *
 *     v <- ok ? v : v before the step,     ok = the gradients are sound, and every factor is finite
 *
 * Make it, use it and `settle` it within the tidy of one step.
 */
export class Guard {
  private readonly before = new Map<Variable, Tensor>();
  private readonly norms: Tensor;
  private readonly isSound: Tensor;

  /**
   * @param gradients Of each weight, those of its factors.
   * @param clipped Whether gradients of any size are sound; else their squares must be finite too.
   */
  constructor(gradients: readonly (readonly Tensor[])[], clipped: boolean) {
    this.norms = stack(gradients.map(grads => sumOfSquares(grads)));
    this.isSound = clipped ? areFinite(gradients.flat()) : all(isFiniteEach(this.norms));
  }

  /** Remembers variables; call it before they move. */
  watch(variables: Iterable<Variable>): void {
    for (const variable of variables)
      if (!this.before.has(variable)) this.before.set(variable, variable.clone());
  }

  /** Watches a variable that the step itself has made, all `start` when it was. */
  watchMade(variable: Variable, start: number): void {
    this.before.set(variable, fill(variable.shape, start));
  }

  /** The gradient, or zero where not all are sound: for an optimizer whose memory cannot be watched. */
  soundOrZero(gradient: Tensor): Tensor {
    return select(this.isSound, gradient, zerosLike(gradient));
  }

  /**
   * Puts back what was, unless all went well.
   *
   * @param moved The factors.
   * @returns `[whether the gradients are sound, whether it went well, ‖gradients‖² of each weight …]`
   */
  settle(moved: Iterable<Variable>): Tensor {
    const ok = logicalAnd(this.isSound, areFinite([...moved]));
    for (const [variable, before] of this.before) variable.assign(select(ok, variable, before));
    return concat([cast(stack([this.isSound, ok]), 'float32'), this.norms]);
  }
}

/** Flat, since webgpu selects and repeats in few dimensions only. */
function select(condition: Tensor, yes: Tensor, no: Tensor): Tensor {
  const chosen = where(condition, reshape(yes, [yes.size]), reshape(no, [no.size]));
  return reshape(chosen, yes.shape);
}

const areFinite = (tensors: readonly Tensor[]): Scalar =>
  joined(tensors)
    .map(tensor => all(isFiniteEach(reshape(tensor, [tensor.size]))))
    .reduce((a, b) => logicalAnd(a, b)) as Scalar;

/** A step that was undone. */
export interface Undone {
  readonly step: number;
  /** The weights whose gradients were at fault; none where the inner optimizer was. */
  readonly weights: readonly string[];
}

/** Learns of guarded steps whether they were undone, when the device gets round to telling. */
export class Verdicts {
  private readonly open = new Map<Promise<void>, Tensor>();
  private found: Undone[] = [];

  /**
   * @param settled What `Guard.settle` gave: disposed when it has been read.
   * @param weights What to call the weights, in their order there.
   */
  expect(step: number, settled: Tensor, weights: readonly string[]): void {
    keep(settled);
    const {found} = this;
    const reading: Promise<void> = settled
      .data()
      .then(([isSound, ok, ...norms]) => {
        if (ok === 1) return;
        const isAtFault = (_: string, i: number) => isSound !== 1 && !Number.isFinite(norms[i]);
        found.push({step, weights: weights.filter(isAtFault)});
      })
      // A device that is lost says so in the next step; what was given up here, nobody asks for.
      .catch(() => {})
      .finally(() => {
        this.open.delete(reading);
        settled.dispose();
      });
    this.open.set(reading, settled);
  }

  /** The steps that have turned out to be undone since this was asked last. */
  take(): Undone[] {
    return this.found.splice(0).sort((a, b) => a.step - b.step);
  }

  /** Forgets the steps so far, those that are not known yet included. */
  forget(): void {
    this.found = [];
  }

  /** Resolves when every step so far is known. */
  async settled(): Promise<void> {
    await Promise.all(this.open.keys());
  }

  /** Gives up on what is not known yet. */
  dispose(): void {
    this.forget();
    for (const settled of this.open.values()) settled.dispose();
  }
}
