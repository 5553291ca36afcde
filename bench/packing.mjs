// What a product x W costs on wasm when W is new data at every step, and whether another form of it costs less.
//
//     node bench/packing.mjs      writes bench/results/packing.json
//
import {writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {turned} from '../dist/capture/layout.js';
import {spread} from './statistics.mjs';

tf.enableProdMode();
await tf.setBackend('wasm');
const rounds = 40;

function measure(D, T) {
  const x = tf.randomNormal([T, D], 0, 1, 'float32', 1);
  const still = tf.randomNormal([D, D], 0, 1, 'float32', 2);
  let moving = tf.randomNormal([D, D], 0, 1, 'float32', 3);
  const ways = {
    'x W, W as it was': () => tf.matMul(x, still),
    'x W, W new': () => tf.matMul(x, moving),
    '(W^T x^T)^T, W new': () => turned(tf.matMul(turned(moving), turned(x))),
  };
  const times = Object.fromEntries(Object.keys(ways).map(way => [way, []]));
  for (let round = -2; round < rounds; round++) {
    for (const [way, compute] of Object.entries(ways)) {
      const next = tf.mul(moving, 1);
      moving.dispose();
      moving = next;
      const start = performance.now();
      const y = tf.tidy(compute);
      const ms = performance.now() - start;
      y.dispose();
      if (round >= 0) times[way].push(ms);
    }
  }
  tf.dispose([x, still, moving]);
  return {D, T, ms: Object.fromEntries(Object.entries(times).map(([way, values]) => [way, spread(values)]))};
}

const runs = [measure(1024, 256), measure(512, 2048)];
const file = new URL('results/packing.json', import.meta.url);
writeFileSync(
  file,
  JSON.stringify({what: 'ms of one product on wasm, one thread', rounds, runs}, null, 2) + '\n',
);
for (const {D, T, ms} of runs) {
  for (const [way, {median}] of Object.entries(ms))
    console.log(`D ${D}, T ${T}: ${way}: ${median.toFixed(1)} ms`);
}
