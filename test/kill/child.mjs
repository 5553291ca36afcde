// A training that dies at the stage of a save that it is told, or whenever it is killed from outside: goes on from its
// latest checkpoint, and writes its weights at the end. It says where it is, in lines on stdout:
//
//     from N     it begins, with the gradient of that number
//     at STAGE   it has come by
//     saved N    a save that says N is over
//
//     node child.mjs folder one|many gradients final [stage count]
import {existsSync, writeFileSync, writeSync} from 'node:fs';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import {every, lora, normal, projected} from '../../src/index.ts';
import {checkpoints, latestCheckpoint, loadCheckpoint, saveCheckpoint} from '../../src/resume/index.ts';
import {stagedFiles} from './stages.mjs';

const [folder, kind, total, final, stage, count] = process.argv.slice(2);
const say = line => writeSync(1, `${line}\n`);
let left = Number(count);
const at = name => {
  say(`at ${name}`);
  if (name !== stage || --left > 0) return;
  process.kill(process.pid, 'SIGKILL');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
};
const {getBuiltinModule} = process;
const files = stagedFiles(at);
process.getBuiltinModule = name => (name === 'node:fs/promises' ? files : getBuiltinModule(name));

const model = {
  kernel: tf.variable(normal([12, 10], 1), true, 'kernel'),
  out: tf.variable(normal([10, 8], 2), true, 'out'),
  bias: tf.variable(tf.zeros([10]), true, 'bias'),
  // Large, so that a save takes a few milliseconds; before gradient n all of it is n - 1/2.
  statistics: tf.variable(tf.fill([300_000], -0.5), false, 'statistics'),
};
const trained = [model.kernel, model.out, model.bias];
const optimizer = projected(tf.train.adam(0.01, 0.9, 0.999, 1e-7), lora({rank: 2}), {
  targets: /kernel|out/,
  rest: 'train',
  refresh: every(7),
  moments: 'keep',
  accumulate: 2,
});
let next = 0;
const one = `file://${folder}/only`;
const latest = () => (existsSync(`${folder}/only/model.json`) ? one : null);
const from = kind === 'one' ? latest() : await latestCheckpoint(`file://${folder}`);
if (from) next = (await loadCheckpoint(optimizer, from, {model})).data.next;
say(`from ${next}`);

/** Asked for when a save begins, just before it looks at the optimizer. */
const data = () => {
  at('begun');
  queueMicrotask(() => at('encoding'));
  return {next};
};
const keeper = checkpoints({optimizer, model}, `file://${folder}`, {every: {steps: 1}, keep: 2, data});
for (; next < Number(total);) {
  tf.tidy(() => {
    const x = normal([8, 12], 100 + next);
    const loss = () => {
      const hidden = tf.tanh(tf.add(tf.matMul(x, model.kernel), model.bias));
      return tf.mean(tf.square(tf.sub(tf.matMul(hidden, model.out), 1)));
    };
    optimizer.minimize(loss, false, trained);
    model.statistics.assign(tf.fill([300_000], next + 0.5));
  });
  next++;
  if (kind === 'many') {
    const isDue = optimizer.iterations > 0 && next % 2 === 0;
    if (isDue !== ((await keeper.step()) !== null)) throw new Error('a save was due or not, unexpectedly');
    if (isDue) say(`saved ${next}`);
  } else {
    // In the middle of gathering as well.
    await saveCheckpoint(optimizer, one, {model, data: data()});
    say(`saved ${next}`);
  }
}
writeFileSync(
  final,
  Buffer.concat(Object.values(model).map(weight => Buffer.from(weight.dataSync().slice().buffer))),
);
