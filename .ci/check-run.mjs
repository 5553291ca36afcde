// Checks what a run of the main job wrote: node .ci/check-run.mjs runs/NAME
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {decodeSafetensors} from '../dist/adapter/safetensors.js';

const folder = process.argv[2];
const read = name => readFileSync(join(folder, name));
const result = JSON.parse(read('result.json'));
const expect = (what, holds) => {
  if (!holds) throw new Error(`${folder}: ${what}\n${JSON.stringify({...result, loss: undefined})}`);
};
for (const side of ['target', 'base']) {
  for (const when of ['before', 'after'])
    expect(`${side}.${when}`, result[side][when] > 0.5 && result[side][when] < 8);
}
expect('the target text was learned', result.target.after < 0.9 * result.target.before);
expect('fewer than 5 % trained', result.parameters.trained < 0.05 * result.parameters.all);
expect('a loss for every step', result.loss.length === result.steps && result.loss.every(Number.isFinite));
expect('less state than Adam', result.optimizerStateBytes < result.adamStateBytes);
const adapter = read('adapter.safetensors');
expect(
  'the size of the adapter',
  adapter.length === result.adapterBytes && adapter.length < result.modelBytes,
);
expect('an adapter with tensors', decodeSafetensors(adapter).tensors.size > 0);
const page = read('report.html').toString();
expect(
  'a page with a curve that loads nothing',
  page.includes('<svg') && !/(src|href)=|@import|url\(/.test(page),
);
console.log(`${folder}: adapter, report and result are as they should be (tfjs ${tf.version.tfjs})`);
