// How far W drifts from W0 + s A B when the base is implicit (W moves by differences), over many Adam steps.
//
//     node bench/drift.mjs        writes bench/results/drift.json
//
import {writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {lora, normal, projected, symmetric} from 'tfjs-lora';

tf.enableProdMode();
await tf.setBackend('cpu');
const [m, n, rank] = [64, 48, 4];
const checkpoints = [1, 10, 100, 500, 1000, 2000];

function run(init) {
  const weight = tf.variable(normal([m, n], 1, {std: 1 / Math.sqrt(m)}));
  const base = weight.clone();
  const [x, goal] = [normal([32, m], 2), normal([m, n], 3, {std: 1 / Math.sqrt(m)})];
  const y = tf.matMul(x, goal);
  const optimizer = projected(tf.train.adam(1e-2, 0.9, 0.999, 1e-7), lora({rank, init}), {
    targets: () => true,
  });
  const rows = [];
  for (let step = 1; step <= checkpoints.at(-1); step++) {
    optimizer.minimize(() => tf.losses.meanSquaredError(y, tf.matMul(x, weight)));
    if (!checkpoints.includes(step)) continue;
    const recovered = optimizer.base(weight);
    const [drift, moved, size] = tf.tidy(() =>
      [tf.sub(recovered, base), tf.sub(weight, base), base].map(t => tf.norm(t).dataSync()[0]),
    );
    rows.push({step, drift: drift / size, moved: moved / size});
    recovered.dispose();
  }
  optimizer.dispose();
  return rows;
}

const result = {
  what: 'relative Frobenius norms: drift of the implicit base, and how far W moved',
  shape: [m, n],
  rank,
  optimizer: 'adam(1e-2)',
  backend: 'cpu, float32',
  tfjs: tf.version.tfjs,
  'one-sided start': run(undefined),
  'symmetric start': run(symmetric()),
};
console.table(result['one-sided start']);
console.table(result['symmetric start']);
writeFileSync(new URL('results/drift.json', import.meta.url), JSON.stringify(result, null, 2) + '\n');
