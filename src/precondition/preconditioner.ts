import type {Tensor} from '@tensorflow/tfjs-core';
import type {Gradient, State} from '../parametrization.js';

/**
 * Bends the gradients of the factors of `W = W0 + s A B` before the inner optimizer sees them; linear in the gradient.
 * The law of `precondition` in `tfjs-lora/testing` holds it to that.
 *
 * @param state The factors before the step.
 * @param grads g_A = s G B^T `[m, r]`, g_B = s A^T G `[r, n]`.
 * @param gradient G itself, as an operator.
 * @param scale s.
 * @returns What takes their places.
 */
export type Preconditioner = (
  state: State<'a' | 'b'>,
  grads: Readonly<Record<'a' | 'b', Tensor>>,
  gradient: Gradient,
  scale: number,
) => Record<'a' | 'b', Tensor>;
