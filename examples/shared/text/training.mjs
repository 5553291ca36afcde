// Trains the classifier of sentences, and says what it takes for what.
import * as tf from '@tensorflow/tfjs';
import {progressLine} from '../progress.mjs';
import {shuffles} from '../random.mjs';
import {accuracy, tensors} from './classifier.mjs';

/**
 * Trains for some steps; with `look` it measures eight times on the way.
 * @returns {Promise<{losses: number[], seen: {step: number, accuracy: number}[], seconds: number}>}
 */
export async function train(model, optimizer, {train: sentences, validation, labels}, settings) {
  const {steps, batch, seed, label = '', look = false} = settings;
  model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
  const order = shuffles(sentences, seed + 1);
  const show = progressLine(label);
  const losses = [];
  const seen = look ? [{step: 0, accuracy: await accuracy(model, validation, labels)}] : [];
  const start = performance.now();
  for (let step = 1; step <= steps; step++) {
    const {x, y} = tensors(
      Array.from({length: batch}, () => order.next().value),
      labels,
    );
    losses.push(await model.trainOnBatch(x, y));
    tf.dispose([x, y]);
    show({step, steps, loss: losses.at(-1)});
    if (look && (step % Math.ceil(steps / 8) === 0 || step === steps))
      seen.push({step, accuracy: await accuracy(model, validation, labels)});
  }
  return {losses, seen, seconds: (performance.now() - start) / 1000};
}

/**
 * The pairs of labels that are confused most.
 * @param {number[]} found for each held-out sentence the place of the label that was found
 * @returns {{is: string, taken: string, times: number, of: number}[]}
 */
export function mostConfused(found, {test, labels}) {
  const pairs = new Map();
  const of = new Map();
  test.forEach(({label}, i) => {
    of.set(label, (of.get(label) ?? 0) + 1);
    const taken = labels[found[i]];
    if (taken !== label) pairs.set(`${label}\t${taken}`, (pairs.get(`${label}\t${taken}`) ?? 0) + 1);
  });
  return [...pairs]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 6)
    .map(([pair, times]) => {
      const [is, taken] = pair.split('\t');
      return {is, taken, times, of: of.get(is)};
    });
}
