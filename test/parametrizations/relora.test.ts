import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {every, lora, loraAdam, projected, restarts, symmetric} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, values} from '../helpers.js';
import {interrupted, matrix} from './exercise.js';
import {expectOracle} from './oracle.js';
import {apart, gradientAt} from './subspace.js';

beforeAll(() => tf.setBackend('cpu'));

const adam = () => tf.train.adam(0.05, 0.9, 0.999, 1e-7);
const all = {targets: () => true} as const;

describe('ReLoRA: lora with a refresh', () => {
  test('O50: W - W0 gains up to r in rank with every refresh, and W does not move at one', () => {
    for (const [options, gain] of [
      [{}, 2],
      [{init: symmetric()}, 4],
    ] as const) {
      const weight = tf.variable(matrix([14, 12], 1), true, `relora-${gain}`);
      const start = weight.clone();
      const optimizer = projected(adam(), lora({rank: 2, ...options}), {
        ...all,
        refresh: every(6),
        moments: 'reset',
      });
      for (let step = 0; step < 18; step++) {
        optimizer.applyGradients({[weight.name]: gradientAt([14, 12], step)});
        if (step % 6 !== 5) continue;
        const found = reference.rank(fromTensor(tf.sub(weight, start)), 1e-5);
        const wanted = Math.min(gain * ((step + 1) / 6), 12);
        expectOracle(
          'lora',
          'O50',
          'rank(W - W0) after k refreshes = (k + 1) r',
          Math.abs(found - wanted),
          0,
        );
      }
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('O50: a refresh and a step of rate 0 leave W as it was; the factors start again', () => {
    const weight = tf.variable(matrix([9, 8], 1), true, 'relora-continuity');
    let rate = 0.05;
    const options = {...all, refresh: every(3), moments: 'reset', learningRate: () => rate} as const;
    const optimizer = projected(adam(), lora({rank: 2}), options);
    const take = (step: number) => optimizer.applyGradients({[weight.name]: gradientAt([9, 8], step)});
    [0, 1, 2].forEach(take);
    const [before, old] = [weight.clone(), values(optimizer.factors(weight)['a']!)];
    rate = 0;
    take(3);
    expectOracle('lora', 'O50, continuity', 'W across a refresh, relative', apart(weight, before), 1e-6);
    const {a, b} = optimizer.factors(weight);
    expect(values(b!).every(x => x === 0)).toBe(true);
    expect(values(a!)).not.toEqual(old);
    optimizer.dispose();
    weight.dispose();
  });

  test("the first step after a refresh is Adam's first: as long as the rate, and not 3.2 times", () => {
    const weight = tf.variable(tf.zeros([9, 8]), true, 'relora-first');
    const optimizer = projected(adam(), lora({rank: 2}), {...all, refresh: every(200), moments: 'reset'});
    const G = gradientAt([9, 8], 0);
    for (let step = 0; step <= 200; step++) optimizer.applyGradients({[weight.name]: G});
    const {b} = optimizer.factors(weight);
    const longest = tf.max(tf.abs(b!)).dataSync()[0]!;
    expectOracle(
      'lora',
      'ReLoRA',
      "max |b| after the first step of a cycle, over Adam's rate",
      Math.abs(longest / 0.05 - 1),
      1e-4,
    );
    optimizer.dispose();
    weight.dispose();
  });

  test('trains beyond the rank of one adapter', () => {
    const [x, wanted] = [matrix([40, 16], 1), matrix([16, 14], 2)];
    const y = tf.matMul(x, wanted);
    const run = (refresh: boolean) => {
      const weight = tf.variable(tf.zeros([16, 14]), true, `relora-train-${refresh}`);
      const steps = 240;
      const rate = restarts(0.1, {steps, every: 60, warmup: 5, floor: 0.005});
      const optimizer = loraAdam(rate, {
        rank: 2,
        ...all,
        ...(refresh && {refresh: every(60), moments: 'reset'}),
      });
      const loss = () => tf.mean(tf.squaredDifference(tf.matMul(x, weight), y)) as tf.Scalar;
      for (let step = 0; step < steps; step++) optimizer.minimize(loss);
      const last = values(loss())[0]!;
      optimizer.dispose();
      weight.dispose();
      return last;
    };
    expect(run(true)).toBeLessThan(0.8 * run(false));
  });

  test('a run that is saved and loaded goes on as it would have', async () => {
    const learningRate = restarts(0.05, {steps: 8, every: 3, warmup: 2});
    const options = {refresh: every(3), moments: 'reset', learningRate} as const;
    expect(await interrupted(() => lora({rank: 3}), options)).toBe(0);
  });
});
