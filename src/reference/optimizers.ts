/**
 * The seven optimizers of TensorFlow.js, each as the text of its rule.
 *
 *     theta  the trained matrix      eta  learning rate      t  step, from 1
 *     g      its gradient            state  whatever a rule assigns and reads again at the next step
 *
 * One optimizer serves one matrix. A state that starts as a number becomes a matrix at the first step.
 * Where tfjs departs from the paper, so does this file, and the rule says so.
 */
import {rule, type Scope} from './formula.js';
import type {Matrix} from './matrix.js';

export interface Optimizer {
  /** What is remembered between steps, by the letters of the rule. */
  readonly state: Readonly<Scope>;
  /** theta after one step; theta and gradient are left alone. */
  step(theta: Matrix, gradient: Matrix): Matrix;
}

/** An optimizer from its rule, its constants and its state before the first step. */
export function optimizer(text: string, constants: Readonly<Scope>, start: Readonly<Scope> = {}): Optimizer {
  const run = rule(text);
  let state = start;
  return {
    get state() {
      return state;
    },
    step(theta, gradient) {
      const after = run({...constants, ...state, theta, g: gradient});
      state = Object.fromEntries(Object.keys(start).map(name => [name, after[name]!]));
      return after['theta'] as Matrix;
    },
  };
}

export interface SgdOptions {
  learningRate: number;
}

/** Stochastic gradient descent. */
export function sgd({learningRate}: SgdOptions): Optimizer {
  return optimizer('theta = theta - eta * g', {eta: learningRate});
}

export interface MomentumOptions {
  learningRate: number;
  momentum?: number;
  useNesterov?: boolean;
}

/** Heavy ball (Polyak 1964); with `useNesterov` the step looks ahead along the new velocity (Sutskever 2013). */
export function momentum({learningRate, momentum = 0.9, useNesterov = false}: MomentumOptions): Optimizer {
  const plain = `
    v = mu * v + g
    theta = theta - eta * v`;
  const nesterov = `
    v = mu * v + g
    theta = theta - eta * (g + mu * v)`;
  return optimizer(useNesterov ? nesterov : plain, {eta: learningRate, mu: momentum}, {v: 0});
}

export interface AdamOptions {
  learningRate: number;
  beta1?: number;
  beta2?: number;
  epsilon?: number;
}

/** Adam (arXiv:1412.6980, algorithm 1); epsilon is added after the bias correction. */
export function adam({learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7}: AdamOptions): Optimizer {
  const text = `
    t = t + 1
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g .^ 2
    theta = theta - eta * (m / (1 - beta1^t)) ./ (sqrt(v / (1 - beta2^t)) + epsilon)`;
  return optimizer(text, {eta: learningRate, beta1, beta2, epsilon}, {t: 0, m: 0, v: 0});
}

export interface AdamaxOptions extends AdamOptions {
  /** Learning rate of step t is eta / (1 + (t - 1) decay). */
  decay?: number;
}

/** Adamax (arXiv:1412.6980, algorithm 2) with tfjs's epsilon in the denominator and its learning rate decay. */
export function adamax(options: AdamaxOptions): Optimizer {
  const {learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7, decay = 0} = options;
  const text = `
    t = t + 1
    m = beta1 * m + (1 - beta1) * g
    u = max(beta2 * u, abs(g))
    theta = theta - eta / (1 + (t - 1) * decay) / (1 - beta1^t) * m ./ (u + epsilon)`;
  return optimizer(text, {eta: learningRate, beta1, beta2, epsilon, decay}, {t: 0, m: 0, u: 0});
}

export interface RmspropOptions {
  learningRate: number;
  decay?: number;
  momentum?: number;
  epsilon?: number;
  centered?: boolean;
}

/**
 * RMSProp (Tieleman & Hinton 2012), epsilon under the root.
 *
 * Centered (arXiv:1308.0850, section 4.2), tfjs takes epsilon away where the paper adds it, so the root is of a
 * negative number, and theta NaN, wherever the gradient's variance is below epsilon: a zero gradient will do.
 */
export function rmsprop(options: RmspropOptions): Optimizer {
  const {learningRate, decay = 0.9, momentum = 0, epsilon = 1e-7, centered = false} = options;
  const constants = {eta: learningRate, rho: decay, mu: momentum, epsilon};
  const plain = `
    s = rho * s + (1 - rho) * g .^ 2
    v = mu * v + eta * g ./ sqrt(s + epsilon)
    theta = theta - v`;
  const aroundTheMean = `
    s = rho * s + (1 - rho) * g .^ 2
    m = rho * m + (1 - rho) * g
    v = mu * v + eta * g ./ sqrt(s - (m .^ 2 + epsilon))
    theta = theta - v`;
  return centered
    ? optimizer(aroundTheMean, constants, {s: 0, m: 0, v: 0})
    : optimizer(plain, constants, {s: 0, v: 0});
}

export interface AdagradOptions {
  learningRate: number;
  initialAccumulatorValue?: number;
  /** tfjs gives no choice: it takes its backend's, 1e-7 on all but webgl's 1e-4. */
  epsilon?: number;
}

/** Adagrad (Duchi, Hazan & Singer 2011), epsilon under the root. */
export function adagrad(options: AdagradOptions): Optimizer {
  const {learningRate, initialAccumulatorValue = 0.1, epsilon = 1e-7} = options;
  const text = `
    a = a + g .^ 2
    theta = theta - eta * g ./ sqrt(a + epsilon)`;
  return optimizer(text, {eta: learningRate, epsilon}, {a: initialAccumulatorValue});
}

export interface AdadeltaOptions {
  learningRate: number;
  rho?: number;
  epsilon?: number;
}

/**
 * Adadelta (arXiv:1212.5701), as tfjs has it: divided by the mean square before this gradient joins it, where the
 * paper divides after. From a = u = 0 this keeps a = u for ever, so d = g: tfjs's Adadelta is SGD, whatever rho is.
 */
export function adadelta({learningRate, rho = 0.95, epsilon = 1e-7}: AdadeltaOptions): Optimizer {
  const text = `
    d = sqrt(u + epsilon) ./ sqrt(a + epsilon) .* g
    a = rho * a + (1 - rho) * g .^ 2
    u = rho * u + (1 - rho) * d .^ 2
    theta = theta - eta * d`;
  return optimizer(text, {eta: learningRate, rho, epsilon}, {a: 0, u: 0});
}
