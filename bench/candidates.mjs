// The ways to train that are compared, on a stack of relu layers: y = relu(... relu(x W_1) ... W_L).
import * as tf from '@tensorflow/tfjs';
import {lora, normal, projected} from '../dist/index.js';
import {timesTransposed} from '../dist/capture/layout.js';

export const rate = 1e-3;
export const alphaOverRank = 2;
export const adam = () => tf.train.adam(rate, 0.9, 0.999, 1e-7);

/** Our optimizer. A starts where `startOfA` says, so that LoRA written by hand can start there too. */
export const ours = (rank, capture) =>
  projected(
    adam(),
    lora({
      rank,
      alpha: alphaOverRank * rank,
      init: ({weight}) => ({a: tf.tensor(startOfA(weight.shape[0], rank))}),
    }),
    {
      targets: () => true,
      capture,
    },
  );

/** The first A `[m, r]`, as nested arrays; B starts at zero. */
export const startOfA = (m, rank) => normalValues([m, rank], 7, 1 / Math.sqrt(m));

/** LoRA's A and B for a weight `[m, n]`, as variables. */
export function factors(name, m, n, rank) {
  return [variable(tf.tensor(startOfA(m, rank)), `${name}/a`), variable(tf.zeros([rank, n]), `${name}/b`)];
}

/** A variable that is alone with its data: the tensor it starts from would hold on to them. */
function variable(start, name) {
  const held = tf.variable(start, true, name);
  start.dispose();
  return held;
}

function normalValues(shape, seed, std) {
  const tensor = normal(shape, seed, {std});
  const values = tensor.arraySync();
  tensor.dispose();
  return values;
}

/** Numbers of a stack: L matrices D x D, an input and a goal of T rows. Kept on the host. */
export function stack({D, T, L, rank}) {
  const values = (shape, seed, std = 1) => {
    const tensor = normal(shape, seed, {std});
    const data = tensor.dataSync();
    tensor.dispose();
    return data;
  };
  return {
    D,
    rank,
    x: tf.tensor2d(values([T, D], 1), [T, D]),
    goal: tf.tensor2d(values([T, D], 2), [T, D]),
    weights: Array.from({length: L}, (_, i) => values([D, D], 100 + i, Math.sqrt(2 / D))),
  };
}

const meanSquare = (y, goal) => tf.mean(tf.square(tf.sub(y, goal)));

const kernelVariables = ({weights, D}, id) =>
  weights.map((values, i) => variable(tf.tensor2d(values, [D, D]), `${id}/${i}/kernel`));

const forward = (x, kernels) => kernels.reduce((h, kernel) => tf.relu(tf.matMul(h, kernel)), x);

/** One step of an optimizer on a loss; returns the loss as a number. */
export function stepOf(optimizer, loss, variables) {
  const cost = optimizer.minimize(loss, true, variables);
  const [value] = cost.dataSync();
  cost.dispose();
  return value;
}

function trained(problem, id, optimizer) {
  const kernels = kernelVariables(problem, id);
  return () => stepOf(optimizer, () => meanSquare(forward(problem.x, kernels), problem.goal), kernels);
}

/** Each takes a stack and a name and returns a function that takes one step and returns the loss. */
const stackMethods = {
  adam: (problem, id) => trained(problem, id, adam()),

  layers: (problem, id) => {
    const {x, goal, D, rank, weights} = problem;
    const optimizer = adam();
    const layers = weights.map((values, i) => {
      const [a, b] = factors(`${id}/${i}`, D, D, rank);
      return {frozen: tf.tensor2d(values, [D, D]), a, b};
    });
    const output = () =>
      layers.reduce((h, {frozen, a, b}) => {
        const change = tf.mul(tf.matMul(tf.matMul(h, a), b), alphaOverRank);
        return tf.relu(tf.add(tf.matMul(h, frozen), change));
      }, x);
    const variables = layers.flatMap(({a, b}) => [a, b]);
    return () => stepOf(optimizer, () => meanSquare(output(), goal), variables);
  },

  dense: (problem, id) => trained(problem, id, ours(problem.rank, 'dense')),

  tapped: (problem, id) => trained(problem, id, ours(problem.rank, 'auto')),

  floor: problem => floor(problem, kernel => kernel),

  moving: problem =>
    floor(problem, kernel => {
      const next = tf.mul(kernel, 1);
      kernel.dispose();
      return tf.keep(next);
    }),
};

/** Forward and delta W^T. Before each step `renew` may give the same weight in a new tensor. */
function floor({x, goal, D, weights}, renew) {
  let kernels = weights.map(values => tf.tensor2d(values, [D, D]));
  return () =>
    tf.tidy(() => {
      kernels = kernels.map(renew);
      const outputs = [];
      for (const kernel of kernels) outputs.push(tf.relu(tf.matMul(outputs.at(-1) ?? x, kernel)));
      const error = tf.sub(outputs.at(-1), goal);
      const loss = tf.mean(tf.square(error));
      let delta = tf.mul(error, 2 / error.size);
      for (let i = kernels.length - 1; i > 0; i--) {
        delta = timesTransposed(tf.mul(delta, tf.step(outputs[i])), kernels[i]);
      }
      return loss.dataSync()[0];
    });
}

/** `[method, kernels]` of every candidate: all that the two tables need, and the fewer that the growth plots show. */
export const allCandidates = [
  ['adam', 'shipped'],
  ['adam', 'fast'],
  ['layers', 'shipped'],
  ['layers', 'fast'],
  ['dense', 'shipped'],
  ['dense', 'fast'],
  ['tapped', 'shipped'],
  ['tapped', 'fast'],
  ['floor', 'shipped'],
  ['moving', 'shipped'],
];
export const growthCandidates = allCandidates.filter(
  ([method, kernels]) =>
    method !== 'moving' && (kernels === 'shipped' || method === 'adam' || method === 'layers'),
);

export const stackCandidates = (problem, chosen) =>
  chosen.map(([method, kernels]) => ({
    method,
    kernels,
    make: id => stackMethods[method](problem, id),
  }));
