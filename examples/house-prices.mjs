// A trained tfjs model learns another table of numbers by LoRA: tfjs's own example model of abalones, eight
// measurements to one number, learns the prices of houses in California from eight other columns.
//
//     node examples/house-prices.mjs --data FOLDER
//     node examples/house-prices.mjs --self-made       towns made in code, a network trained here, in seconds
//
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, projected} from 'tfjs-lora';
import {nodeFiles} from 'tfjs-lora/adapter';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {costTable, trainedBy} from './shared/cost.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, say, textTable} from './shared/format.mjs';
import {progressLine} from './shared/progress.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';
import {compare, compareTable} from './shared/table/compare.mjs';
import {network} from './shared/table/network.mjs';
import {alwaysTheMean, error, linearRegression, train} from './shared/table/regression.mjs';
import {madeUpTown, readHousing} from './shared/table/table.mjs';

const adam = rate => tf.train.adam(rate, 0.9, 0.999, 1e-7);

/** The rate rises for a tenth of the steps, then falls as a cosine. */
const schedule = ({rate, steps}) => cosine(rate, {steps, warmup: Math.ceil(steps / 10)});

/** LoRA on the kernels that are matrices; the last layer, a single column, and the biases in full. */
const withLora = (model, settings) => ({
  optimizer: projected(adam(settings.rate), lora(), {
    targets: [
      [model.layers.at(-1).name, 'train'],
      [/kernel/, lora({rank: settings.rank})],
      [/bias/, 'train'],
    ],
    learningRate: schedule(settings),
    seed: settings.seed,
  }),
});

/** For --compare: how each method trains, and the rates to choose from. `fresh`: from random weights. */
const methods = {
  LoRA: {rates: [0.01, 0.03, 0.1], start: withLora},
  'all weights': {
    rates: [0.01, 0.03, 0.1],
    start: (model, settings) => ({optimizer: adam(settings.rate), rate: schedule(settings)}),
  },
  'last layer only': {
    rates: [0.03, 0.1, 0.3],
    start: (model, settings) => {
      for (const layer of model.layers) layer.trainable = layer === model.layers.at(-1);
      return {optimizer: adam(settings.rate), rate: schedule(settings)};
    },
  },
  'all weights, from random ones': {
    rates: [0.01, 0.03, 0.1],
    fresh: true,
    start: (model, settings) => ({optimizer: adam(settings.rate), rate: schedule(settings)}),
  },
};

const dollars = value => count(Math.round(value));

