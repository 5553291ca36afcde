// A converted GraphModel learns other classes by LoRA: a published net of facial expressions (64 x 64, 7 outputs) to the
// first seven classes of Fashion-MNIST, on its own outputs.
//
//     npm pack @vladmandic/human@3.3.6 && tar -xzf vladmandic-human-3.3.6.tgz
//     node examples/graph-model.mjs --data FOLDER --model package/models
//     node examples/graph-model.mjs --self-made      shapes drawn here, a small graph made here, in seconds
//
import {existsSync} from 'node:fs';
import {join, resolve} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, loraAdam, trainableGraphModel} from 'tfjs-lora';
import {readArguments, run, UsageError, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {findData} from './shared/data.mjs';
import {count, kilobytes, percent, say, textTable} from './shared/format.mjs';
import {accuracy, imageTensor} from './shared/images/finetune.mjs';
import {asGraph, keepGraph, readBackGraph, readGraph} from './shared/images/graph.mjs';
import {readDigitsOrClothes} from './shared/images/images.mjs';
import {drawShapes, smallNet, unknown} from './shared/images/shapes.mjs';
import {progressLine} from './shared/progress.mjs';
import {shuffles} from './shared/random.mjs';
import {runFolder, writeReport} from './shared/run-folder.mjs';

/** The node before the softmax of the emotion net: losses of logits are made of it. */
const emotionLogits = 'StatefulPartitionedCall/model_1/global_average_pooling2d_1/Mean';

await run('graph-model', async () => {
  const given = readArguments({
    ...usual,
    model: {is: 'the folder that has emotion.json of @vladmandic/human', kind: 'text'},
    batch: {...usual.batch, default: 16},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 2},
    rate: {is: 'highest learning rate', kind: 'number', default: 0.01},
  });
  const {rank, rate, batch, seed} = given;
  const folder = given['self-made'] ? undefined : findData(given.data, ['fashion-mnist']);
  const real = folder !== undefined && hasModel(given.model);
  const out = runFolder(given.out, real ? 'graph-model' : 'graph-model-shapes');
  const steps = given.steps ?? (real ? 300 : 120);
  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');

  const {title, artifacts, outputs, train, test} = real ? fromFiles(folder, given.model) : await fromShapes();
  const load = async () =>
    trainableGraphModel(await tf.loadGraphModel(tf.io.fromMemory(structuredClone(artifacts))), {outputs});
  const trainable = await load();
  const variables = Object.values(trainable.variables);
  const [, side] = trainable.model.inputs[0].shape;
  const sized = x => (side === train.side ? x : tf.image.resizeBilinear(x, [side, side]));
  /** A model as `accuracy` takes it. */
  const viewOf = ({model}) => ({inputs: model.inputs, predict: x => model.predict(sized(x))});
  const classes = tf.tidy(() => trainable.apply(sized(imageTensor(train, [0]))).shape[1]);
  say('Model', title);
  say('Images', `${count(train.labels.length)} to learn from, ${count(test.labels.length)} held out`);
  say('Budget', `${steps} steps of ${batch} images, LoRA of rank ${rank}, rate ${rate} falling to 0`);
  say('Backend', tf.getBackend());
  const before = await accuracy(viewOf(trainable), test);

  // The graph is trained like any variables: a loss of its logits, and an optimizer.
  const optimizer = loraAdam(cosine(rate, {steps}), {rank, seed});
  const progress = progressLine();
  const losses = [];
  const order = shuffles(train.labels.keys(), seed);
  for (let step = 1; step <= steps; step++) {
    const places = Array.from({length: batch}, () => order.next().value);
    const cost = tf.tidy(() => {
      const x = sized(imageTensor(train, places));
      const labels = tf.tensor1d(
        places.map(place => train.labels[place]),
        'int32',
      );
      const loss = () => tf.losses.softmaxCrossEntropy(tf.oneHot(labels, classes), trainable.apply(x));
      return optimizer.minimize(loss, true, variables);
    });
    const [loss] = await cost.data();
    cost.dispose();
    losses.push(loss);
    progress({step, steps, loss});
  }
  const after = await accuracy(viewOf(trainable), test);

  const explained = [];
  const weights = optimizer.explain(variables, line => explained.push(line));
  const trained = weights.reduce((sum, row) => sum + row.trained, 0);
  const of = weights.reduce((sum, row) => sum + row.of, 0);
  const bytes = await keepGraph(out, trainable, optimizer);
  optimizer.dispose();
  trainable.restore();
  const restored = await accuracy(viewOf(trainable), test);
  trainable.model.dispose();
  const again = await load();
  await readBackGraph(out, again);
  const readBack = await accuracy(viewOf(again), test);
  again.model.dispose();

  const rows = [
    ['Held-out accuracy', 'before', 'after', 'restored', 'trained', 'of', 'share'],
    [
      `LoRA of rank ${rank}`,
      ...[before, after, restored].map(percent),
      ...[trained, of].map(count),
      percent(trained / of),
    ],
  ];
  const files = [
    ['Files', 'size'],
    ['adapter.safetensors', kilobytes(bytes.adapter)],
    ['model/, merged', kilobytes(bytes.model)],
  ];
  console.log(`\n${explained.join('\n')}\n\n${textTable(rows)}\n\n${textTable(files)}\n`);
  say('Again', `the untrained model with the adapter from its file: ${percent(readBack)}`);
  const result = {
    model: title,
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps, batch, seed, rank, rate},
    images: {train: train.labels.length, test: test.labels.length},
    accuracy: {before, after, restored, readBack},
    trained,
    of,
    bytes,
    losses,
  };
  writeReport(out, result, {
    title: 'A GraphModel learns other classes',
    subtitle: `${title}. Held-out images: never trained on.`,
    parts: [
      {title: 'Result', rows},
      {title: 'Files', rows: files},
      {
        title: 'Training loss',
        svg: lineChart([{name: `LoRA of rank ${rank}`, points: smooth(losses)}], {
          y: 'cross-entropy, mean of ten',
        }),
      },
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    ],
    facts: [
      ['Steps, batch, seed', `${steps}, ${batch}, ${seed}`],
      ['LoRA', `rank ${rank}, Adam, rate ${rate} falling to 0 along a cosine`],
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: "const model = await tf.loadGraphModel('model/model.json'); // the merged model: plain tfjs, no library",
  });
  say('Wrote', `adapter.safetensors, model/, report.html, result.json in ${out}`);
});

