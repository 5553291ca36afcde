import {setTimeout} from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {chooseBackend} from '../../src/cli/backend.js';
import type {Step} from '../../src/cli/progress.js';
import {minimized, trainingLoop} from '../../src/cli/training-loop.js';
import {tensorsLeftBy} from '../helpers.js';

beforeAll(async () => {
  await chooseBackend('cpu');
});

describe('trainingLoop', () => {
  test('takes the steps that are left, and tells each', async () => {
    const told: Step[] = [];
    const loss = [9, 8];
    const done = await trainingLoop(async index => 10 * index, {
      ...{steps: 5, loss, tokens: 7},
      onStep: step => void told.push(step),
    });
    expect(done).toMatchObject({loss: [9, 8, 20, 30, 40], diverged: false});
    expect(done.loss).toBe(loss);
    expect(told).toEqual([3, 4, 5].map(step => ({step, steps: 5, loss: 10 * (step - 1), tokens: 7})));
  });

  test('waits for what is done after a step', async () => {
    const order: string[] = [];
    await trainingLoop(async index => order.push(`step ${index}`), {
      ...{steps: 2, tokens: 1},
      onStep: async () => {
        await setTimeout(5);
        order.push('saved');
      },
    });
    expect(order).toEqual(['step 0', 'saved', 'step 1', 'saved']);
  });

  test('a signal ends it after the step at hand', async () => {
    const stop = new AbortController();
    process.once('SIGINT', () => stop.abort());
    const onStep = ({step}: Step) => void (step === 2 && process.kill(process.pid, 'SIGINT'));
    const options = {steps: 10_000, tokens: 1, onStep, signal: stop.signal};
    const {loss, diverged} = await trainingLoop(async index => index, options);
    expect(loss.length).toBeGreaterThanOrEqual(2);
    expect(loss.length).toBeLessThan(10_000);
    expect(diverged).toBe(false);
    expect((await trainingLoop(async () => 1, options)).loss).toEqual([]);
  });

  test('a refusal of the optimizer ends it, and any other error passes through', async () => {
    const failing = (message: string) => {
      const takeStep = async (index: number) => {
        if (index === 2) throw new Error(message);
        return index;
      };
      return trainingLoop(takeStep, {steps: 5, tokens: 1});
    };
    for (const message of ['the gradient holds NaN or infinity', 'the gradient is too large to square'])
      expect(await failing(message)).toMatchObject({loss: [0, 1], diverged: true});
    await expect(failing('no memory')).rejects.toThrow('no memory');
  });

  test('the time of a step is the median', async () => {
    const takeStep = async (index: number) => {
      await setTimeout(index === 1 ? 200 : 20);
      return 0;
    };
    const {msPerStep} = await trainingLoop(takeStep, {steps: 5, tokens: 1});
    expect(msPerStep).toBeGreaterThan(15);
    expect(msPerStep).toBeLessThan(150);
    expect((await trainingLoop(takeStep, {steps: 0, tokens: 1})).msPerStep).toBe(0);
  });
});

test('minimized takes one step, gives the cost before it and leaves no tensor behind', async () => {
  const x = tf.variable(tf.scalar(3));
  const optimizer = tf.train.sgd(0.25);
  let cost = 0;
  const left = await tensorsLeftBy(async () => {
    cost = await minimized(optimizer, () => tf.square(x).asScalar(), [x]);
  });
  expect([cost, x.dataSync()[0], left]).toEqual([9, 1.5, 0]);
  tf.dispose([x]);
  optimizer.dispose();
});
