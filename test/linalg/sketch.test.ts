import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {expect, test} from 'vitest';
import {denseGradient} from '../../src/capture/gradient.js';
import {addToSketch, beginSketch, topOfSketch} from '../../src/linalg/sketch.js';
import {normal, splitSeed} from '../../src/random.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {anyMatrix, assembled, distance, ofRank, onBackends, random, skew} from './matrices.js';

const operator = (a: tf.Tensor2D) => denseGradient(a, a.shape);
const sketched = (parts: tf.Tensor2D[], rank: number, seed = 1) =>
  parts.reduce(
    (sums, part) => addToSketch(sums, operator(part)),
    beginSketch({shape: parts[0]!.shape, rank, seed}),
  );

onBackends('sketch', () => {
  test('a sum of low rank is recovered exactly, whatever its parts', () => {
    fc.assert(
      fc.property(anyMatrix, fc.integer({min: 1, max: 5}), ({m, n, size, seed, make}, parts) => {
        tf.tidy(() => {
          const whole = make();
          const others = Array.from(
            {length: parts},
            (_, i) => tf.mul(random(m, n, seed ^ (i + 1)), size) as tf.Tensor2D,
          );
          const rest = tf.sub(whole, tf.addN([tf.zerosLike(whole), ...others])) as tf.Tensor2D;
          const rank = Math.min(m, n);
          const {u, s, v, norm2} = topOfSketch(sketched([...others, rest], rank), {rank});
          expect(Math.max(skew(u), skew(v))).toBeLessThan(1e-6);
          const error = tf.sub(
            assembled(
              u,
              s.map(x => x / size),
              v,
            ),
            tf.div(whole, size),
          );
          expect(Math.max(...values(tf.abs(error)))).toBeLessThan(2e-4);
          // min(m, n) is below 2 rank + 1: all is known.
          const wanted = reference.frobenius(fromTensor(whole)) ** 2;
          if (wanted > 1e-3 * size ** 2) expect(norm2 / wanted).toBeCloseTo(1, 4);
        });
      }),
      {numRuns: 100},
    );
  });

  test('large and of low rank: exact from the two thin products', () => {
    const parts = [ofRank(70, 60, 2, 1), ofRank(70, 60, 2, 2)];
    const sketch = sketched(parts, 4);
    expect([sketch.y.shape, sketch.z.shape]).toEqual([
      [70, 9],
      [19, 60],
    ]);
    const {u, s, v} = topOfSketch(sketch, {rank: 4});
    expect(distance(assembled(u, s, v), tf.add(parts[0]!, parts[1]!))).toBeLessThan(1e-5);
  });

  test('full rank with decay: close to the best of this rank', () => {
    const a = tf.mul(
      random(70, 60, 1),
      tf.tensor2d(
        Array.from({length: 60}, (_, j) => 0.85 ** j),
        [1, 60],
      ),
    ) as tf.Tensor2D;
    const {u, s, v} = topOfSketch(sketched([a], 6), {rank: 6});
    const tail = Math.sqrt(
      reference
        .singularValues(fromTensor(a))
        .slice(6)
        .reduce((sum, x) => sum + x * x, 0),
    );
    const error = reference.frobenius(fromTensor(tf.sub(assembled(u, s, v), a)));
    expect(error / tail).toBeGreaterThan(1);
    expect(error / tail).toBeLessThan(1.6);
  });

  test('the estimate of the squared norm has no bias', () => {
    const a = random(50, 40, 9);
    const estimates = Array.from(
      {length: 60},
      (_, seed) => topOfSketch(sketched([a], 3, seed), {rank: 1}).norm2,
    );
    const mean = estimates.reduce((sum, x) => sum + x, 0) / 60;
    expect(mean / reference.frobenius(fromTensor(a)) ** 2).toBeCloseTo(1, 1);
  });

  test('linear: the order does not matter; any seed of 32 bits travels along', () => {
    for (const seed of [0, -1, 0x7fffffff, -(2 ** 31), 123456789]) {
      const [a, b] = [random(30, 20, 1), random(30, 20, 2)];
      const [one, two] = [sketched([a, b], 2, seed), sketched([b, a], 2, seed)];
      expect(distance(one.y, two.y)).toBeLessThan(1e-6);
      expect(distance(one.z, sketched([tf.add(a, b)], 2, seed).z)).toBeLessThan(1e-5);
      const [high, low] = values(one.seed);
      expect((high! * 65536 + low!) | 0).toBe(seed);
      const omega = normal([20, 5], splitSeed(seed, 'omega')) as tf.Tensor2D;
      expect(distance(one.y, tf.matMul(tf.add(a, b), omega))).toBeLessThan(1e-5);
    }
    const [one, other] = [1, 1 + 2 ** 20].map(seed => sketched([random(30, 20, 1)], 2, seed));
    expect(distance(one!.y, other!.y)).toBeGreaterThan(0.01);
  });

  test('errors: another shape, NaN, more than was sketched', () => {
    const sketch = beginSketch({shape: [30, 20], rank: 2, seed: 1});
    expect(() => addToSketch(sketch, operator(random(20, 30, 1)))).toThrow(
      '[30, 20] meets a gradient of [20, 30]',
    );
    expect(() => topOfSketch(addToSketch(sketch, operator(tf.fill([30, 20], NaN))), {rank: 2})).toThrow(
      /topOfSketch: the sketch .* NaN/,
    );
    expect(() => topOfSketch(sketch, {rank: 6})).toThrow('from 1 to 5');
  });
});
