// The page docs/examples/doodlenet.md and its figure, from bench/results/doodlenet.json.
import {mkdirSync, writeFileSync} from 'node:fs';
import {count, lineChart, percent} from '../examples/shared/page.mjs';
import {ways} from '../examples/shared/adapted.mjs';

const folder = new URL('../docs/examples/', import.meta.url);

export function writePage({budget, tuning, best, tuningSeed, wasm, webgl, browser, stockError, tfjs, node}) {
  mkdirSync(folder, {recursive: true});
  const names = Object.keys(ways);
  const of = way => wasm.filter(run => run.way === way);
  const tests = way => of(way).map(({test}) => test);
  const seeds = of('lora').length;
  const gap = mean(tests('full')) - mean(tests('lora'));
  const onWebgl = way => webgl?.find(run => run.way === way);
  const {trained, of: total} = of('lora')[0];

  writeFileSync(
    new URL('doodlenet.svg', folder),
    lineChart(
      names.map(way => ({
        name: `${ways[way].title}, mean of ${seeds} seeds`,
        points: of(way)[0].checks.map(([step], i) => [step, mean(of(way).map(({checks}) => checks[i][1]))]),
      })),
      {x: 'step', y: 'accuracy, validation', dots: true, percent: true},
    ),
  );

  const webglLines = webgl?.length
    ? `
## The same on webgl

The same training module, bundled, in headless Chromium: \`tf.getBackend()\` says \`${browser.backend}\`, drawn by ${browser.renderer}. One seed, the same rates, images and order. The test images went through the trained weights on wasm.

${table([
  ['', 'webgl', 'wasm, same seed'],
  ...names
    .filter(onWebgl)
    .map(way => [
      ways[way].title,
      percent(onWebgl(way).test),
      percent(of(way).find(({seed}) => seed === onWebgl(way).seed).test),
    ]),
])}
`
    : '';

  writeFileSync(
    new URL('doodlenet.md', folder),
    `# Doodlenet learns clothes

Doodlenet is a tfjs model as people have them: six convolutions, three max poolings, two dense layers, 544,201 numbers, trained on Quick, Draw! to tell 345 sorts of doodles ([ml5](https://github.com/ml5js/ml5-data-and-models/tree/0612a3e7c51c/models/doodlenet), MIT, Yining Shi). Here it learns Fashion-MNIST ([Xiao, Rasul, Vollgraf 2017](https://arxiv.org/abs/1708.07747)), with few images: ${count(budget.steps * budget.batch)}.

    node examples/doodlenet.mjs --data FOLDER --compare     # the example: says where to get the files
    node examples/doodlenet.mjs --self-made                 # without any files
    node bench/doodlenet.mjs                                # this page and its numbers again

${table([
  ['Test accuracy', `mean of ${seeds} seeds`, 'each seed', 'trained', 'of the model', 'peak rate'],
  ...names.map(way => [
    ways[way].title,
    `${percent(mean(tests(way)))} ± ${(100 * deviation(tests(way))).toFixed(1)}`,
    tests(way)
      .map(test => (100 * test).toFixed(1))
      .join(', '),
    count(of(way)[0].trained),
    percent(of(way)[0].trained / total),
    `${best[way]}`,
  ]),
])}

${budget.steps} steps of ${budget.batch} images, the same images in the same order for each; Adam with a rate that falls to zero along a cosine; 10,000 test images; ± is the standard deviation over seeds (of the new head, the order of the images, and LoRA's start). LoRA trains ${percent(trained / total)} of the model and is ${gap >= 0 ? `${(100 * gap).toFixed(1)} points below` : `${(-100 * gap).toFixed(1)} points above`} full training. tfjs ${tfjs}, Node ${node}, wasm.

![Accuracy on 500 validation images while training](doodlenet.svg)

## How the head is handled

Ten of the 345 doodles are not ten sorts of clothes, so the last layer is replaced by a new one of 10 outputs, random, which every contestant trains in full: ${count(of('head')[0].trained)} numbers. The model is then ${count(total)} numbers, and shares are of that; of doodlenet as it came LoRA trains ${percent(trained / 544201)}. LoRA's ${count(trained)} are the head, the biases of the convolutions and factors of rank 2 for every other kernel. Before training, a new head guesses: the curves begin there.

## The rates

Each contestant's peak rate is the best of those below by accuracy on 2,000 images that are neither trained on nor tested, with a seed (${tuningSeed}) of its own:

${table([
  ['Validation accuracy', 'rate: accuracy'],
  ...names.map(way => [
    ways[way].title,
    tuning
      .filter(run => run.way === way)
      .sort((a, b) => a.peak - b.peak)
      .map(({peak, validation}) => `${peak}: ${percent(validation)}`)
      .join(' · '),
  ]),
])}

## On wasm

Stock tfjs cannot train this model on wasm, with any optimizer. \`tf.train.adam\` says:

    ${stockError}

\`import 'tfjs-lora/wasm'\` adds what is missing ([how](../wasm.md)), for full training too: the rows above are all made with it. They come from a machine that was doing other work, which changes no accuracy.
${webglLines}
## What it does not show

One model, one new task, a short training: with more steps full training has more to gain from its numbers. The images are in doodlenet's own size, white on black; other images must be brought to that first. The accuracies are far from what longer training gives on Fashion-MNIST.
`,
  );
}

const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

const deviation = values =>
  Math.sqrt(
    values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / Math.max(1, values.length - 1),
  );

/** A table in Markdown, padded as prettier does. */
function table(rows) {
  const widths = rows[0].map((_, i) => Math.max(3, ...rows.map(row => row[i].length)));
  const line = (cells, fill = ' ') =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i], fill)).join(' | ')} |`;
  const [heading, ...rest] = rows;
  return [
    line(heading),
    line(
      widths.map(() => ''),
      '-',
    ),
    ...rest.map(row => line(row)),
  ].join('\n');
}