/** Whether the emotion net is there; says where to get it where nobody named a folder. */
function hasModel(folder) {
  if (folder !== undefined) {
    if (existsSync(join(folder, 'emotion.json'))) return true;
    throw new UsageError(
      `${resolve(folder)} has no emotion.json (npm pack @vladmandic/human@3.3.6, package/models); or give --self-made`,
    );
  }
  console.log('No model named: this runs on one made in code. For the real one give --model FOLDER with');
  console.log('  emotion.json, emotion.bin from npm pack @vladmandic/human@3.3.6, package/models (MIT)');
  return false;
}

/** The emotion net and the first seven classes of clothes. */
function fromFiles(folder, models) {
  const seven = ({pixels, labels, side}) => {
    const size = side * side;
    const places = [...labels.keys()].filter(place => labels[place] < 7);
    const kept = new Uint8Array(places.length * size);
    places.forEach((place, i) => kept.set(pixels.subarray(place * size, (place + 1) * size), i * size));
    return {pixels: kept, labels: Uint8Array.from(places, place => labels[place]), side};
  };
  const {train, test} = readDigitsOrClothes(folder, 'fashion-mnist');
  const first = ({pixels, labels, side}, n) => ({
    pixels: pixels.subarray(0, n * side * side),
    labels: labels.subarray(0, n),
    side,
  });
  return {
    title:
      'the emotion net of @vladmandic/human 3.3.6, seven facial expressions, learns seven sorts of clothes',
    artifacts: readGraph(models, 'emotion'),
    outputs: [emotionLogits],
    train: seven(train),
    test: first(seven(test), 1400),
  };
}

/** A small graph that knows six shapes and is to learn four others, on its own outputs. */
async function fromShapes() {
  const net = await smallNet(progressLine('training a small net on shapes: '));
  const artifacts = asGraph(net);
  net.dispose();
  return {
    title: 'a small graph of six shapes learns four others',
    artifacts,
    outputs: ['logits'],
    train: drawShapes(unknown, 1500, 2),
    test: drawShapes(unknown, 500, 4),
  };
}
