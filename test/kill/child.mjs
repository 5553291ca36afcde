// A training that may be killed at any moment: goes on from its latest checkpoint, and writes its weights at the end.
// It says on stdout when a step is done (.), when a save begins (S) and when it is over (D).
import {writeFileSync, writeSync} from 'node:fs';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import {every, lora, normal, projected} from '../../src/index.ts';
import {checkpoints, latestCheckpoint, loadCheckpoint, saveCheckpoint} from '../../src/resume/index.ts';

const [folder, kind, total, final] = process.argv.slice(2);
const say = text => writeSync(1, text);

const model = {
  kernel: tf.variable(normal([12, 10], 1), true, 'kernel'),
  out: tf.variable(normal([10, 8], 2), true, 'out'),
  bias: tf.variable(tf.zeros([10]), true, 'bias'),
  // Large, so that a save takes a few milliseconds, and changed at every step.
  statistics: tf.variable(tf.zeros([300_000]), false, 'statistics'),
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
const from = kind === 'one' ? await readable(one) : await latestCheckpoint(`file://${folder}`);
if (from) next = (await loadCheckpoint(optimizer, from, {model})).data.next;

const data = () => ({next});
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
  say('.');
  if (kind === 'many') {
    const isDue = optimizer.iterations > 0 && next % 2 === 0;
    if (isDue) say('S');
    if (isDue !== ((await keeper.step()) !== null)) throw new Error('a save was due or not, unexpectedly');
    if (isDue) say('D');
  } else {
    // In the middle of gathering as well.
    say('S');
    await saveCheckpoint(optimizer, one, {model, data: data()});
    say('D');
  }
}
writeFileSync(
  final,
  Buffer.concat(Object.values(model).map(weight => Buffer.from(weight.dataSync().slice().buffer))),
);
say('F');

async function readable(url) {
  const {existsSync} = await import('node:fs');
  return existsSync(`${url.slice(7)}/model.json`) ? url : null;
}
