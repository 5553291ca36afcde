// How far a random projection per step moves the weights, beside SGD at equal mean progress: T steps along one gradient.
//
//     node bench/displacement.mjs        writes bench/results/displacement.json
//
import {writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {normal, projected, randomProjection} from 'tfjs-lora';

tf.enableProdMode();
await tf.setBackend('cpu');
const [m, n, rank, eta] = [32, 24, 2, 1e-4];
const gradient = normal([m, n], 1);
const length = tf.sum(tf.square(gradient)).dataSync()[0];
const forms = {
  'one-sided, Gaussian': [{sides: 'left'}, T => 1 + (m + 1) / (rank * T)],
  'one-sided, orthonormal': [{sides: 'left', distribution: 'orthonormal'}, T => 1 + (m / rank - 1) / T],
  'two-sided, Gaussian': [{}, T => 1 + (m + n + 2) / (4 * rank * T)],
};

function moved(options, steps, seed) {
  const weight = tf.variable(tf.zeros([m, n]));
  const optimizer = projected(tf.train.sgd(eta), randomProjection({rank, ...options}), {
    targets: () => true,
    seed,
  });
  for (let step = 0; step < steps; step++) optimizer.applyGradients({[weight.name]: gradient});
  const ratio = tf.tidy(() => tf.sum(tf.square(weight)).dataSync()[0]) / (length * (eta * steps) ** 2);
  optimizer.dispose();
  weight.dispose();
  return ratio;
}

const rows = Object.entries(forms).flatMap(([form, [options, law]]) =>
  [1, 4, 16, 64].map(steps => {
    const runs = Math.max(20, 320 / steps);
    const seen = Array.from({length: runs}, (_, seed) => moved(options, steps, seed));
    const mean = seen.reduce((sum, x) => sum + x, 0) / runs;
    const error = Math.sqrt(seen.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (runs - 1) / runs);
    return {form, steps, runs, mean, error, law: law(steps)};
  }),
);
console.table(rows);
const result = {
  what: 'squared displacement ||W_T - W0||^2 over that of SGD, ||eta T G||^2: mean, standard error, and the law',
  shape: [m, n],
  rank,
  eta,
  backend: 'cpu, float32',
  tfjs: tf.version.tfjs,
  rows,
};
writeFileSync(new URL('results/displacement.json', import.meta.url), JSON.stringify(result, null, 2) + '\n');
