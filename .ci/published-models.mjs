// Trains the GraphModels of a public npm package, as their users would, and holds the table of docs/graph-models.md.
//
//     node .ci/published-models.mjs            measures and writes the table
//     node .ci/published-models.mjs --check    measures and compares
//     node .ci/published-models.mjs emotion    only these, and nothing is written
//
// The models come from `npm pack`, or from the folder that the environment's PUBLISHED_MODELS names; where they cannot be
// had it says so and ends well.
import {mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {check, trainsAtAll} from '../test/published/check.mjs';
import {findModels, handlerOf, models, source} from '../test/published/models.mjs';
import {inPage, tableOf} from '../test/published/table.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = join(root, 'docs/graph-models.md');
const {values: options, positionals} = parseArgs({
  options: {check: {type: 'boolean'}},
  allowPositionals: true,
});
const asked = models.filter(({name}) => positionals.length === 0 || positionals.includes(name));

const found = findModels();
if (found.reason) {
  console.log(`skipped: ${found.reason}`);
  process.exit(0);
}

/** What tfjs says of every graph that need not have been run asynchronously. */
const {warn} = console;
console.warn = (...words) => /did not contain any nodes with control flow/.test(words[0]) || warn(...words);
tf.enableProdMode();

const failures = [];
const began = performance.now();
try {
  // Before anything is added to it: what stock wasm can do.
  await tf.setBackend('wasm');
  const stock = new Map();
  for (const model of asked)
    stock.set(model.name, await trainsAtAll(model, handlerOf(found.folder, model.name)));
  await import('tfjs-lora/wasm');
  const rows = [];
  for (const [backend, list] of [
    ['cpu', asked.filter(({cpu}) => cpu)],
    ['wasm', asked],
  ]) {
    await tf.setBackend(backend);
    for (const model of list) {
      const start = performance.now();
      try {
        const row = await check(model, handlerOf(found.folder, model.name));
        if (backend === 'wasm') rows.push({...row, stock: stock.get(model.name)});
        console.log(
          `${backend.padEnd(5)}${model.name.padEnd(18)} ${row.targets} weights by ${row.trained} numbers, loss ` +
            `${row.losses.map(loss => loss.toPrecision(3)).join(' ')}, ${((performance.now() - start) / 1000).toFixed(1)} s`,
        );
      } catch (error) {
        failures.push(model.name);
        console.error(`${backend.padEnd(5)}${model.name.padEnd(18)} FAILED: ${error.stack}`);
      }
    }
  }
  console.log(`\n${tableOf(rows)}\n\n${((performance.now() - began) / 1000).toFixed(0)} s, ${source}`);
  if (failures.length === 0 && positionals.length === 0) await hold(rows);
} finally {
  found.remove();
}
if (failures.length > 0) process.exit(1);

/** Writes what was measured, or compares the page with it. */
async function hold(rows) {
  const before = readFileSync(page, 'utf8');
  const {format, resolveConfig} = await import('prettier');
  const after = await format(inPage(before, tableOf(rows)), {
    ...(await resolveConfig(page)),
    parser: 'markdown',
  });
  if (!options.check) {
    writeFileSync(page, after);
    const results = join(root, 'bench/results');
    mkdirSync(results, {recursive: true});
    const result = {source, node: process.version, tfjs: tf.version.tfjs, models: rows};
    writeFileSync(join(results, 'published-models.json'), `${JSON.stringify(result, null, 2)}\n`);
    console.log('wrote docs/graph-models.md and bench/results/published-models.json');
  } else if (after !== before) {
    failures.push('page');
    console.error('docs/graph-models.md says otherwise. Where this is meant: node .ci/published-models.mjs');
  }
}
