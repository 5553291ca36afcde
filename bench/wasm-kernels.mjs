// Stock kernels of the wasm backend against those of tfjs-lora/wasm: one process, one after the other in every round,
// medians in ms. A stock time of null: the kernel is missing and the call throws.
//
//     npm run build && BENCH_NOTE='a remark for the file' node bench/wasm-kernels.mjs
//
// writes bench/results/wasm-kernels.json
import {writeFileSync} from 'node:fs';
import os from 'node:os';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {installWasmKernels} from 'tfjs-lora/wasm';

const rounds = 9;
// Importing installed them.
installWasmKernels()();
await tf.setBackend('wasm');
const random = (...shape) => tf.randomNormal(shape, 0, 1, 'float32', 1);

/** The gradient of `f` at `x`, for a fixed dy; what is returned is disposed. */
const slope = (f, x) => {
  const dy = tf.tidy(() => tf.onesLike(f(x)));
  const gradient = tf.grad(f);
  return () => gradient(x, dy);
};

const x = random(8, 32, 32, 32);
const filter = random(3, 3, 32, 64);
const depthwise = random(3, 3, 32, 1);
const ids = tf.randomUniform([512], 0, 8000, 'int32', 1);
const [q, k] = [random(4, 64, 8, 32), random(4, 64, 8, 32)];

const cases = {
  'matMul a^T b, a and b [1024,1024]': (
    a => () =>
      tf.matMul(a, a, true)
  )(random(1024, 1024)),
  'matMul a b^T, a and b [1024,1024]': (
    a => () =>
      tf.matMul(a, a, false, true)
  )(random(1024, 1024)),
  'gather of 512 rows from [8000,256], gradient': slope(w => tf.gather(w, ids), random(8000, 256)),
  'conv2d [8,32,32,32] 3x3 to 64, filter gradient': slope(w => tf.conv2d(x, w, 1, 'same'), filter),
  'conv2d [8,32,32,32] 3x3 to 64, stride 2, filter gradient': slope(w => tf.conv2d(x, w, 2, 'same'), filter),
  'conv2d [8,32,32,3] 3x3 to 32, filter gradient': (image =>
    slope(w => tf.conv2d(image, w, 1, 'same'), random(3, 3, 3, 32)))(random(8, 32, 32, 3)),
  'conv2d [8,32,32,32] 3x3 to 64, input gradient': slope(x => tf.conv2d(x, filter, 1, 'same'), x),
  'conv2d [8,32,32,32] 1x1 to 64, input gradient': (w => slope(x => tf.conv2d(x, w, 1, 'same'), x))(
    random(1, 1, 32, 64),
  ),
  'conv2d [8,32,32,2] 3x3 to 2, input gradient': (w =>
    slope(x => tf.conv2d(x, w, 1, 'same'), random(8, 32, 32, 2)))(random(3, 3, 2, 2)),
  'depthwiseConv2d [8,32,32,32] 3x3, filter gradient': slope(
    w => tf.depthwiseConv2d(x, w, 1, 'same'),
    depthwise,
  ),
  'depthwiseConv2d [8,32,32,32] 3x3, input gradient': slope(
    x => tf.depthwiseConv2d(x, depthwise, 1, 'same'),
    x,
  ),
  'einsum bqhd,bkhd->bhqk, [4,64,8,32] each': () => tf.einsum('bqhd,bkhd->bhqk', q, k),
  'maxPool [8,32,32,32] 2x2, gradient': slope(x => tf.maxPool(x, 2, 2, 'same'), x),
};

/** One call in ms, or null if it throws; the wasm backend computes before it returns. */
function time(run) {
  const start = performance.now();
  try {
    tf.dispose(run());
  } catch {
    return null;
  }
  return performance.now() - start;
}

const summary = times => {
  if (times.includes(null)) return null;
  const sorted = [...times].sort((a, b) => a - b);
  const at = share => +sorted[Math.round(share * (sorted.length - 1))].toFixed(3);
  return {median: at(0.5), quartiles: [at(0.25), at(0.75)]};
};

const results = {};
for (const [name, run] of Object.entries(cases)) {
  const times = {stock: [], ours: []};
  for (let round = -1; round < rounds; round++) {
    for (const which of ['stock', 'ours']) {
      const undo = which === 'ours' ? installWasmKernels() : () => {};
      const ms = time(run);
      undo();
      // The first round warms up.
      if (round >= 0) times[which].push(ms);
    }
  }
  results[name] = {stock: summary(times.stock), ours: summary(times.ours)};
  console.log(name, JSON.stringify(results[name]));
}

const report = {
  what: 'wall ms of one call on the wasm backend, one thread: stock kernels and those of tfjs-lora/wasm, interleaved',
  note: process.env.BENCH_NOTE ?? null,
  rounds,
  node: process.version,
  tfjs: tf.version.tfjs,
  cpu: os.cpus()[0]?.model,
  cores: os.cpus().length,
  results,
};
writeFileSync(new URL('results/wasm-kernels.json', import.meta.url), `${JSON.stringify(report, null, 2)}\n`);
