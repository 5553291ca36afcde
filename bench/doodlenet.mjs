// Doodlenet fine-tuned to Fashion-MNIST: LoRA against every weight and against the head alone, on one budget.
//
//     node bench/doodlenet.mjs [--data FOLDER]            all parts: bench/results/doodlenet.json, docs/examples
//     node bench/doodlenet.mjs --part tune|wasm|webgl|page    one of them
//     node bench/doodlenet.mjs --part wasm --way lora         of one of the three ways only
//     node bench/doodlenet.mjs --keep                     runs that the results hold already are not made again
//
// tune: the learning rate of each way, by validation accuracy, on wasm. wasm: three seeds. webgl: one seed in headless
// Chromium; without a graphics card a run there takes minutes. Parts and ways may run side by side.
import {existsSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {loadModel, stockError, trainOnce, ways, withNewHead} from '../examples/shared/adapted.mjs';
import {readArguments, run} from '../examples/shared/arguments.mjs';
import {findData, readDigitsOrClothes, readModel} from '../examples/shared/data.mjs';
import {accuracy, part} from '../examples/shared/finetune.mjs';
import {progressLine} from '../examples/shared/progress.mjs';
import {openPage} from './doodlenet-browser.mjs';
import {writePage} from './doodlenet-results.mjs';

const budget = {steps: 150, batch: 32, classes: 10};
const grids = {
  lora: [5e-3, 1e-2, 2e-3, 2e-2],
  full: [2e-3, 5e-3, 1e-3, 1e-2],
  head: [2e-2, 1e-2, 5e-3, 5e-2],
};
const sized = {steps: budget.steps, batch: budget.batch};
const tuningSeed = 100;
const seeds = [0, 1, 2];
const path = new URL('results/doodlenet.json', import.meta.url);

await run('doodlenet', async () => {
  const {
    data,
    part: only,
    way,
    keep,
  } = readArguments({
    data: 'text',
    part: ['all', 'tune', 'wasm', 'webgl', 'page'],
    way: ['all', ...Object.keys(ways)],
    keep: 'flag',
  });
  const chosen = way === 'all' ? Object.keys(ways) : [way];
  const wants = name => only === 'all' || only === name;
  const read = () => (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {});
  const results = read();
  /** Writes some of the results and leaves the others as the file has them: parts may run side by side. */
  const save = (...names) => {
    const all = read();
    for (const name of names) all[name] = results[name];
    mkdirSync(new URL('.', path), {recursive: true});
    writeFileSync(path, `${JSON.stringify(all)}\n`);
  };
  if (only === 'page') return writePage(results);

  const folder = findData(data, ['tfjs-doodlenet', 'fashion-mnist']);
  if (folder === undefined) return (process.exitCode = 1);
  const artifacts = readModel(`${folder}/tfjs-doodlenet`);
  const {train, test} = readDigitsOrClothes(folder, 'fashion-mnist');
  const learned = part(train, 0, 28000);
  const validation = part(train, 28000, 30000);
  const make = async seed => withNewHead(await loadModel(artifacts), budget.classes, seed);

  tf.enableProdMode();
  await tf.setBackend('wasm');
  Object.assign(results, {budget, tuningSeed, tfjs: tf.version.tfjs, node: process.version});
  results.stockError ??= await stockError(() => make(0), learned, budget.classes);
  await import('tfjs-lora/wasm');
  save('budget', 'tuningSeed', 'tfjs', 'node', 'stockError');

  /** Makes one run, unless the list holds it and is to be kept. */
  const once = async (name, wanted, make) => {
    const list = (results[name] = read()[name] ?? []);
    const same = run => Object.entries(wanted).every(([key, value]) => run[key] === value);
    if (keep && list.some(same)) return;
    const result = await make();
    list.splice(0, list.length, ...(read()[name] ?? []));
    for (let i = list.length - 1; i >= 0; i--) if (same(list[i])) list.splice(i, 1);
    list.push(result);
    save(name);
  };
  const onWasm = async (way, options, data) => {
    const {result, model, optimizer} = await trainOnce(() => make(options.seed), way, data, {
      ...budget,
      ...options,
      onStep: progressLine(`${way} ${options.peak} seed ${options.seed}: `),
    });
    optimizer.dispose();
    model.dispose();
    return result;
  };

  if (wants('tune')) {
    for (const way of chosen) {
      for (const peak of grids[way]) {
        await once('tuning', {way, peak, ...sized}, async () => {
          const options = {peak, seed: tuningSeed, looks: 1};
          const {checked} = await onWasm(way, options, {train: learned, check: validation});
          return {way, peak, ...sized, validation: checked};
        });
      }
    }
  }
  const best = {};
  for (const way of Object.keys(ways)) {
    const tried = (read().tuning ?? []).filter(run => run.way === way);
    if (tried.length === 0) continue;
    best[way] = tried.reduce((a, b) => (b.validation > a.validation ? b : a)).peak;
  }
  results.best = best;
  save('best');
  if (only !== 'tune' && chosen.some(way => !(way in best))) throw new Error('no rates yet: --part tune');
  if (only === 'tune') return;

  if (wants('wasm')) {
    for (const seed of seeds) {
      for (const way of chosen) {
        const data = {train: learned, check: part(validation, 0, 500), test};
        await once('wasm', {way, seed, ...sized}, () => onWasm(way, {peak: best[way], seed, looks: 5}, data));
      }
    }
  }

  if (wants('webgl')) {
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
      results.browser = where;
      save('browser');
      for (const way of ['lora', 'full'].filter(way => chosen.includes(way))) {
        await once('webgl', {way, seed: 0, ...sized}, async () => {
          show = progressLine(`webgl, ${way}: `);
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
  const all = read();
  const isWhole = Object.keys(ways).every(each => all.wasm?.some(run => run.way === each));
  if (isWhole) writePage(all);
});
