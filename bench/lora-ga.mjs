// What LoRA-GA's start costs beside a plain training step, and what it allocates.
//
//     node bench/lora-ga.mjs      writes bench/results/lora-ga.json
//
import {writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {kaiming, lora, loraGA, normal, projected} from '../dist/index.js';
import {installWasmKernels} from '../dist/wasm/index.js';
import {spread} from './statistics.mjs';

tf.enableProdMode();
await tf.setBackend('wasm');
const [D, T, rank, rounds] = [1024, 256, 8, 9];
const adam = () => tf.train.adam(1e-3, 0.9, 0.999, 1e-7);
const [x, goal] = [normal([T, D], 1), normal([T, D], 2)];

/** The ms of a first step and of later ones, and the tensors of at least D x D numbers made in the first. */
function run(makeOptimizer) {
  const weight = tf.variable(normal([D, D], 3, {std: 1 / Math.sqrt(D)}));
  const optimizer = makeOptimizer();
  const step = () => {
    const start = performance.now();
    optimizer.minimize(() => tf.mean(tf.square(tf.sub(tf.matMul(x, weight), goal))), false, [weight]);
    return performance.now() - start;
  };
  const engine = tf.engine();
  const {trackTensor} = engine;
  const large = [];
  engine.trackTensor = function (tensor, backend) {
    const isNew = !engine.state.tensorInfo.has(tensor.dataId);
    if (isNew && tensor.size >= D * D) large.push(tensor.shape);
    return trackTensor.call(this, tensor, backend);
  };
  const first = step();
  delete engine.trackTensor;
  const later = [step(), step(), step()];
  optimizer.dispose();
  weight.dispose();
  return {first, later: Math.min(...later), large};
}

const ours = init => () => projected(adam(), lora({rank, rankStabilised: true, init}), {targets: () => true});
const candidates = {
  'plain, as shipped': adam,
  'tfjs-lora, kaiming': ours(kaiming()),
  'tfjs-lora, loraGA': ours(loraGA()),
};
const seen = Object.fromEntries(Object.keys(candidates).map(name => [name, []]));
for (let round = -1; round < rounds; round++) {
  for (const [name, make] of Object.entries(candidates)) {
    const result = run(make);
    if (round >= 0) seen[name].push(result);
  }
}
installWasmKernels();
seen['plain, fast kernels'] = Array.from({length: rounds}, () => run(adam));

const rows = Object.entries(seen).map(([name, results]) => ({
  name,
  firstMs: spread(results.map(({first}) => first)),
  laterMs: spread(results.map(({later}) => later)),
  tensorsOfDxDInFirstStep: results[0].large.length,
}));
const median = (name, key) => rows.find(row => row.name === name)[key].median;
const startMs = median('tfjs-lora, loraGA', 'firstMs') - median('tfjs-lora, kaiming', 'firstMs');
const result = {
  what: "LoRA-GA's start on one D x D layer: the first step with it less the first step with kaiming",
  ...{D, T, rank, rounds, rows, startMs},
  inPlainSteps: startMs / median('plain, as shipped', 'laterMs'),
  inPlainStepsOnFastKernels: startMs / median('plain, fast kernels', 'laterMs'),
};
writeFileSync(new URL('results/lora-ga.json', import.meta.url), JSON.stringify(result, null, 2) + '\n');
console.log(JSON.stringify(result, null, 1));
