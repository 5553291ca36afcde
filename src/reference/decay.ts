import {formula, type Value} from './formula.js';
import type {Optimizer} from './optimizers.js';

const decayed = formula('stepped - eta * lambda * (theta - start)');

export interface DecayOptions {
  /** eta; the decay of a step is eta times lambda. */
  learningRate: number;
  /** lambda. */
  weightDecay: number;
  /** What theta is drawn towards: its own start, or the number 0 as AdamW has it. */
  start?: Value;
}

/**
 * Decoupled weight decay (arXiv:1711.05101) around any optimizer: theta <- step(theta) - eta lambda (theta - start),
 * the decay measured, as in AdamW, at the theta before the step.
 *
 * For LoRA with a symmetric start the two choices of `start` end in different places: towards zero, W goes to
 * W0 - s A0 B0, a model that never was; towards A0 and B0, W goes back to W0.
 */
export function withDecay(inner: Optimizer, {learningRate, weightDecay, start = 0}: DecayOptions): Optimizer {
  return {
    get state() {
      return inner.state;
    },
    step(theta, gradient) {
      const stepped = inner.step(theta, gradient);
      return decayed({stepped, theta, start, eta: learningRate, lambda: weightDecay});
    },
  };
}
