// Fine-tunes a classifier of small grey images, and measures it. Runs in Node and in a browser.
import * as tf from '@tensorflow/tfjs';
import {shuffles} from '../random.mjs';

/**
 * Labelled images.
 * @typedef {{pixels: Uint8Array, labels: Uint8Array, side: number}} Images
 */

/** Some of the images: those at the given places, as [n, side, side, 1] from 0 to 1, or [n, side * side] if flat. */
export function imageTensor({pixels, side}, places, {flat = false} = {}) {
  const size = side * side;
  const values = new Float32Array(places.length * size);
  places.forEach((place, row) => {
    for (let i = 0; i < size; i++) values[row * size + i] = pixels[place * size + i] / 255;
  });
  return flat
    ? tf.tensor2d(values, [places.length, size])
    : tf.tensor4d(values, [places.length, side, side, 1]);
}

/** The images from one place up to another, without copying. */
export function part({pixels, labels, side}, from, to) {
  const size = side * side;
  return {pixels: pixels.subarray(from * size, to * size), labels: labels.subarray(from, to), side};
}

/** The share of images, from 0 to 1, for which the model's largest output is the label. */
export async function accuracy(model, images, {flat = model.inputs[0].shape.length === 2} = {}) {
  const n = images.labels.length;
  let right = 0;
  for (let from = 0; from < n; from += 250) {
    const places = range(from, Math.min(n, from + 250));
    const guesses = tf.tidy(() => tf.argMax(model.predict(imageTensor(images, places, {flat})), 1));
    (await guesses.data()).forEach((guess, i) => {
      if (guess === images.labels[places[i]]) right++;
    });
    guesses.dispose();
  }
  return right / n;
}

/**
 * Trains a model for some steps of one batch each, the images in an order that follows from the seed.
 * @param options.rate the learning rate of each step; a stock optimizer of tfjs has no schedules, so its rate is set
 *   by hand, while a projected optimizer gets the schedule when it is made
 * @param options.onStep called after every step with {step, steps, loss, accuracy}: those of the step's batch
 * @param options.look called every `lookEvery` steps, for instance to measure the model on held-out images
 */
export async function fineTune(model, optimizer, images, options) {
  const {steps, batch, seed, classes, rate, onStep = () => {}, look, lookEvery = steps} = options;
  model.compile({optimizer, loss: 'categoricalCrossentropy', metrics: ['accuracy']});
  const flat = model.inputs[0].shape.length === 2;
  const losses = [];
  const order = shuffles(range(0, images.labels.length), seed);
  for (let step = 1; step <= steps; step++) {
    if (rate) optimizer.learningRate = rate(step - 1, {});
    const places = Array.from({length: batch}, () => order.next().value);
    const x = imageTensor(images, places, {flat});
    const y = tf.tidy(() =>
      tf.oneHot(
        tf.tensor1d(
          [...places].map(i => images.labels[i]),
          'int32',
        ),
        classes,
      ),
    );
    const [loss, right] = await model.trainOnBatch(x, y);
    tf.dispose([x, y]);
    losses.push(loss);
    await onStep({step, steps, loss, accuracy: right});
    if (look && (step % lookEvery === 0 || step === steps)) await look(step);
  }
  return losses;
}

const range = (from, to) => Array.from({length: to - from}, (_, i) => from + i);
