import * as tf from '@tensorflow/tfjs';
import * as calculus from '../../src/calculus.js';
import {
  denseGradient,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptions,
} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';

/** What every method is put through: a comparison with its reference, a training run, an interrupted one. */

export type Shape = readonly [m: number, n: number];

/** A row, a column, sides that no small rank divides, and a square. */
export const SHAPES: readonly Shape[] = [
  [9, 6],
  [6, 9],
  [5, 5],
  [1, 7],
  [7, 1],
  [2, 17],
];

export const matrix = ([m, n]: Shape, seed: number) => normal([m, n], seed) as tf.Tensor2D;

const maxAbs = (a: reference.Matrix) => reference.maxDifference(a, reference.zeros(reference.shapeOf(a)));

/** max |got - want| / max |want| against a matrix of the reference; 0 where both are zero. */
export function distance(got: tf.Tensor, want: reference.Matrix): number {
  return reference.maxDifference(fromTensor(got), want) / Math.max(maxAbs(want), 1e-30);
}

/** A state away from the start, another to move to, a weight and a gradient, all in float32. */
export function situation(p: Parametrization, shape: Shape, seed = 1) {
  const weight = matrix(shape, seed);
  const gradient = matrix(shape, seed + 1);
  const fresh = p.init({weight, gradient: denseGradient(gradient, shape), seed: seed + 2});
  const move = (factors: Readonly<Record<string, tf.Tensor>>, size: number, step: number) =>
    Object.fromEntries(
      Object.entries(factors).map(([key, factor], i) => [
        key,
        tf.add(factor, tf.mul(normal(factor.shape, seed + 10 * step + i), size)),
      ]),
    );
  const state = {factors: move(fresh.factors, 0.7, 1), frozen: fresh.frozen ?? {}, base: weight};
  const next = {...state, factors: move(state.factors, 0.3, 2)};
  return {weight, gradient, fresh, state, next};
}

export type Situation = ReturnType<typeof situation>;

const named = (tensors: Readonly<Record<string, tf.Tensor>>) =>
  Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [key, fromTensor(tensor)]));

/**
 * The worst relative error of delta (or the weight), pullback and lift against a reference, over all shapes; gradients
 * of zero among them.
 *
 * @param rule The reference for this weight and start. Its `delta` is the whole weight where the method composes it.
 */
export function worstAgainst(
  p: Parametrization,
  rule: (given: Situation) => reference.Parametrization<reference.Factors>,
  shapes = SHAPES,
): number {
  return tf.tidy(() =>
    Math.max(
      ...shapes.flatMap((shape, i) => {
        const given = situation(p, shape, 100 * i + 1);
        const {state, next, gradient} = given;
        const expected = rule(given);
        const [at, to] = [named(state.factors), named(next.factors)];
        const compare = (G: tf.Tensor2D) => {
          const grads = calculus.pullback(p, state, denseGradient(G, shape));
          const wanted = expected.pullback(at, fromTensor(G));
          return Object.keys(wanted).map(key => distance(grads[key]!, wanted[key]!));
        };
        const delta = expected.delta(at);
        const lifted = reference.maxDifference(
          fromTensor(calculus.lift(p, state, next)),
          expected.lift(at, to),
        );
        return [
          distance(calculus.phi(p, state), delta),
          lifted / Math.max(maxAbs(delta), 1e-30),
          ...compare(gradient),
          ...compare(tf.zerosLike(gradient)),
        ];
      }),
    ),
  );
}

/** Least squares in one weight: `loss()` of x W against a target that the method can only approach. */
function problem([m, n]: Shape, seed: number) {
  const x = matrix([24, m], seed);
  const y = tf.matMul(x, matrix([m, n], seed + 1));
  const weight = tf.variable(matrix([m, n], seed + 2));
  const loss = () => tf.mean(tf.squaredDifference(tf.matMul(x, weight), y)) as tf.Scalar;
  return {weight, loss};
}

/** How much of the loss is left after some steps of Adam, by `minimize`. */
export function trained(p: Parametrization, {shape = [12, 10] as Shape, steps = 40, rate = 0.05} = {}) {
  const {weight, loss} = problem(shape, 3);
  const optimizer = projected(tf.train.adam(rate, 0.9, 0.999, 1e-7), p, {targets: () => true});
  const first = values(loss())[0]!;
  for (let step = 0; step < steps; step++) optimizer.minimize(loss);
  const last = values(loss())[0]!;
  optimizer.dispose();
  weight.dispose();
  return last / first;
}

/** Largest difference between a run of 8 steps and one saved and loaded after 5. */
export async function interrupted(make: () => Parametrization, options: ProjectedOptions = {}) {
  const {weight, loss} = problem([12, 10], 5);
  const begin = weight.clone();
  const optimizer = () =>
    projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), make(), {targets: () => true, ...options});
  const run = (o: tf.Optimizer, steps: number) => {
    for (let step = 0; step < steps; step++) o.minimize(loss);
  };
  const whole = optimizer();
  run(whole, 8);
  const wanted = values(weight);

  weight.assign(begin as tf.Tensor2D);
  const first = optimizer();
  run(first, 5);
  const second = optimizer();
  await second.setWeights(await first.getWeights());
  first.dispose();
  run(second, 3);
  const got = values(weight);
  for (const used of [whole, second]) used.dispose();
  weight.dispose();
  return Math.max(...got.map((value, i) => Math.abs(value - wanted[i]!)));
}
