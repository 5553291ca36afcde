import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  all,
  cast,
  fill,
  isFinite as isFiniteEach,
  keep,
  logicalAnd,
  stack,
  tidy,
  where,
} from '@tensorflow/tfjs-core';
import {describe} from './attachment.js';
import {joined} from './pack.js';
import type {FactorGradients} from './step.js';
import {sumOfSquares} from './tensors.js';

/**
 * A step that undoes itself where it went wrong, for backends on which it may not wait for a number (webgpu). Of every
 * variable that the step moves, once it has moved:
 *
 *     v <- ok ? v : v before the step,     ok = every one of them is finite
 *
 * A gradient that holds NaN or infinity, or is too large for a second moment, shows in one of them.
 */
export class Guard {
  private readonly before = new Map<Variable, Tensor>();

  /** Remembers these variables; call it within the tidy of the step, before they move. */
  watch(variables: Iterable<Variable>): void {
    for (const variable of variables)
      if (!this.before.has(variable)) this.before.set(variable, variable.clone());
  }

  /** Watches a variable that the step itself has made, all `start` when it was. */
  watchMade(variable: Variable, start: number): void {
    if (!this.before.has(variable)) this.before.set(variable, fill(variable.shape, start));
  }

  /** Puts back what was, unless all is finite; whether it was, as a tensor. */
  settle(): Scalar {
    const checks = joined([...this.before.keys()]).map(tensor => all(isFiniteEach(tensor)));
    const ok = checks.reduce((a, b) => logicalAnd(a, b)) as Scalar;
    for (const [variable, before] of this.before) variable.assign(where(ok, variable, before));
    return ok;
  }
}

/** A step that was undone. */
export interface Undone {
  readonly step: number;
  /** The weights whose gradients were at fault; none where the inner optimizer was. */
  readonly weights: readonly string[];
}

/** Learns of guarded steps whether they were undone, when the device gets round to telling. */
export class Verdicts {
  private readonly open = new Set<Promise<void>>();
  private found: Undone[] = [];

  /** The steps that have turned out to be undone, in their order. */
  get undone(): readonly Undone[] {
    return this.found;
  }

  /** Reads what the guard said of a step along these gradients. */
  expect(step: number, ok: Scalar, gradients: FactorGradients): void {
    const names = [...gradients.keys()].map(({weight}) => describe(weight));
    const flags = tidy(() => {
      const norms = [...gradients.values()].map(named => sumOfSquares(Object.values(named)));
      return keep(stack([cast(ok, 'float32'), ...norms]));
    });
    const {found} = this;
    const reading: Promise<void> = flags
      .data()
      .then(([fine, ...norms]) => {
        if (fine !== 1) found.push({step, weights: names.filter((_, i) => !Number.isFinite(norms[i]))});
      })
      // A device that is lost says so in the next step.
      .catch(() => {})
      .finally(() => {
        this.open.delete(reading);
        flags.dispose();
      });
    this.open.add(reading);
  }

  /** Forgets all steps so far, those that are not known yet included. */
  forget(): void {
    this.found = [];
  }

  /** Resolves when every step so far is known. */
  async settled(): Promise<void> {
    while (this.open.size > 0) await Promise.all(this.open);
  }
}
