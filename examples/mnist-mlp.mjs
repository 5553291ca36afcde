// A network from raw weights learns something new, and what it forgets: a 784-128-32-10 network of digits, saved by
// deeplearn.js as plain float32 files, learns clothes and turned digits by LoRA.
//
//     node examples/mnist-mlp.mjs --data FOLDER
//     node examples/mnist-mlp.mjs --self-made      shapes drawn here, a network trained here, in seconds
//
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, loraAdam} from 'tfjs-lora';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {findData} from './shared/data.mjs';
import {kilobytes, percent, say, textTable} from './shared/format.mjs';
import {accuracy, fineTune, part} from './shared/images/finetune.mjs';
import {readDigitsOrClothes} from './shared/images/images.mjs';
import {drawShapes, known, unknown} from './shared/images/shapes.mjs';
import {progressLine} from './shared/progress.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';

await run('mnist-mlp', async () => {
  const given = readArguments({
    ...usual,
    batch: {...usual.batch, default: 64},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 4},
    rate: {is: 'highest learning rate', kind: 'number', default: 0.01},
    angle: {is: 'by how many degrees images are turned', kind: 'number', default: 45},
  });
  const {rank, batch, seed, rate, angle} = given;
  const folder = given['self-made']
    ? undefined
    : findData(given.data, ['weights-mnist-mlp', 'mnist', 'fashion-mnist']);
  const out = runFolder(given.out, folder ? 'mnist-mlp' : 'mnist-mlp-shapes');
  const steps = given.steps ?? (folder ? 400 : 150);
  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');

  const {title, weights, old, tasks} = folder ? fromFiles(folder, angle) : await fromShapes(angle);
  say('Model', title);
  say('Budget', `${steps} steps of ${batch} images, LoRA of rank ${rank}, rate ${rate} falling to 0`);
  say('Backend', tf.getBackend());

  const results = [];
  const explained = [];
  for (const [name, {train, test}] of Object.entries(tasks)) {
    const model = network(weights);
    const before = {new: await accuracy(model, test), old: await accuracy(model, old)};
    const optimizer = loraAdam(cosine(rate, {steps}), {rank, seed});
    const losses = await fineTune(model, optimizer, train, {
      ...{steps, batch, seed, classes: 10, onStep: progressLine(`${name}: `)},
    });
    if (results.length === 0) optimizer.explain(model, line => explained.push(line));
    const after = {new: await accuracy(model, test), old: await accuracy(model, old)};
    const task = join(out, name.replaceAll(' ', '-'));
    const bytes = await keep(task, model, optimizer);
    optimizer.dispose();
    model.dispose();
    const again = network(weights);
    await readBack(task, again);
    results.push({name, before, after, readBack: await accuracy(again, test), bytes, losses});
    again.dispose();
  }
  // Nothing is lost for good: the old network is the file it came from, and each new task is an adapter beside it.
  const rows = [
    ['Held-out accuracy', 'new task', 'after', 'old task', 'after', 'adapter', 'model'],
    ...results.map(({name, before, after, bytes}) => [
      name,
      ...[before.new, after.new, before.old, after.old].map(percent),
      ...[bytes.adapter, bytes.model].map(kilobytes),
    ]),
  ];
  console.log(`\n${explained.join('\n')}\n\n${textTable(rows)}\n`);
  for (const {name, readBack} of results)
    say('Again', `the old network with the adapter of ${name} from its file: ${percent(readBack)}`);

  const result = {
    model: title,
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps, batch, seed, rank, rate},
    tasks: results,
  };
  writeReport(out, result, {
    title: 'New tasks for an old network',
    subtitle: `${title}. Old task: what it knew, measured with the adapter; without it nothing has changed.`,
    parts: [
      {title: 'Result', rows},
      {
        title: 'Training loss',
        svg: lineChart(
          results.map(({name, losses}) => ({name, points: smooth(losses)})),
          {y: 'cross-entropy, mean of ten'},
        ),
      },
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    ],
    facts: [
      ['Steps, batch, seed', `${steps}, ${batch}, ${seed}`],
      ['LoRA', `rank ${rank}, Adam, rate ${rate} falling to 0 along a cosine`],
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: `// The merged model: plain tfjs, no library.\nconst model = await tf.loadLayersModel('${results[0].name.replaceAll(' ', '-')}/model/model.json');`,
  });
  say('Wrote', `report.html, result.json and, for each task, adapter.safetensors and model/ in ${out}`);
});

