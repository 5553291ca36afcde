// Doodlenet fine-tuned to digits and to clothes: LoRA against every weight and against the head alone, on one budget.
//
//     node bench/doodlenet.mjs [--data FOLDER]            all parts: bench/results/doodlenet.json, docs/examples
//     node bench/doodlenet.mjs --task digits|fashion|fashion-longer    one of the tasks
//     node bench/doodlenet.mjs --part tune|wasm|webgl|page    one of the parts
//     node bench/doodlenet.mjs --part wasm --way lora         of one of the three ways only
//     node bench/doodlenet.mjs --keep                     runs that the results hold already are not made again
//
// The protocol, the same for all tasks: 28,000 images to learn from and 2,000 others for validation, all from the
// training files. tune: four peak rates for each way, one seed that is used for nothing else; the best by accuracy on
// the validation images is taken. wasm: at that rate three other seeds, each measured on all 10,000 test images. webgl,
// for digits: LoRA and every weight with one of these seeds, at the same rates, in headless Chromium; without a
// graphics card a run there takes minutes. The longer budget for clothes takes the rates of the shorter one. Parts and
// ways may run side by side.
import {existsSync, mkdirSync, readFileSync, renameSync, writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {nodeFiles} from 'tfjs-lora/adapter';
import {readArguments, run, usual} from '../examples/shared/arguments.mjs';
import {findData} from '../examples/shared/data.mjs';
import {loadModel, stockError, trainOnce, ways, withNewHead} from '../examples/shared/images/adapted.mjs';
import {accuracy, part} from '../examples/shared/images/finetune.mjs';
import {readDigitsOrClothes} from '../examples/shared/images/images.mjs';
import {progressLine} from '../examples/shared/progress.mjs';
import {openPage} from './doodlenet-browser.mjs';
import {writePage} from './doodlenet-results.mjs';

const tasks = {
  digits: {
    set: 'mnist',
    onWebgl: true,
    budget: {steps: 200, batch: 32, classes: 10},
    grids: {
      lora: [1e-2, 2e-2, 5e-3, 4e-2, 2.5e-3],
      full: [5e-3, 2.5e-3, 1e-2, 1.25e-3],
      head: [5e-2, 2.5e-2, 1e-1, 1.25e-2],
    },
  },
  fashion: {
    set: 'fashion-mnist',
    budget: {steps: 150, batch: 32, classes: 10},
    grids: {
      lora: [5e-3, 1e-2, 2e-3, 2e-2],
      full: [2e-3, 5e-3, 1e-3, 1e-2],
      head: [2e-2, 1e-2, 5e-3, 5e-2],
    },
  },
  'fashion-longer': {
    set: 'fashion-mnist',
    budget: {steps: 400, batch: 32, classes: 10},
    ratesOf: 'fashion',
  },
};
const tuningSeed = 100;
const seeds = [0, 1, 2];
const path = new URL('results/doodlenet.json', import.meta.url);

await run('doodlenet', async () => {
  const given = readArguments({
    data: usual.data,
    task: {is: 'the task', kind: ['all', ...Object.keys(tasks)]},
    part: {is: 'the part', kind: ['all', 'tune', 'wasm', 'webgl', 'page']},
    way: {is: 'the way to train', kind: ['all', ...Object.keys(ways)]},
    keep: {is: 'make no run that the results hold already', kind: 'flag'},
  });
  const chosen = given.task === 'all' ? Object.keys(tasks) : [given.task];
  if (given.part !== 'page') {
    const folder = findData(given.data, ['tfjs-doodlenet', ...chosen.map(task => tasks[task].set)]);
    if (folder === undefined) return (process.exitCode = 1);
    for (const task of chosen) await measure(task, folder, given);
  }
  const isWhole = name => Object.keys(ways).every(each => read()[name]?.wasm?.some(run => run.way === each));
  if (['digits', 'fashion'].every(isWhole)) writePage(read());
});

function read() {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
}

/** Changes the results, read again just before and written whole: parts may run side by side. */
function update(change) {
  const all = read();
  change(all);
  mkdirSync(new URL('.', path), {recursive: true});
  const whole = new URL(`doodlenet.${process.pid}.tmp`, path);
  writeFileSync(whole, `${JSON.stringify(all)}\n`);
  renameSync(whole, path);
}

async function measure(task, folder, {part: only, way, keep}) {
  const {set, budget, grids, ratesOf, onWebgl = false} = tasks[task];
  const sized = {steps: budget.steps, batch: budget.batch};
  const chosen = way === 'all' ? Object.keys(ways) : [way];
  const wants = name => only === 'all' || only === name;
  const artifacts = await nodeFiles(`${folder}/tfjs-doodlenet`).load();
  const {train, test} = readDigitsOrClothes(folder, set);
  const learned = part(train, 0, 28000);
  const validation = part(train, 28000, 30000);
  const make = async seed => withNewHead(await loadModel(artifacts), budget.classes, seed);
  const results = () => read()[task] ?? {};
  const updateTask = change => update(all => change((all[task] ??= {})));

  tf.enableProdMode();
  await tf.setBackend('wasm');
  if (read().stockError === undefined) {
    const error = await stockError(() => make(0), learned, budget.classes);
    update(all => (all.stockError = error));
  }
  await import('tfjs-lora/wasm');
  update(all => Object.assign(all, {tfjs: tf.version.tfjs, node: process.version}));
  updateTask(mine => Object.assign(mine, {budget, tuningSeed}));

  /** Makes one run at a rate, unless the list holds it and is to be kept, in the place of those like it. */
  const once = async (name, like, peak, make) => {
    const same = run => Object.entries(like).every(([key, value]) => run[key] === value);
    if (keep && results()[name]?.some(run => same(run) && run.peak === peak)) return;
    const result = await make();
    updateTask(mine => (mine[name] = [...(mine[name] ?? []).filter(run => !same(run)), result]));
  };
  const onWasm = async (way, options, data) => {
    const {result, model, optimizer} = await trainOnce(() => make(options.seed), way, data, {
      ...budget,
      ...options,
      onStep: progressLine(`${task}, ${way} ${options.peak} seed ${options.seed}: `),
    });
    optimizer.dispose();
    model.dispose();
    return result;
  };

  if (wants('tune') && grids) {
    for (const way of chosen) {
      for (const peak of grids[way]) {
        await once('tuning', {way, peak, ...sized}, peak, async () => {
          const options = {peak, seed: tuningSeed, looks: 1};
          const {checked} = await onWasm(way, options, {train: learned, check: validation});
          return {way, peak, ...sized, validation: checked};
        });
      }
    }
  }
  const best = {...read()[ratesOf]?.best};
  for (const way of Object.keys(ways)) {
    const tried = (results().tuning ?? []).filter(run => run.way === way && run.steps === budget.steps);
    if (tried.length === 0) continue;
    best[way] = tried.reduce((a, b) => (b.validation > a.validation ? b : a)).peak;
  }
  updateTask(mine => (mine.best = best));
  if (only !== 'tune' && chosen.some(way => !(way in best))) throw new Error('no rates yet: --part tune');
  if (only === 'tune') return;

  if (wants('wasm')) {
    for (const seed of seeds) {
      for (const way of chosen) {
        const data = {train: learned, check: part(validation, 0, 500), test};
        const peak = best[way];
        await once('wasm', {way, seed, ...sized}, peak, () => onWasm(way, {peak, seed, looks: 5}, data));
      }
    }
  }

  if (wants('webgl') && onWebgl) {
    const files = {'model.json': JSON.stringify({...artifacts, weightData: undefined})};
    files.weights = new Uint8Array(artifacts.weightData);
    for (const [name, images] of [
      ['train', part(learned, 0, 28000)],
      ['check', part(validation, 0, 100)],
    ]) {
      files[`${name}-pixels`] = images.pixels;
      files[`${name}-labels`] = images.labels;
    }
    let show;
    const page = await openPage(files, step => show(step));
    try {
      const where = await page.call('start', 'webgl');
      if (where.backend !== 'webgl') throw new Error(`the page runs on ${where.backend}, not on webgl`);
      update(all => (all.browser = where));
      for (const way of ['lora', 'full'].filter(way => chosen.includes(way))) {
        await once('webgl', {way, seed: 0, ...sized}, best[way], async () => {
          show = progressLine(`${task} on webgl, ${way}: `);
          const options = {...budget, peak: best[way], seed: 0, looks: 1};
          const {result, weights} = await page.call('train', way, options);
          // The test images through the weights that webgl trained: on wasm, which takes seconds for it.
          const model = await make(0);
          const tensors = weights.map(({shape, values}) => tf.tensor(values, shape));
          model.setWeights(tensors);
          const on = await accuracy(model, part(validation, 0, 100));
          tf.dispose(tensors);
          const measured = {...result, checkedOnWasm: on, test: await accuracy(model, test)};
          model.dispose();
          return measured;
        });
      }
    } finally {
      await page.close();
    }
  }
}
