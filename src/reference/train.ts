/**
 * The same training twice: seen from the optimizer, which holds W, and from the layer, which holds the factors.
 * That both give the same W (Su Jianlin, kexue.fm/archives/9590) is the idea of this library.
 */
import {clipByGlobalNorm} from './clip.js';
import {formula} from './formula.js';
import type {Matrix} from './matrix.js';
import type {Optimizer} from './optimizers.js';
import {mapFactors, type Factors, type Parametrization} from './parametrization.js';

const plus = formula('W + change');

/** What both views have in common. */
export interface Run<F extends Factors> {
  /** Where the factors start. */
  factors: F;
  /** A new optimizer for each factor; the name lets A and B have rates of their own (LoRA+, arXiv:2402.12354). */
  optimizer: (factor: keyof F) => Optimizer;
  steps: number;
  /** Longest allowed length of all factor gradients of a step together. */
  clipNorm?: number;
}

export interface ProjectedRun<F extends Factors> extends Run<F> {
  parametrization: Parametrization<F>;
  /** W before the first step, [m, n]; whatever the factors are, training starts exactly here. */
  weight: Matrix;
  /** G = dL/dW at W, [m, n]. */
  gradient: (weight: Matrix) => Matrix;
}

export interface LayerRun<F extends Factors> extends Run<F> {
  parametrization: Pick<Parametrization<F>, 'delta'>;
  /** W0, frozen, [m, n]: the layer computes with W0 + Delta(factors). */
  base: Matrix;
  /** The gradient of each factor, by whatever way a layer comes by it: backpropagation, finite differences. */
  factorGradient: (factors: F) => F;
}

/** `path[k]` is W after step k + 1; `weight` is the last of them. */
export interface Trained<F extends Factors> {
  weight: Matrix;
  factors: F;
  path: Matrix[];
}

/** The optimizer's view: g = pullback(G), theta' = step(theta, g), W <- W + lift(theta, theta'). */
export function trainProjected<F extends Factors>(run: ProjectedRun<F>): Trained<F> {
  const {parametrization, gradient} = run;
  const step = stepper(run);
  let {weight, factors} = run;
  const path: Matrix[] = [];
  for (let k = 0; k < run.steps; k++) {
    const next = step(factors, parametrization.pullback(factors, gradient(weight)));
    weight = plus({W: weight, change: parametrization.lift(factors, next)});
    factors = next;
    path.push(weight);
  }
  return {weight, factors, path};
}

/** The layer's view: theta' = step(theta, dL/dtheta); W = W0 + Delta(theta) is only ever read off. */
export function trainLayer<F extends Factors>(run: LayerRun<F>): Trained<F> {
  const merged = (theta: F) => plus({W: run.base, change: run.parametrization.delta(theta)});
  const step = stepper(run);
  let {factors} = run;
  const path: Matrix[] = [];
  for (let k = 0; k < run.steps; k++) {
    factors = step(factors, run.factorGradient(factors));
    path.push(merged(factors));
  }
  return {weight: merged(factors), factors, path};
}

/** One step of every factor, each by its own optimizer, after clipping all gradients together. */
function stepper<F extends Factors>(run: Run<F>): (theta: F, gradients: F) => F {
  const {factors, optimizer, clipNorm = Infinity} = run;
  const optimizers = new Map(Object.keys(factors).map(name => [name as keyof F, optimizer(name)]));
  return (theta, gradients) => {
    const clipped = clipNorm === Infinity ? gradients : clipByGlobalNorm(gradients, clipNorm);
    return mapFactors(theta, (factor, name) => optimizers.get(name)!.step(factor, clipped[name]!));
  };
}