/** The layers, with weights if there are some: kernel and bias of each. */
function network(weights, units = [128, 32, 10]) {
  const names = ['hidden1', 'hidden2', 'softmax_linear'];
  const model = tf.sequential({
    layers: units.map((n, i) =>
      tf.layers.dense({
        units: n,
        name: names[i],
        activation: i === units.length - 1 ? 'softmax' : 'relu',
        kernelInitializer: tf.initializers.heNormal({seed: i + 1}),
        ...(i === 0 && {inputShape: [784]}),
      }),
    ),
  });
  if (weights) {
    const tensors = weights.map(({values, shape}) => tf.tensor(values, shape));
    model.setWeights(tensors);
    tf.dispose(tensors);
  }
  return model;
}

/** The weights as deeplearn.js left them: a manifest of shapes, and for each a file of float32 numbers. */
function readRawWeights(folder) {
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
  return ['hidden1', 'hidden2', 'softmax_linear'].flatMap(layer =>
    ['weights', 'biases'].map(kind => {
      const {filename, shape} = manifest[`${layer}/${kind}`];
      const bytes = Uint8Array.from(readFileSync(join(folder, filename)));
      return {shape, values: new Float32Array(bytes.buffer)};
    }),
  );
}

function fromFiles(folder, angle) {
  const digits = readDigitsOrClothes(folder, 'mnist');
  const clothes = readDigitsOrClothes(folder, 'fashion-mnist');
  const train = part(digits.train, 0, 30000);
  return {
    title: 'A network of digits from raw float32 files (deeplearn.js), 784-128-32-10',
    weights: readRawWeights(join(folder, 'weights-mnist-mlp')),
    old: digits.test,
    tasks: {
      clothes,
      [`digits turned by ${angle} degrees`]: {train: turned(train, angle), test: turned(digits.test, angle)},
    },
  };
}

async function fromShapes(angle) {
  const model = network();
  const optimizer = tf.train.adam(2e-3, 0.9, 0.999, 1e-7);
  await fineTune(model, optimizer, drawShapes(known, 2000, 1), {
    ...{steps: 150, batch: 64, seed: 1, classes: 10, onStep: progressLine('training a network on shapes: ')},
  });
  const weights = model.getWeights().map(weight => ({shape: weight.shape, values: weight.dataSync()}));
  optimizer.dispose();
  model.dispose();
  return {
    title: 'A network of six shapes, trained here, 784-128-32-10',
    weights,
    old: drawShapes(known, 500, 4),
    tasks: {
      'other shapes': {train: drawShapes(unknown, 2000, 2), test: drawShapes(unknown, 500, 5)},
      [`shapes turned by ${angle} degrees`]: {
        train: turned(drawShapes(known, 2000, 3), angle),
        test: turned(drawShapes(known, 500, 6), angle),
      },
    },
  };
}

/** Every image turned around its middle, between pixels by weights of the four around (bilinear), black outside. */
function turned({pixels, labels, side}, degrees) {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const middle = (side - 1) / 2;
  const size = side * side;
  // For each pixel, up to four places of the old image and their weights, the same for all images.
  const sums = Array.from({length: size}, (_, i) => {
    const [dx, dy] = [(i % side) - middle, Math.floor(i / side) - middle];
    const [x, y] = [middle + cos * dx - sin * dy, middle + sin * dx + cos * dy];
    const [left, top] = [Math.floor(x), Math.floor(y)];
    return [0, 1].flatMap(a =>
      [0, 1]
        .map(b => ({
          column: left + a,
          row: top + b,
          weight: (a ? x - left : 1 - x + left) * (b ? y - top : 1 - y + top),
        }))
        .filter(({column, row}) => column >= 0 && column < side && row >= 0 && row < side)
        .map(({column, row, weight}) => ({place: row * side + column, weight})),
    );
  });
  const result = new Uint8Array(pixels.length);
  for (let image = 0; image < labels.length; image++) {
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (const {place, weight} of sums[i]) sum += weight * pixels[image * size + place];
      result[image * size + i] = Math.round(sum);
    }
  }
  return {pixels: result, labels, side};
}
