import type {Scalar, Tensor2D, Variable} from '@tensorflow/tfjs-core';
import {dispose, matMul, mul, reshape, sum} from '@tensorflow/tfjs-core';
import {keepNamed} from '../attachment.js';
import type {Gradient} from '../capture/gradient.js';
import {canTap, denseGradients, tapGradients} from '../capture/tape.js';
import {addToSketch, beginSketch, type Sketch, topOfSketch} from '../linalg/sketch.js';
import {read} from '../linalg/read.js';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import type {Parametrization} from '../parametrization.js';
import {lora} from '../parametrizations/lora.js';
import {splitSeed} from '../random.js';
import {matrixShape, plainName, type Rules} from '../targets.js';
import {clones, tidied} from '../tensors.js';
import {allocate} from './greedy.js';

export interface AllocateRanksOptions {
  /** Trained numbers in all: as many as this rank everywhere would have. Default 8. */
  averageRank?: number;
  /** Trained numbers in all, in the place of `averageRank`. */
  budget?: number;
  /** No weight gets more. Default: four times the average rank. */
  maxRank?: number;
  /** How often to call a single loss function. Default 1. */
  steps?: number;
  /** What a rank is worth: see `allocateRanks`. Default 'energy'. */
  score?: 'energy' | 'sensitivity';
  /** What to make of a rank. Default `rank => lora({rank})`. */
  parametrization?: (rank: number) => Parametrization;
  /** Default 0. */
  seed?: number;
}

/**
 * Ranks by what the gradient has to give, at an equal number of trained numbers. Looks at the gradients of a few batches;
 * nothing moves. Returns rules, one a weight, for `targets`; a weight that gets no rank is frozen.
 *
 *     const rules = allocateRanks(() => loss(nextBatch()), variables.filter(attention('all')), {averageRank: 8, steps: 4});
 *     model.compile({optimizer: projected(tf.train.adam(1e-3), lora(), {targets: rules})});
 *
 * With sigma_i, u_i, v_i of the sum of the gradients of a weight `[m, n]`, whose ranks cost m + n each, the i-th rank is worth
 * - 'energy': sigma_i^2, what it adds to the part of the gradient that can be followed;
 * - 'sensitivity': sigma_i |u_i^T W v_i|, how much the loss would change, to first order, without that component of W.
 * One threshold on worth over cost for all weights decides. The gradients are not formed: a sketch of their sum is kept,
 * about `3 rank` times m + n numbers.
 */
export function allocateRanks(
  losses: (() => Scalar) | readonly (() => Scalar)[],
  variables: readonly Variable[],
  options: AllocateRanksOptions = {},
): Rules {
  expectOptions('allocateRanks', options, [
    'averageRank',
    'budget',
    'maxRank',
    'steps',
    'score',
    'parametrization',
    'seed',
  ]);
  const {averageRank = 8, steps = 1, score = 'energy', seed = 0} = options;
  const {maxRank = Math.ceil(4 * averageRank), parametrization = (rank: number) => lora({rank})} = options;
  expectNumber('allocateRanks: averageRank', averageRank, 'a number above 0', r => r > 0);
  expectNumber('allocateRanks: maxRank', maxRank, WHOLE, isCount);
  expectNumber('allocateRanks: steps', steps, WHOLE, isCount);
  expectOneOf('allocateRanks: score', score, ['energy', 'sensitivity']);
  const trained = (rank: number, [m, n]: Shape) => parametrization(rank).trained?.([m, n]) ?? rank * (m + n);
  const places = [...new Set(variables)].flatMap(weight => {
    const shape = matrixShape(weight.shape);
    let limit = weight.shape.length < 2 || weight.dtype !== 'float32' ? 0 : Math.min(maxRank, ...shape);
    while (limit > 0 && trained(limit, shape) >= weight.size) limit--;
    return limit > 0 ? [{weight, shape, limit, cost: trained(1, shape)}] : [];
  });
  const names = variables.map(({name, shape}) => `${name} [${shape}]`).join(', ') || 'none';
  if (places.length === 0) {
    throw new Error(`allocateRanks: in none of the weights a rank saves anything. Given: ${names}`);
  }
  const {budget = averageRank * places.reduce((total, {cost}) => total + cost, 0)} = options;
  expectNumber('allocateRanks: budget', budget, 'a number above 0', b => b > 0);

  const sketches = new Map<Variable, Sketch>();
  const begin = ({weight, shape, limit}: (typeof places)[number]) =>
    beginSketch({shape, rank: limit, seed: splitSeed(seed, plainName(weight.name))});
  const add = (weight: Variable, gradient: Gradient) => {
    const place = places.find(candidate => candidate.weight === weight)!;
    const before = sketches.get(weight);
    const after = tidied(() => clones(addToSketch(before ?? begin(place), gradient)));
    sketches.set(weight, keepNamed(after) as Sketch);
    if (before) dispose(before);
  };
  const calls = typeof losses === 'function' ? Array.from({length: steps}, () => losses) : losses;
  const listen = canTap() ? tapGradients : denseGradients;
  try {
    for (const loss of calls) {
      listen(
        loss,
        places.map(({weight}) => weight),
        add,
      ).dispose();
    }
    const candidates = places.map(({weight, shape, limit, cost}) => {
      const sketch = sketches.get(weight);
      return {cost, scores: sketch ? scoresOf(sketch, limit, score, weight, shape) : []};
    });
    const ranks = allocate(candidates, budget);
    if (ranks.every(rank => rank === 0)) {
      throw new Error(
        `allocateRanks: ${budget} numbers pay for no rank of a weight that has a gradient. Given: ${names}`,
      );
    }
    return rulesOf(
      places.map(({weight}, i) => ({name: weight.name, rank: ranks[i]!})),
      parametrization,
    );
  } finally {
    dispose([...sketches.values()] as never);
  }
}

type Shape = readonly [m: number, n: number];
const WHOLE = 'a whole number of at least 1';
const isCount = (n: number) => Number.isInteger(n) && n >= 1;

function scoresOf(
  sketch: Sketch,
  rank: number,
  score: 'energy' | 'sensitivity',
  weight: Variable,
  [m, n]: Shape,
): number[] {
  return tidied(() => {
    const {u, s, v} = topOfSketch(sketch, {rank});
    if (score === 'energy') return s.map(sigma => sigma ** 2);
    const along = read(
      sum(mul(matMul(reshape(weight, [m, n]) as Tensor2D, v), u), 0),
      'allocateRanks: a sum',
    );
    return s.map((sigma, i) => sigma * Math.abs(along[i]!)).sort((x, y) => y - x);
  });
}

/** The longest names first: `kernel_1` must find its own rule before it finds that of `kernel`. */
function rulesOf(
  ranks: readonly {name: string; rank: number}[],
  parametrization: (rank: number) => Parametrization,
): Rules {
  const sorted = ranks.toSorted((x, y) => y.name.length - x.name.length);
  return sorted.map(({name, rank}) => [
    RegExp(`^${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`),
    rank > 0 ? parametrization(rank) : 'freeze',
  ]);
}
