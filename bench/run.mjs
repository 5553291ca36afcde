// Times tfjs-lora against its peers on the wasm backend, and writes results and a page with plots.
//
//     npm run bench                                   everything, into bench/results and docs
//     node bench/run.mjs --only steps|growth|models   a part; the page is made of what is there
//     node bench/run.mjs --quick                      small sizes to try the harness, into temp/bench
//     node bench/run.mjs --out FOLDER --docs FOLDER   somewhere else
//
import {mkdirSync, writeFileSync} from 'node:fs';
import {cpus} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {allCandidates, growthCandidates, rate, stack, stackCandidates} from './candidates.mjs';
import {fastKernels} from './kernels.mjs';
import {cleanly, measure} from './measure.mjs';
import {modelCandidates, models} from './models.mjs';
import {writePage} from './page.mjs';
import {progressLine} from './progress.mjs';
import * as sizes from './sizes.mjs';

const {values: options} = parseArgs({
  options: {
    quick: {type: 'boolean', default: false},
    only: {type: 'string'},
    out: {type: 'string'},
    docs: {type: 'string'},
  },
});
const inRepository = path => fileURLToPath(new URL(`../${path}`, import.meta.url));
const out = options.out ?? inRepository(options.quick ? 'temp/bench/results' : 'bench/results');
const docs = options.docs ?? inRepository(options.quick ? 'temp/bench/docs' : 'docs');
const plan = options.quick ? sizes.quick : sizes.full;
const progress = progressLine(process.stderr);

const measureStack = (size, chosen, timing) =>
  cleanly(async () => ({
    size,
    candidates: await measure(stackCandidates(stack(size), chosen), {...timing, progress: progress.update}),
  }));

const parts = {
  async steps({sizes, timing}) {
    const runs = [];
    for (const size of sizes) {
      progress.title(`steps: ${inWords(size)}`);
      runs.push(await measureStack(size, allCandidates, timing));
    }
    return {runs};
  },

  async growth({middle, axes, timing}) {
    const points = new Map();
    const measured = {};
    for (const [axis, values] of Object.entries(axes)) {
      measured[axis] = [];
      for (const value of values) {
        const size = {...middle, [axis]: value};
        const key = inWords(size);
        progress.title(`growth: ${key}`);
        if (!points.has(key)) points.set(key, await measureStack(size, growthCandidates, timing));
        measured[axis].push(points.get(key));
      }
    }
    return {middle, axes: measured};
  },

  async models({sizes, timing}) {
    const runs = [];
    for (const [name, size] of Object.entries(sizes)) {
      progress.title(`models: ${name}`);
      const run = await cleanly(async () => ({
        size: {name, ...size},
        candidates: await measure(modelCandidates(models[name](size), size.rank), {
          ...timing,
          progress: progress.update,
        }),
      }));
      runs.push(run);
    }
    return {runs};
  },
};

const chosen = options.only === undefined ? Object.keys(parts) : [options.only];
for (const part of chosen) {
  if (!(part in parts)) throw new Error(`--only ${part}: there is ${Object.keys(parts).join(', ')}`);
}
tf.enableProdMode();
if (!(await tf.setBackend('wasm')) || tf.getBackend() !== 'wasm')
  throw new Error('the wasm backend does not start');
mkdirSync(out, {recursive: true});
for (const part of chosen) {
  const start = performance.now();
  const measured = await parts[part](plan[part]);
  progress.end();
  const file = {
    part,
    ...environment(),
    seconds: Math.round((performance.now() - start) / 1000),
    options: {quick: options.quick, learningRate: rate, ...plan[part].timing},
    ...measured,
  };
  // Seven digits are what float32 has.
  const text = JSON.stringify(file, (_, value) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value,
  );
  writeFileSync(join(out, `${part}.json`), text.replaceAll('{"method"', '\n{"method"') + '\n');
}
console.log(`wrote ${chosen.map(part => join(out, `${part}.json`)).join(', ')}`);
console.log(`wrote ${await writePage(out, docs)}`);

function environment() {
  const [cpu] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    backend: `${tf.getBackend()}, one thread`,
    fastKernels,
    versions: {node: process.versions.node, tfjs: tf.version.tfjs, 'tfjs-core': tf.version_core},
  };
}

function inWords({D, T, L, rank}) {
  return `D ${D}, T ${T}, ${L} layers, rank ${rank}`;
}
