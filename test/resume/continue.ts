/** The second process of `continue.test.ts`: goes on from every checkpoint in a folder, and tells the weights. */
import * as tf from '@tensorflow/tfjs';
import {loadCheckpoint} from '../../src/resume/index.js';
import {cases} from './cases.js';
import {digestOfWeights} from './digest.js';

const [backend, folder] = process.argv.slice(2) as [string, string];
console.warn = () => {};
await tf.setBackend(backend);
const results: Record<string, {digest: string; step: number; data: unknown} | {error: string}> = {};
for (const [i, [name, {make, before = 4, all = 7}]] of Object.entries(cases).entries()) {
  const run = make();
  try {
    const {step, data} = await loadCheckpoint(run.optimizer, `file://${folder}/${i}`, {model: run.model});
    for (let at = before; at < all; at++) await run.step(at);
    results[name] = {digest: digestOfWeights(run.weights()), step, data};
  } catch (error) {
    results[name] = {error: String((error as Error).stack)};
  }
  run.optimizer.dispose();
  tf.disposeVariables();
}
console.log(JSON.stringify(results));
