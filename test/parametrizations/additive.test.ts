import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as calculus from '../../src/calculus.js';
import {additive, type AdditiveOptions, denseGradient, projected} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, toTensor, values} from '../helpers.js';
import {distance, interrupted, matrix, type Shape, SHAPES, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';

beforeAll(() => tf.setBackend('cpu'));

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('additive', number, what, residual, tolerance);
const ROUNDING = 1e-5;
const {tileProjector, tiles, transpose} = reference;
const formula = reference.formula;

/** The reference of a form. */
function rule({rank = 1, scale = 1, form = 'sum'}: AdditiveOptions, [m, n]: Shape) {
  if (form === 'orthogonal') return reference.orthogonalAdditive(scale, rank, [m, n]);
  const frame = form === 'sum' ? reference.tiles : reference.unitTiles;
  return reference.additive(scale, frame(rank, n), transpose(frame(rank, m)));
}

/** H(G) = DPhi DPhi* G: what a step of SGD with eta = 1 subtracts from W. */
function step(options: AdditiveOptions, gradient: tf.Tensor2D): tf.Tensor {
  // Without `trained`, weights are attached on which the rank saves nothing.
  const {trained: _, ...p} = additive(options);
  const weight = tf.variable(tf.zerosLike(gradient));
  const optimizer = projected(tf.train.sgd(1), p, {targets: () => true});
  optimizer.applyGradients({[weight.name]: gradient});
  const moved = tf.neg(weight);
  optimizer.dispose();
  weight.dispose();
  return moved;
}

const grads = (options: AdditiveOptions, G: tf.Tensor2D) => {
  const p = additive(options);
  const gradient = denseGradient(G, G.shape);
  const state = {factors: p.init({weight: G, gradient, seed: 1}).factors, frozen: {}};
  return calculus.pullback(p, state, gradient) as Record<'a' | 'b', tf.Tensor2D>;
};

/** The change of W at random factors. */
const change = (options: AdditiveOptions, shape: Shape, seed: number) => {
  const G = matrix(shape, seed);
  const {a, b} = grads(options, G);
  const factors = {a: matrix(a.shape, seed + 1), b: matrix(b.shape, seed + 2)};
  return {...factors, delta: fromTensor(calculus.phi(additive(options), {factors, frozen: {}}))};
};

describe('additive', () => {
  const forms: AdditiveOptions[] = (['sum', 'equal', 'orthogonal'] as const).flatMap(form => [
    {form},
    {form, rank: 3, scale: 2},
    {form, rank: 4},
    {form, rank: 30},
  ]);

  test.each(forms)('equals the float64 reference: %o', options => {
    const worst = worstAgainst(
      additive(options),
      ({weight}) => rule(options, weight.shape) as reference.Parametrization<reference.Factors>,
    );
    oracle('reference', 'delta, pullback and lift against float64', worst, ROUNDING);
  });

  test('O37: at rank 1 the gradients are the row and column sums, and the change has rank 2', () => {
    const G = matrix([7, 5], 1);
    const {a, b} = grads({}, G);
    const residual = Math.max(
      distance(a, reference.rowSums(fromTensor(G))),
      distance(b, reference.columnSums(fromTensor(G))),
    );
    oracle('O37', 'rank 1: g_A = row sums of G, g_B = column sums', residual, ROUNDING);
    const rank = reference.rank(change({}, [7, 5], 3).delta, 1e-5);
    oracle('O37, rank', 'rank 1: rank(W - W0) = 2', Math.abs(rank - 2), 0);
  });

  test('O38: in blocks, A gets the sum over column blocks and B over row blocks; the change has rank 2r', () => {
    const G = matrix([6, 9], 1);
    const {a, b} = grads({rank: 3}, G);
    const columns = tf.addN([0, 3, 6].map(j => tf.slice(G, [0, j], [6, 3])));
    const rows = tf.addN([0, 3].map(i => tf.slice(G, [i, 0], [3, 9])));
    const residual = Math.max(distance(a, fromTensor(columns)), distance(b, fromTensor(rows)));
    oracle('O38', 'g_A = sum over column blocks, g_B = sum over row blocks', residual, ROUNDING);
    const rank = reference.rank(change({rank: 3}, [12, 15], 3).delta, 1e-5);
    oracle('O38, rank', 'rank(W - W0) = 2r', Math.abs(rank - 6), 0);
  });

  test('O39: A + R K, B - K C is the same W, and R^T g_A = g_B C^T', () => {
    const [shape, rank] = [[7, 9] as const, 3];
    const [C, R] = [toTensor(tiles(rank, 9)), tf.transpose(toTensor(tiles(rank, 7)))];
    const {a, b, delta} = change({rank}, shape, 1);
    const K = matrix([3, 3], 9);
    const factors = {a: tf.add(a, tf.matMul(R, K)), b: tf.sub(b, tf.matMul(K, C))};
    const moved = calculus.phi(additive({rank}), {factors, frozen: {}});
    oracle('O39', 'A += R K, B -= K C leaves W', distance(moved, delta), ROUNDING);
    const g = grads({rank}, matrix(shape, 4));
    const [left, right] = [tf.matMul(R, g.a, true), tf.matMul(g.b, C, false, true)];
    oracle('O39, gradients', 'R^T g_A = g_B C^T', distance(left, fromTensor(right)), ROUNDING);
  });

  test('O40: a step of SGD is (n/r) G Pi_C + (m/r) Pi_R G where r divides', () => {
    const G = matrix([6, 9], 1);
    const want = formula('k * G * PC + l * PR * G')({
      G: fromTensor(G),
      PC: tileProjector(3, 9),
      PR: tileProjector(3, 6),
      k: 9 / 3,
      l: 6 / 3,
    });
    oracle('O40', 'H(G) = (n/r) G Pi_C + (m/r) Pi_R G', distance(step({rank: 3}, G), want), ROUNDING);
  });

  test("O40: equal steps on both sides need rates r/n and r/m; the form 'equal' has them, r dividing or not", () => {
    const want = (G: tf.Tensor2D, rank: number) =>
      formula('G * PC + PR * G')({
        G: fromTensor(G),
        PC: tileProjector(rank, G.shape[1]),
        PR: tileProjector(rank, G.shape[0]),
      });
    const worst = SHAPES.flatMap(shape =>
      [1, 3, 4, 30].map(rank => {
        const G = matrix(shape, 1);
        return distance(step({rank, form: 'equal'}, G), want(G, rank));
      }),
    );
    oracle('O40, equal', "form 'equal': H(G) = G Pi_C + Pi_R G", Math.max(...worst), ROUNDING);

    // The rates r/n and r/m do it for 'sum' too, where r divides.
    const G = matrix([6, 9], 1);
    const weight = tf.variable(tf.zerosLike(G));
    const rates = ({factor}: {factor: string}) => tf.train.sgd(factor === 'a' ? 3 / 9 : 3 / 6);
    const optimizer = projected(rates, additive({rank: 3}), {targets: () => true});
    optimizer.applyGradients({[weight.name]: G});
    oracle('O40, rates', 'rates r/n and r/m give the same', distance(tf.neg(weight), want(G, 3)), ROUNDING);
    optimizer.dispose();
    weight.dispose();
  });

  test('the published form and ours, side by side, where r does not divide', () => {
    // Tiles of 3 on a side of 7 are [I I e1]: three copies of the first row of I, two of the others.
    const [rank, m, n] = [3, 7, 7];
    const G = matrix([m, n], 1);
    const C = tiles(rank, n);
    const published = formula("k * G * C' * C + k * C' * C * G");
    const ours = formula('G * PC + PC * G')({G: fromTensor(G), PC: tileProjector(rank, n)});
    // With r / n in front the published sum is no sum of projectors: no k makes it one.
    const best = Math.min(
      ...Array.from({length: 60}, (_, i) =>
        reference.maxDifference(published({G: fromTensor(G), C, k: 0.01 * (i + 1)}), ours),
      ),
    );
    expect(best).toBeGreaterThan(0.1);
    expect(distance(step({rank}, G), published({G: fromTensor(G), C, k: 1}))).toBeLessThan(ROUNDING);
    expect(distance(step({rank, form: 'equal'}, G), ours)).toBeLessThan(ROUNDING);
    // Where r divides, the two differ by the number n / r alone.
    const even = matrix([6, 6], 2);
    expect(
      distance(tf.mul(step({rank, form: 'equal'}, even), 6 / 3), fromTensor(step({rank}, even))),
    ).toBeLessThan(ROUNDING);
  });

  test('O41: the orthogonal form is the projector onto all W of the form A C + R B', () => {
    const worst = {formula: 0, idempotent: 0, selfAdjoint: 0, image: 0};
    for (const shape of SHAPES) {
      for (const rank of [1, 3, 4]) {
        const options = {rank, form: 'orthogonal'} as const;
        const [G, H] = [matrix(shape, 1), matrix(shape, 2)];
        const once = step(options, G) as tf.Tensor2D;
        const size = reference.frobenius(fromTensor(G)) * reference.frobenius(fromTensor(H));
        const inner = (x: tf.Tensor, y: tf.Tensor) => values(tf.sum(tf.mul(x, y)))[0]!;
        const inImage = toTensor(change({rank}, shape, 5).delta);
        const worse = (key: keyof typeof worst, residual: number) =>
          (worst[key] = Math.max(worst[key], residual));
        worse('formula', distance(once, reference.additiveProjection(rank, fromTensor(G))));
        worse('idempotent', distance(step(options, once), fromTensor(once)));
        worse('selfAdjoint', Math.abs(inner(once, H) - inner(G, step(options, H))) / size);
        worse('image', distance(step(options, inImage), fromTensor(inImage)));
      }
    }
    oracle('O41', 'H(G) = G Pi_C + Pi_R G - Pi_R G Pi_C', worst.formula, ROUNDING);
    oracle('O41, idempotent', 'H(H(G)) = H(G)', worst.idempotent, ROUNDING);
    oracle('O41, self-adjoint', '<H(G), K> = <G, H(K)>', worst.selfAdjoint, ROUNDING);
    oracle('O41, image', 'H fixes every A C + R B of the plain form', worst.image, ROUNDING);
  });

  test.each([
    [6, 9, 3],
    [7, 5, 2],
    [5, 8, 1],
  ])('O41: its image has dimension r (m + n) - r^2: [%i, %i], r = %i', (m, n, rank) => {
    const basis = Array.from({length: m * n}, (_, i) => {
      const unit = tf.reshape(tf.oneHot(tf.tensor1d([i], 'int32'), m * n), [m, n]) as tf.Tensor2D;
      return values(step({rank, form: 'orthogonal'}, tf.cast(unit, 'float32')));
    });
    const dimension = reference.rank(reference.fromRows(basis), 1e-4);
    oracle('O41, dimension', 'rank of H = r (m + n) - r^2', Math.abs(dimension - rank * (m + n - rank)), 0);
  });

  test('O42: at r = n or r = m the orthogonal form is full SGD', () => {
    const worst = (
      [
        [6, 9, 9],
        [6, 9, 6],
        [9, 4, 4],
        [5, 5, 7],
      ] as const
    ).map(([m, n, rank]) => {
      const G = matrix([m, n], 1);
      return distance(step({rank, form: 'orthogonal'}, G), fromTensor(G));
    });
    oracle('O42', 'r = n or r = m: H(G) = G', Math.max(...worst), ROUNDING);
  });

  test('both sides carry as much of what they share: the form is its own mirror image', () => {
    const G = matrix([6, 9], 1);
    const options = {rank: 4, form: 'orthogonal'} as const;
    const [g, mirrored] = [grads(options, G), grads(options, tf.transpose(G) as tf.Tensor2D)];
    oracle('O4', 'A on G is B on G^T', distance(g.a, fromTensor(tf.transpose(mirrored.b))), ROUNDING);
  });

  test.each([{}, {rank: 4}, {rank: 4, form: 'equal'}, {rank: 4, form: 'orthogonal'}] as const)(
    'lowers a loss: %o',
    options => {
      expect(trained(additive(options), {rate: 0.2})).toBeLessThan(0.9);
    },
  );

  test('O5: a run that is saved and loaded goes on as it would have', async () => {
    const apart = await interrupted(() => additive({rank: 3, form: 'orthogonal'}));
    oracle('O5', '8 steps = 5 + save + load + 3', apart, 0);
  });

  test.each([
    [{rank: 0}, /rank must be a whole number of at least 1, not 0/],
    [{scale: 0}, /scale must be a number other than 0, not 0/],
    [{form: 'mean'}, /form must be 'sum' or 'equal' or 'orthogonal', not 'mean'/],
    [{alpha: 2}, /unknown option 'alpha'/],
  ])('refuses %o', (options, message) => {
    expect(() => additive(options as never)).toThrow(message);
  });
});
