// A trained tfjs model learns other classes: doodlenet (345 sorts of doodles) to clothes or digits, by LoRA.
//
//     node examples/doodlenet.mjs --data FOLDER --task digits
//     node examples/doodlenet.mjs --self-made      shapes drawn here, a small net trained here, in seconds
//
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {nodeFiles} from 'tfjs-lora/adapter';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, kilobytes, percent, say, textTable} from './shared/format.mjs';
import {loadModel, stockError, trainOnce, ways, withNewHead} from './shared/images/adapted.mjs';
import {accuracy, part} from './shared/images/finetune.mjs';
import {readDigitsOrClothes} from './shared/images/images.mjs';
import {drawShapes, filesOf, smallNet, unknown} from './shared/images/shapes.mjs';
import {progressLine} from './shared/progress.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';

const sets = {digits: 'mnist', fashion: 'fashion-mnist'};

await run('doodlenet', async () => {
  const given = readArguments({
    task: {is: 'what to learn', kind: Object.keys(sets)},
    ...usual,
    compare: {is: 'every weight and the head alone too, on the same images', kind: 'flag'},
  });
  const {batch, seed} = given;
  const folder = given['self-made'] ? undefined : findData(given.data, ['tfjs-doodlenet', sets[given.task]]);
  const out = runFolder(given.out, folder ? `doodlenet-${given.task}` : 'doodlenet-shapes');
  await chooseBackend(given.backend);

  // 1. What stock tfjs says. It has no gradient of a convolution on wasm; webgl and cpu have one.
  const setting = folder ? await fromFiles(folder, sets[given.task]) : undefined;
  if (given.backend === 'wasm') {
    const images = setting?.train ?? drawShapes(unknown, 8, 0);
    const error = await stockError(
      () => (setting ? setting.make(0) : untrained()),
      images,
      setting?.classes ?? 4,
    );
    say('Stock', `tf.train.adam on wasm: ${error ?? 'trains'}`);
    await import('tfjs-lora/wasm'); // the gradients that the wasm backend lacks
  }
  const {title, make, classes, train, check, test} = setting ?? (await fromShapes());
  const steps = given.steps ?? (folder ? 200 : 60);
  say('Task', title);
  say('Images', `${count(train.labels.length)} to learn from, ${count(test.labels.length)} held out`);
  say('Budget', `${steps} steps of ${batch} images; backend ${tf.getBackend()}`);

  // 2. Training: LoRA, and with --compare the other ways on the same images in the same order.
  const results = [];
  const explained = [];
  let sizes;
  for (const way of given.compare ? Object.keys(ways) : ['lora']) {
    const peak = ways[way].peak[folder ? given.task : 'fashion'];
    const options = {peak, steps, batch, seed, classes, before: true, onStep: progressLine(`${way}: `)};
    const {result, model, optimizer} = await trainOnce(() => make(seed), way, {train, check, test}, options);
    results.push(result);
    if (way === 'lora') {
      optimizer.explain(model, line => explained.push(line));
      // 3. What is kept: the adapter, and the model with it merged.
      sizes = await keep(out, model, optimizer);
    }
    optimizer.dispose();
    model.dispose();
  }
  const again = await make(seed);
  await readBack(out, again);
  const readAgain = await accuracy(again, test);
  again.dispose();

  const rows = [
    ['Held-out accuracy', 'before', 'after', 'trained', 'in the model', 'share', 'peak rate'],
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
  console.log(`\n${explained.join('\n')}\n\n${textTable(rows)}\n\n${textTable(files)}\n`);
  say('Again', `the untrained model with the adapter from its file: ${percent(readAgain)}`);

  const result = {
    task: title,
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    ways: results,
    readBack: readAgain,
    bytes: sizes,
  };
  writeReport(out, result, {
    title,
    subtitle: 'Held-out images: never trained on, and no rate was chosen by them.',
    parts: [
      {title: 'Result', rows},
      {title: 'Files', rows: files},
      {
        title: 'Accuracy while training',
        svg: lineChart(
          results.map(({way, checks}) => ({name: ways[way].title, points: checks})),
          {y: 'accuracy, validation', dots: true, percent: true},
        ),
      },
      {
        title: 'Training loss',
        svg: lineChart(
          results.map(({way, losses}) => ({name: ways[way].title, points: smooth(losses)})),
          {y: 'cross-entropy, mean of ten'},
        ),
      },
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    ],
    facts: [
      ['Steps, batch, seed', `${steps}, ${batch}, ${seed}`],
      ['Training took', results.map(({way, seconds}) => `${way} ${duration(seconds)}`).join(', ')],
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: "// The merged model: plain tfjs, no library.\nconst model = await tf.loadLayersModel('model/model.json');",
  });
  say('Wrote', `adapter.safetensors, model/, report.html, result.json in ${out}`);
});

/** Doodlenet and real images: the last 2,000 for training are kept apart, and the first 2,000 of the test set taken. */
async function fromFiles(folder, set) {
  const artifacts = await nodeFiles(join(folder, 'tfjs-doodlenet')).load();
  const {train, test} = readDigitsOrClothes(folder, set);
  const last = train.labels.length - 2000;
  return {
    title: `Doodlenet, trained on Quick, Draw!, learns ${set === 'mnist' ? 'the digits of MNIST' : 'Fashion-MNIST'}`,
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
    title: 'A small net of six shapes learns four others',
    make: async seed => withNewHead(await loadModel(files), unknown.length, seed),
    classes: unknown.length,
    train: drawShapes(unknown, 1500, 2),
    check: drawShapes(unknown, 200, 3),
    test: drawShapes(unknown, 500, 4),
  };
}

/** One convolution and a head: enough to ask whether a backend can train. */
function untrained() {
  return tf.sequential({
    layers: [
      tf.layers.conv2d({filters: 2, kernelSize: 3, inputShape: [28, 28, 1]}),
      tf.layers.flatten(),
      tf.layers.dense({units: 4, activation: 'softmax'}),
    ],
  });
}
