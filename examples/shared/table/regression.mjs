// Trains a model that gives one number for a row of a table, measures it, and says what a straight line would do.
import * as tf from '@tensorflow/tfjs';
import {shuffles} from '../random.mjs';

/** The root of the mean squared error on a part of a table, in the unit of its label. */
export function error(model, {features, unit}, part) {
  const mean = tf.tidy(() => {
    const guess = model.predictOnBatch(tf.tensor2d(part.x, [part.rows, features.length]));
    return tf.mean(tf.squaredDifference(tf.reshape(guess, [-1]), part.y)).dataSync()[0];
  });
  return unit * Math.sqrt(mean);
}

/**
 * Trains for some steps of one batch each, the rows in an order that follows from the seed.
 * @param options.rate the learning rate of each step, for a stock optimizer of tfjs, which has no schedules
 * @param options.look called every `lookEvery` steps and before the first
 * @returns the loss of each step: the mean squared error in standard deviations of the label
 */
export async function train(model, optimizer, {features, train: {x, y, rows}}, options) {
  const {steps, batch, seed, rate, onStep = () => {}, look = () => {}, lookEvery = steps} = options;
  model.compile({optimizer, loss: 'meanSquaredError'});
  const width = features.length;
  const order = shuffles([...Array(rows).keys()], seed);
  const losses = [];
  look(0);
  for (let step = 1; step <= steps; step++) {
    if (rate) optimizer.learningRate = rate(step - 1, {});
    const places = Array.from({length: batch}, () => order.next().value);
    const inputs = tf.tensor2d(
      Float32Array.from(places.flatMap(place => [...x.subarray(place * width, (place + 1) * width)])),
      [batch, width],
    );
    const labels = tf.tensor2d(
      Float32Array.from(places, place => y[place]),
      [batch, 1],
    );
    losses.push(await model.trainOnBatch(inputs, labels));
    tf.dispose([inputs, labels]);
    onStep({step, steps, loss: losses.at(-1)});
    if (step % lookEvery === 0 || step === steps) look(step);
  }
  return losses;
}

/**
 * The straight line with the smallest squared error on the rows to learn from, by the normal equations
 * `X^T X w = X^T y`, X with a column of ones.
 * @returns its error on the test rows, in the unit of the label
 */
export function linearRegression({features, unit, train, test}) {
  const row = ({x}, i) => [...x.subarray(i * features.length, (i + 1) * features.length), 1];
  const size = features.length + 1;
  const equations = Array.from({length: size}, () => Array(size + 1).fill(0));
  for (let i = 0; i < train.rows; i++) {
    const cells = row(train, i);
    const all = [...cells, train.y[i]];
    for (let a = 0; a < size; a++) for (let b = 0; b <= size; b++) equations[a][b] += cells[a] * all[b];
  }
  const weights = solve(equations);
  let sum = 0;
  for (let i = 0; i < test.rows; i++) {
    const guess = row(test, i).reduce((total, cell, a) => total + cell * weights[a], 0);
    sum += (guess - test.y[i]) ** 2;
  }
  return unit * Math.sqrt(sum / test.rows);
}

/** The error on the test rows of saying the mean of the rows to learn from, which is 0, each time. */
export const alwaysTheMean = ({unit, test}) =>
  unit * Math.sqrt(test.y.reduce((sum, value) => sum + value ** 2, 0) / test.rows);

/**
 * Solves linear equations, the right side last in each, by elimination with the largest pivot. An unknown that the others
 * make superfluous is 0.
 */
function solve(equations) {
  const size = equations.length;
  const least = 1e-9 * Math.max(...equations.map((cells, k) => Math.abs(cells[k])));
  for (let k = 0; k < size; k++) {
    const pivot = equations.reduce(
      (best, cells, i) => (i > k && Math.abs(cells[k]) > Math.abs(equations[best][k]) ? i : best),
      k,
    );
    [equations[k], equations[pivot]] = [equations[pivot], equations[k]];
    if (Math.abs(equations[k][k]) < least) continue;
    for (let i = 0; i < size; i++) {
      if (i === k) continue;
      const times = equations[i][k] / equations[k][k];
      for (let j = k; j <= size; j++) equations[i][j] -= times * equations[k][j];
    }
  }
  return equations.map((cells, k) => (Math.abs(cells[k]) < least ? 0 : cells[size] / cells[k]));
}