await run('house-prices', async () => {
  const given = readArguments({
    ...usual,
    batch: {...usual.batch, is: 'rows in a batch', default: 64},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 4},
    rate: {is: 'highest learning rate; default 0.01, of made data 0.1', kind: 'number'},
    compare: {is: 'all weights, the last layer and random weights too, each at its best rate', kind: 'flag'},
    seeds: {is: 'with --compare: seeds at the best rate', kind: 'whole', default: 5},
  });
  const folder = given['self-made']
    ? undefined
    : findData(given.data, ['tfjs-abalone', 'california-housing']);
  const out = runFolder(given.out, folder ? 'house-prices' : 'house-prices-made-up');
  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');

  const {title, make, table} = folder ? fromFiles(folder) : await madeUp();
  const settings = {...given, steps: given.steps ?? (folder ? 1000 : 150)};
  const {steps, batch, seed, rank} = settings;
  const sizes = ['train', 'validation', 'test'].map(part => count(table[part].rows)).join(', ');
  say('Model', title);
  say('Table', `${table.features.join(', ')}; ${sizes} rows to learn, choose by, measure`);
  say('Budget', `${steps} steps of ${batch} rows; backend ${tf.getBackend()}`);

  // 1. With --compare: the other methods on the same rows.
  const compared = given.compare ? await compare(methods, {make, network}, table, settings) : [];
  const rate = compared.find(({method}) => method === 'LoRA')?.rate ?? given.rate ?? (folder ? 0.01 : 0.1);

  // 2. LoRA.
  const model = await make();
  const before = error(model, table, table.test);
  const {optimizer} = withLora(model, {...settings, rate});
  const checks = [];
  const start = performance.now();
  const losses = await train(model, optimizer, table, {
    ...{steps, batch, seed, onStep: progressLine('LoRA: '), lookEvery: Math.ceil(steps / 10)},
    look: step => checks.push([step, error(model, table, table.validation)]),
  });
  const seconds = (performance.now() - start) / 1000;
  const after = error(model, table, table.test);
  const explained = [];
  optimizer.explain(model, line => explained.push(line));

  // 3. What is kept: the adapter, and the model with it merged; the untrained model and the adapter are that model.
  const bytes = await keep(out, model, optimizer);
  const parameters = {all: model.countParams(), trained: trainedBy(optimizer, model)};
  const untrained = await make();
  await readBack(out, untrained);
  const again = error(untrained, table, table.test);

  const floors = {mean: alwaysTheMean(table), line: linearRegression(table)};
  const rows = [
    ['Error on held-out rows (RMSE)', 'dollars'],
    ['the model as it came', dollars(before)],
    ['always the mean price', dollars(floors.mean)],
    ['a straight line, least squares', dollars(floors.line)],
    ['the model after LoRA', dollars(after)],
  ];
  const costs = costTable(parameters, bytes);
  const tables = [rows, ...(given.compare ? [compareTable(compared)] : []), costs];
  console.log(`\n${explained.join('\n')}\n\n${tables.map(textTable).join('\n\n')}\n`);
  say('Again', `the untrained model with the adapter from its file: ${dollars(again)} dollars`);

  const result = {
    task: title,
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps, batch, seed, rank, rate},
    rows: {train: table.train.rows, validation: table.validation.rows, test: table.test.rows},
    dollars: {before, after, readBack: again, mean: floors.mean, line: floors.line},
    parameters,
    bytes,
    compared,
    checks,
  };
  // The beginning, far off, would flatten the rest.
  const points = checks.slice(1).map(([step, rmse]) => [step, rmse / 1000]);
  const level = value => points.map(([step]) => [step, value / 1000]);
  writeReport(out, result, {
    title,
    subtitle:
      'Errors are roots of the mean squared error (RMSE), in dollars, on rows that were not learned from.',
    parts: [
      {title: 'Result', rows},
      ...(given.compare
        ? [{title: 'Methods, each at its best rate, held-out rows', rows: compareTable(compared)}]
        : []),
      {title: 'Cost', rows: costs},
      {
        title: 'Error on the validation rows while training',
        svg: lineChart(
          [
            {name: 'LoRA', points},
            {name: 'a straight line (on the held-out rows)', points: level(floors.line)},
          ],
          {y: 'thousand dollars'},
        ),
      },
      {
        title: 'Training loss, without the first tenth',
        svg: lineChart([{name: 'mean of ten', points: smooth(losses).slice(Math.ceil(steps / 10))}], {
          y: 'variances of the price',
        }),
      },
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    ],
    facts: [
      ['Steps, batch, seed', `${steps}, ${batch}, ${seed}; ${duration(seconds)}`],
      ['LoRA', `rank ${rank}, Adam, rate ${rate} at most`],
      ['Split', 'at random, once: 8 tenths of the rows to learn, 1 to choose by, 1 to measure'],
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: "// The merged model: plain tfjs, no library.\nconst model = await tf.loadLayersModel('model/model.json');",
  });
  say('Wrote', `adapter.safetensors, model/, report.html, result.json in ${out}`);
});

/** tfjs's model of abalones, 8-50-50-1, and California's houses of 1990. */
function fromFiles(folder) {
  return {
    title:
      'A model of abalones, as tfjs-examples saved it, learns the median house value of California, 1990',
    make: () => tf.loadLayersModel(nodeFiles(join(folder, 'tfjs-abalone'))),
    table: readHousing(folder),
  };
}

/** A network that knows the prices of one town, trained here in full, and another town to learn. */
async function madeUp() {
  const known = madeUpTown({seed: 1, rows: 3000, middle: [0, 0], income: 20_000});
  const model = network(1);
  await train(model, adam(0.02), known, {
    ...{steps: 300, batch: 64, seed: 1, rate: schedule({rate: 0.02, steps: 300})},
    onStep: progressLine('training a network on one town: '),
  });
  const weights = model.getWeights().map(weight => [weight.dataSync(), weight.shape]);
  model.dispose();
  return {
    title: 'A network of the prices in one town learns those of another',
    make: async () => {
      const copy = network(1);
      tf.tidy(() => copy.setWeights(weights.map(([values, shape]) => tf.tensor(values, shape))));
      return copy;
    },
    table: madeUpTown({seed: 2, rows: 1500, middle: [1, -1], income: 5_000}),
  };
}
