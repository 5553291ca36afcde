import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterEach, beforeAll, describe, expect, test} from 'vitest';
import {
  allocateRanks,
  type AllocateRanksOptions,
  lora,
  loraFA,
  projected,
  type Rules,
} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {allocate, type Candidate} from '../../src/rules/greedy.js';
import {fromTensor, tensorsLeftBy, values} from '../helpers.js';
import {expectOracle} from '../parametrizations/oracle.js';
import {matrix, type Shape} from '../parametrizations/exercise.js';

afterEach(() => tf.disposeVariables());

const worth = (candidates: readonly Candidate[], counts: readonly number[]) =>
  candidates.reduce(
    (total, {scores}, i) => total + scores.slice(0, counts[i]).reduce((sum, score) => sum + score, 0),
    0,
  );
const spent = (candidates: readonly Candidate[], counts: readonly number[]) =>
  candidates.reduce((total, {cost}, i) => total + counts[i]! * cost, 0);

/** The best choice, by trying all. */
function best(candidates: readonly Candidate[], budget: number): number {
  const [first, ...others] = candidates;
  if (!first) return 0;
  const most = Math.min(first.scores.length, Math.floor(budget / first.cost));
  return Math.max(
    ...Array.from(
      {length: most + 1},
      (_, count) => worth([first], [count]) + best(others, budget - count * first.cost),
    ),
  );
}

const falling = fc
  .array(fc.integer({min: 1, max: 1000}), {minLength: 1, maxLength: 4})
  .map(scores => scores.sort((x, y) => y - x));
const candidates = (cost: fc.Arbitrary<number>) =>
  fc.array(fc.record({scores: falling, cost}), {minLength: 1, maxLength: 4});

describe('allocate', () => {
  test('with equal costs it is the best of all choices', () => {
    fc.assert(
      fc.property(candidates(fc.constant(3)), fc.integer({min: 0, max: 40}), (given, budget) => {
        expect(worth(given, allocate(given, budget))).toBe(best(given, budget));
      }),
    );
  });

  test('with any costs it is within the budget, leaves nothing that can be paid for, and is the best for what it spends', () => {
    fc.assert(
      fc.property(
        candidates(fc.integer({min: 1, max: 9})),
        fc.integer({min: 0, max: 60}),
        (given, budget) => {
          const counts = allocate(given, budget);
          const left = budget - spent(given, counts);
          expect(left).toBeGreaterThanOrEqual(0);
          given.forEach(({scores, cost}, i) => {
            if (counts[i]! < scores.length) expect(cost).toBeGreaterThan(left);
          });
          // What could not be paid for: no choice is better by more than the largest of it.
          const missed = given.flatMap(({scores}, i) => scores.slice(counts[i], counts[i]! + 1));
          expect(worth(given, counts)).toBeGreaterThanOrEqual(best(given, budget) - Math.max(0, ...missed));
        },
      ),
    );
  });

  test('at a budget that the threshold meets exactly it is the best of all choices, with any costs', () => {
    fc.assert(
      fc.property(candidates(fc.integer({min: 1, max: 9})), fc.integer({min: 1, max: 8}), (given, count) => {
        const items = given
          .flatMap(({scores, cost}) => scores.map(score => ({value: score / cost, cost})))
          .sort((x, y) => y.value - x.value);
        const budget = items.slice(0, count).reduce((sum, {cost}) => sum + cost, 0);
        fc.pre(items.length <= count || items[count - 1]!.value > items[count]!.value);
        expect(worth(given, allocate(given, budget))).toBe(best(given, budget));
      }),
    );
  });

  test('what is worth nothing is not bought', () => {
    expect(allocate([{scores: [5, 0, 0], cost: 1}], 3)).toEqual([1]);
    expect(allocate([], 3)).toEqual([]);
  });
});

const weightOf = (name: string, shape: Shape, seed = 1) => tf.variable(matrix(shape, seed), true, name);

/** A loss whose gradient in each weight is the matrix given. */
const linear = (pairs: readonly (readonly [tf.Variable, tf.Tensor2D])[]) => () =>
  tf.addN(pairs.map(([w, G]) => tf.sum(tf.mul(w as unknown as tf.Tensor2D, G)))) as tf.Scalar;

