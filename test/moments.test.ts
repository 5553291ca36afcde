import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {at, galore, type Moments, projected} from '../src/index.js';
import {randomOrthonormal} from '../src/linalg/orthonormal.js';
import {values} from './helpers.js';
import {expectOracle} from './parametrizations/oracle.js';
import {apart, cosine, norm2} from './parametrizations/subspace.js';

beforeAll(() => tf.setBackend('cpu'));

const [m, n, r] = [30, 24, 4];
const frame = randomOrthonormal(m, 2 * r, 1);
const right = randomOrthonormal(n, r, 2);

/** A gradient in four directions that are turned by an angle towards four others, with these singular values. */
function turned(angle: number, sizes: readonly number[]): tf.Tensor2D {
  const [first, second] = [0, r].map(from => tf.slice(frame, [0, from], [m, r]));
  const directions = tf.add(tf.mul(first!, Math.cos(angle)), tf.mul(second!, Math.sin(angle)));
  return tf.matMul(tf.mul(directions, tf.tensor1d([...sizes])), right, false, true) as tf.Tensor2D;
}

const inners = {
  Momentum: () => tf.train.momentum(0.1, 0.9),
  Adam: () => tf.train.adam(0.1, 0.9, 0.999, 1e-7),
};

/** The mean of gradients, as a matrix of W's shape, before and after a renewal whose own gradient weighs nothing. */
function across(name: keyof typeof inners, moments: Moments, align: boolean, angle: number) {
  const weight = tf.variable(tf.zeros([m, n]), true, 'moments');
  const inner = inners[name]();
  const optimizer = projected(inner, galore({rank: r, side: 'left', align}), {
    targets: () => true,
    refresh: at([3]),
    moments,
  });
  const inW = () => {
    const held = inner as unknown as Record<string, {variable: tf.Tensor}[] | undefined>;
    const [slot] = (held['accumulatedFirstMoment'] ?? held['accumulations'])!;
    const basis = optimizer.attached[0]!.frozen['p'] as tf.Tensor;
    return {
      mean: tf.matMul(basis as tf.Tensor2D, slot!.variable as tf.Tensor2D),
      basis: basis.clone() as tf.Tensor2D,
    };
  };
  for (let step = 0; step < 3; step++) optimizer.applyGradients({[weight.name]: turned(0, [4, 3, 2, 1])});
  const before = inW();
  // Which direction is the strongest has changed: the order of singular vectors with it.
  optimizer.applyGradients({[weight.name]: tf.mul(turned(angle, [1, 2, 3, 4]), 1e-7)});
  const after = inW();
  optimizer.dispose();
  weight.dispose();
  return {before, after, cosine: cosine(after.mean, before.mean)};
}

describe.each(['Momentum', 'Adam'] as const)('what a renewal leaves of the moments of %s', name => {
  test.each([0, 0.2, 0.5])('directions turned by %d', angle => {
    const transported = across(name, 'transport', true, angle);
    const {basis} = transported.after;
    const mean = transported.before.mean;
    const seen = tf.matMul(basis, tf.matMul(basis, mean, true));
    // No momentum in the new subspace is nearer to the old one than its projection.
    const best = Math.sqrt(norm2(seen) / norm2(mean));
    expectOracle(
      'galore',
      `moments, ${name}`,
      'cosine of a transported mean = that of its projection',
      Math.abs(transported.cosine - best),
      1e-4,
    );
    expect(best).toBeCloseTo(Math.cos(angle), 4);

    const aligned = across(name, 'keep', true, angle);
    expectOracle(
      'galore',
      `moments, ${name}, aligned`,
      'aligned: the kept mean keeps its direction as well, within',
      best - aligned.cosine,
      0.02,
    );
    const published = across(name, 'keep', false, angle);
    expect(published.cosine).toBeLessThan(0.75 * best);

    // Length: a transport loses what is outside, keeping does not.
    expect(Math.sqrt(norm2(transported.after.mean) / norm2(transported.before.mean))).toBeLessThan(
      1.01 * 0.9 * best,
    );
    const forgotten = across(name, 'reset', true, angle);
    expect(norm2(forgotten.after.mean)).toBeLessThan(1e-6 * norm2(forgotten.before.mean));
  });

  test('with no turn, aligned keeping is transport', () => {
    const [kept, transported] = [across(name, 'keep', true, 0), across(name, 'transport', true, 0)];
    expect(apart(kept.after.mean, transported.after.mean)).toBeLessThan(1e-4);
    expect(values(kept.before.mean)).toEqual(values(transported.before.mean));
  });
});
