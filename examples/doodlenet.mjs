// A trained tfjs model learns other classes: doodlenet (345 sorts of doodles) to clothes or digits, by LoRA.
//
//     node examples/doodlenet.mjs [--data FOLDER] [--task fashion|digits] [--compare] [--out FOLDER]
//     node examples/doodlenet.mjs --self-made      without any files: shapes drawn here, a small net made here
//
// Also --steps N, --batch N, --seed N, --backend wasm|cpu. Where there is no data, it says where to get it and takes
// the shapes.
import {mkdirSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {loadModel, stockError, trainOnce, ways, withNewHead} from './shared/adapted.mjs';
import {readArguments, run} from './shared/arguments.mjs';
import {backends, chooseBackend} from './shared/backend.mjs';
import {findData, readDigitsOrClothes, readModel} from './shared/data.mjs';
import {part} from './shared/finetune.mjs';
import {keep} from './shared/keep.mjs';
import {count, kilobytes, lineChart, percent, reportPage, smooth, textTable} from './shared/page.mjs';
import {progressLine} from './shared/progress.mjs';
import {drawShapes, filesOf, smallNet, unknown} from './shared/shapes.mjs';

await run('doodlenet', async () => {
  const given = readArguments({
    ...{data: 'text', out: 'text', task: ['fashion', 'digits'], compare: 'flag', 'self-made': 'flag'},
    ...{steps: 'whole', batch: 'whole', seed: 'whole', backend: backends},
  });
  const sets = {fashion: 'fashion-mnist', digits: 'mnist'};
  const folder = given['self-made'] ? undefined : findData(given.data, ['tfjs-doodlenet', sets[given.task]]);
  await chooseBackend(given.backend);

  // 1. What stock tfjs says. It has no gradient of a convolution on wasm; webgl and cpu have one.
  const setting = folder ? await fromFiles(folder, sets[given.task]) : undefined;
  if (given.backend === 'wasm') {
    const probe = setting ?? {
      make: async seed => untrained(seed),
      classes: 4,
      train: drawShapes(unknown, 8, 0),
    };
    const error = await stockError(() => probe.make(0), probe.train, probe.classes);
    console.log(`Stock    tf.train.adam on wasm: ${error ?? 'trains'}`);
    await import('tfjs-lora/wasm'); // the gradients that the wasm backend lacks
  }
  const {title, make, classes, train, check, test} = setting ?? (await fromShapes());

  const {steps = folder ? 200 : 60, batch = 32, seed = 1} = given;
  const out = given.out ?? join('runs', `doodlenet-${folder ? given.task : 'shapes'}`);
  console.log(`Task     ${title}`);
  console.log(`Images   ${count(train.labels.length)} to learn from, ${count(test.labels.length)} held out`);
  console.log(`Budget   ${steps} steps of ${batch} images; backend ${tf.getBackend()}\n`);

  // 2. Training: LoRA, and with --compare the other ways on the same images in the same order.
  const results = [];
  let sizes;
  for (const way of given.compare ? Object.keys(ways) : ['lora']) {
    const onStep = progressLine(`${way}: `);
    const {result, model, optimizer} = await trainOnce(
      () => make(seed),
      way,
      {train, check, test},
      {
        ...{steps, batch, seed, classes, before: true, onStep},
      },
    );
    results.push(result);
    if (way === 'lora') {
      console.log();
      optimizer.explain(model);
      console.log();
      // 3. What is kept: the adapter, and the model with it merged.
      sizes = await keep(out, model, optimizer);
    }
    optimizer.dispose();
    model.dispose();
  }

  const rows = [
    ['Held-out accuracy', 'before', 'after', 'trained', 'of', 'share', 'peak rate'],
    ...results.map(({way, before, test, trained, of, peak}) => [
      ways[way].title,
      percent(before),
      percent(test),
      count(trained),
      count(of),
      percent(trained / of),
      `${peak}`,
    ]),
  ];
  const files = [
    ['Files', 'size'],
    ['adapter.safetensors', kilobytes(sizes.adapter)],
    ['model/, merged', kilobytes(sizes.model)],
  ];
  console.log(`${textTable(rows)}\n\n${textTable(files)}\n`);

  mkdirSync(out, {recursive: true});
  writeFileSync(join(out, 'result.json'), JSON.stringify(results));
  writeFileSync(
    join(out, 'report.html'),
    reportPage({
      title,
      subtitle: 'Held-out images: never trained on, and no rate was chosen by them.',
      tables: [rows, files],
      charts: [
        {
          title: 'Accuracy while training',
          svg: lineChart(
            results.map(({way, checks}) => ({name: ways[way].title, points: checks})),
            {x: 'step', y: 'accuracy, validation', dots: true, percent: true},
          ),
        },
        {
          title: 'Training loss',
          svg: lineChart(
            results.map(({way, losses}) => ({name: ways[way].title, points: smooth(losses)})),
            {x: 'step', y: 'cross-entropy, mean of ten'},
          ),
        },
      ],
      facts: [
        ['Steps, batch, seed', `${steps}, ${batch}, ${seed}`],
        ['Backend', tf.getBackend()],
        ['Training took', results.map(({way, seconds}) => `${way} ${seconds} s`).join(', ')],
        ['tfjs', tf.version.tfjs],
      ],
      next: `const model = await tf.loadLayersModel('model/model.json'); // the merged model: plain tfjs, no library`,
    }),
  );
  console.log(`Wrote    adapter.safetensors, model/, result.json, report.html in ${out}`);
});

/** Doodlenet and real images: the last 2,000 for training are kept apart, and the first 2,000 of the test set taken. */
async function fromFiles(folder, set) {
  const artifacts = readModel(join(folder, 'tfjs-doodlenet'));
  const {train, test} = readDigitsOrClothes(folder, set);
  const last = train.labels.length - 2000;
  return {
    title: `doodlenet, trained on Quick, Draw!, learns ${set === 'mnist' ? 'the digits of MNIST' : 'Fashion-MNIST'}`,
    make: async seed => withNewHead(await loadModel(artifacts), 10, seed),
    classes: 10,
    train: part(train, 0, last),
    check: part(train, last, last + 500),
    test: part(test, 0, 2000),
  };
}

/** A small net that knows six shapes and is to learn four others. */
async function fromShapes() {
  const net = await smallNet(progressLine('training a small net on shapes: '));
  const files = await filesOf(net);
  net.dispose();
  return {
    title: 'a small net of six shapes learns four others',
    make: async seed => withNewHead(await loadModel(files), unknown.length, seed),
    classes: unknown.length,
    train: drawShapes(unknown, 1500, 2),
    check: drawShapes(unknown, 200, 3),
    test: drawShapes(unknown, 500, 4),
  };
}

/** One convolution and a head: enough to ask whether a backend can train. */
function untrained(seed) {
  return tf.sequential({
    layers: [
      tf.layers.conv2d({filters: 2, kernelSize: 3, inputShape: [28, 28, 1], name: `probe${seed}`}),
      tf.layers.flatten(),
      tf.layers.dense({units: 4, activation: 'softmax'}),
    ],
  });
}