const ranksOf = (rules: Rules) =>
  Object.fromEntries(
    rules.map(([pattern, treatment]) => [
      String(pattern)
        .replace(/^\/\^|\$\/$/g, '')
        .replace(/\\\//g, '/'),
      typeof treatment === 'string' ? 0 : treatment.rank!,
    ]),
  );

describe.each(['cpu', 'wasm'])('allocateRanks on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  /** Three weights, one with three times the gradient. */
  function situation() {
    const weights = [
      weightOf('small', [20, 16]),
      weightOf('large', [20, 16]),
      weightOf('wide', [12, 40]),
    ] as const;
    const gs = [matrix([20, 16], 3), tf.mul(matrix([20, 16], 4), 3), matrix([12, 40], 5)] as tf.Tensor2D[];
    return {weights, loss: linear(weights.map((w, i) => [w, gs[i]!] as const)), gs};
  }

  test('the more energy a gradient has, the more rank its weight gets; within the budget', () => {
    const {weights, loss} = situation();
    const ranks = ranksOf(allocateRanks(loss, weights, {averageRank: 4}));
    expect(ranks['large']).toBeGreaterThan(ranks['small']!);
    const numbers = 36 * (ranks['small']! + ranks['large']!) + 52 * ranks['wide']!;
    expect(numbers).toBeLessThanOrEqual(4 * (36 + 36 + 52));
    expect(numbers).toBeGreaterThan(4 * (36 + 36 + 52) - 36);
  });

  test('it is what the exact singular values say', () => {
    const {weights, loss, gs} = situation();
    for (const budget of [36, 200, 400]) {
      const ranks = ranksOf(allocateRanks(loss, weights, {budget, maxRank: 8}));
      const exact = gs.map((G, i) => ({
        scores: reference
          .singularValues(fromTensor(G))
          .slice(0, 8)
          .map(sigma => sigma ** 2),
        cost: weights[i]!.shape[0]! + weights[i]!.shape[1]!,
      }));
      const wanted = worth(exact, allocate(exact, budget));
      const got = worth(
        exact,
        weights.map(({name}) => ranks[name]!),
      );
      expectOracle(
        'targets',
        'allocation',
        'energy of the ranks chosen from a sketch, below that of the exact ones',
        1 - got / wanted,
        0.02,
      );
    }
  });

  test('the gradients of several batches are added, by one function or several', () => {
    const [a, b] = [weightOf('a', [20, 16]), weightOf('b', [20, 16])];
    const [big, small] = [matrix([20, 16], 3), tf.mul(matrix([20, 16], 4), 0.5)] as [
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    let calls = 0;
    // In a they cancel, in b they add.
    const alternating = () =>
      linear([
        [a, tf.mul(big, calls++ % 2 ? 1 : -1)],
        [b, small],
      ])();
    const ranks = ranksOf(allocateRanks(alternating, [a, b], {averageRank: 2, steps: 4}));
    expect(calls).toBe(4);
    expect(ranks).toEqual({a: 0, b: 4});
    const once = [
      linear([
        [a, big],
        [b, small],
      ]),
      linear([
        [a, tf.neg(big)],
        [b, small],
      ]),
    ];
    expect(ranksOf(allocateRanks(once, [a, b], {averageRank: 2}))).toEqual({a: 0, b: 4});
    expect(ranksOf(allocateRanks(once[0]!, [a, b], {averageRank: 2}))['a']).toBeGreaterThan(2);
  });

  test('sensitivity: what of W the gradient acts on', () => {
    const [u, v] = [matrix([20, 1], 1), matrix([1, 16], 2)];
    const direction = tf.matMul(u, v) as tf.Tensor2D;
    const aligned = tf.variable(tf.mul(direction, 5) as tf.Tensor2D, true, 'aligned');
    const empty = tf.variable(tf.mul(matrix([20, 16], 9), 0.001) as tf.Tensor2D, true, 'empty');
    const loss = linear([
      [aligned, direction],
      [empty, tf.mul(direction, 2) as tf.Tensor2D],
    ]);
    const rank = (score: 'energy' | 'sensitivity') =>
      ranksOf(allocateRanks(loss, [aligned, empty], {budget: 36, score}));
    expect(rank('energy')).toEqual({aligned: 0, empty: 1});
    expect(rank('sensitivity')).toEqual({aligned: 1, empty: 0});
  });

  test('nothing moves and nothing is left behind', async () => {
    const {weights, loss} = situation();
    const before = weights.map(values);
    allocateRanks(loss, weights);
    expect(await tensorsLeftBy(() => allocateRanks(loss, weights, {steps: 3}))).toBe(0);
    expect(weights.map(values)).toEqual(before);
  });
});

describe('allocateRanks', () => {
  beforeAll(() => tf.setBackend('cpu'));

  test('the rules train as many numbers as they say, through an optimizer', () => {
    const x = matrix([30, 20], 8);
    const weights = [weightOf('net/kernel', [20, 16]), weightOf('net/kernel_1', [16, 24])] as const;
    const bias = tf.variable(tf.zeros([24]), true, 'net/bias');
    const y = matrix([30, 24], 9);
    const loss = () =>
      tf.mean(
        tf.squaredDifference(
          tf.add(tf.matMul(tf.tanh(tf.matMul(x, weights[0] as never)), weights[1] as never), bias),
          y,
        ),
      ) as tf.Scalar;
    const rules = allocateRanks(loss, [...weights, bias], {averageRank: 3});
    const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), lora(), {targets: rules});
    const first = values(loss())[0]!;
    for (let step = 0; step < 30; step++) optimizer.minimize(loss);
    expect(values(loss())[0]!).toBeLessThan(0.95 * first);
    const rows = optimizer.explain([...weights, bias], null);
    const numbers = rows.reduce((total, {trained}) => total + trained, 0);
    expect(numbers).toBeLessThanOrEqual(3 * (36 + 40));
    expect(numbers).toBeGreaterThan(3 * (36 + 40) - 40);
    expect(rows.map(({rank}) => rank)).toEqual([
      ranksOf(rules)['net/kernel'] || null,
      ranksOf(rules)['net/kernel_1'] || null,
      null,
    ]);
    optimizer.dispose();
  });

  test('another parametrization has other costs', () => {
    const weight = weightOf('w', [20, 16]);
    const loss = linear([[weight, matrix([20, 16], 3)]]);
    const rules = allocateRanks(loss, [weight], {budget: 5 * 16, parametrization: rank => loraFA({rank})});
    expect(rules[0]![1]).toMatchObject({name: 'loraFA', rank: 5});
  });

  const refused: readonly (readonly [AllocateRanksOptions, RegExp])[] = [
    [{averageRank: 0}, /averageRank must be a number above 0, not 0/],
    [{maxRank: 1.5}, /maxRank must be a whole number/],
    [{steps: 0}, /steps must be/],
    [{budget: -1}, /budget must be/],
    [{budget: 10}, /10 numbers pay for no rank.*w \[20,16\]/],
    [{score: 'norm' as never}, /score must be 'energy' or 'sensitivity', not 'norm'/],
    [{rank: 3} as never, /unknown option 'rank'/],
  ];
  test.each(refused)('refuses %o', (options, message) => {
    const weight = weightOf('w', [20, 16]);
    expect(() => allocateRanks(linear([[weight, matrix([20, 16], 3)]]), [weight], options)).toThrow(message);
  });

  test('refuses weights in which no rank saves anything, and keeps nothing when the loss throws', async () => {
    const bias = tf.variable(tf.zeros([4]), true, 'bias');
    expect(() => allocateRanks(() => tf.sum(bias), [bias])).toThrow(/in none of the weights.*bias \[4\]/);
    const weight = weightOf('w', [20, 16]);
    const good = linear([[weight, matrix([20, 16], 3)]]);
    const bad = () => {
      throw new Error('no batch');
    };
    good().dispose();
    expect(
      await tensorsLeftBy(() => expect(() => allocateRanks([good, bad], [weight])).toThrow('no batch')),
    ).toBe(0);
  });
});
