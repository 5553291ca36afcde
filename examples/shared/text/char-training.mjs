// Trains the character model, and compares ways to train it.
import * as tf from '@tensorflow/tfjs';
import {trainedBy} from '../cost.mjs';
import {count} from '../format.mjs';
import {progressLine} from '../progress.mjs';
import {random} from '../random.mjs';
import {tryRates} from '../rates.mjs';
import {batch, nats} from './char-model.mjs';

/**
 * Trains for some steps; with `look` it measures six times on the way.
 * @param {import('./authors.mjs').Task} task
 * @returns {Promise<{losses: number[], seen: {step: number, target: number, base: number}[], seconds: number}>} nats a
 *   character
 */
export async function train({model, base, target, time}, optimizer, settings) {
  const {steps, batch: rows, seed, label = '', look = false} = settings;
  model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
  const next = random(seed + 1);
  const show = progressLine(label, {unit: ' nats'});
  const losses = [];
  const seen = [];
  const start = performance.now();
  const measure = async step => {
    const few = Math.min(3200, target.validation.length);
    const [learned, known] = [target.validation, base.test].map(text => text.subarray(0, few));
    seen.push({step, target: await nats(model, learned), base: await nats(model, known)});
  };
  if (look) await measure(0);
  for (let step = 1; step <= steps; step++) {
    const {x, y} = batch(target.train, {rows, time, next});
    losses.push(await model.trainOnBatch(x, y));
    tf.dispose([x, y]);
    show({step, steps, loss: losses.at(-1)});
    if (look && (step % Math.ceil(steps / 6) === 0 || step === steps)) await measure(step);
  }
  return {losses, seen, seconds: (performance.now() - start) / 1000};
}

/**
 * Every method on the same pieces of text: rates by a third of the steps and 8,000 validation characters, then all
 * steps at the best rate, measured on the text held out and on what the model knew.
 * @param {Record<string, {rates: number[], optimizer: (settings: object) => object}>} methods
 * @param restart puts the model's weights back
 */
export async function compare(methods, task, settings, restart) {
  const {model, base, target} = task;
  const few = Math.ceil(settings.steps / 3);
  const rows = [];
  for (const [method, {rates, optimizer: make}] of Object.entries(methods)) {
    const attempt = async (rate, steps) => {
      restart();
      const optimizer = make({...settings, rate, steps});
      await train(task, optimizer, {...settings, steps, label: `${method}, rate ${rate}: `});
      const trained =
        'explain' in optimizer
          ? trainedBy(optimizer, model)
          : model.trainableWeights.reduce((sum, {shape}) => sum + tf.util.sizeFromShape(shape), 0);
      optimizer.dispose();
      return trained;
    };
    const {best, tried} = await tryRates(rates, async rate => {
      await attempt(rate, few);
      const validation = await nats(model, target.validation.subarray(0, 8000));
      console.log(`${method}, rate ${rate}: ${validation.toFixed(3)} nats on the validation part`);
      return {validation, score: -validation};
    });
    const trained = await attempt(best.rate, settings.steps);
    const after = {target: await nats(model, target.test), base: await nats(model, base.test)};
    rows.push({
      ...{method, rate: best.rate, trained, ...after},
      tried: tried.map(({rate, validation}) => ({rate, steps: few, validation})),
    });
  }
  return rows;
}

/** What `compare` found, as a table. */
export const compareTable = (rows, {base, target}) => [
  ['Method, nats after', 'rate', target.name, base.name, 'trained'],
  ...rows.map(({method, rate, target, base, trained}) => [
    ...[method, String(rate), target.toFixed(3), base.toFixed(3), count(trained)],
  ]),
];
