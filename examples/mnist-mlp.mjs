// A network from raw weights learns something new, and what it forgets: a 784-128-32-10 network of digits, saved by
// deeplearn.js as plain float32 files, learns clothes and turned digits by LoRA.
//
//     node examples/mnist-mlp.mjs [--data FOLDER] [--out FOLDER] [--steps N] [--batch N] [--rank N] [--angle DEGREES]
//     node examples/mnist-mlp.mjs --self-made      without any files: shapes drawn here, a network trained here
//
// Also --rate NUMBER, --seed N, --backend wasm|cpu. Where there is no data, it says where to get it and takes the
// shapes.
import {mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, loraAdam} from 'tfjs-lora';
import {readArguments, run} from './shared/arguments.mjs';
import {backends, chooseBackend} from './shared/backend.mjs';
import {findData, readDigitsOrClothes} from './shared/data.mjs';
import {accuracy, fineTune, part} from './shared/finetune.mjs';
import {keep} from './shared/keep.mjs';
import {count, kilobytes, lineChart, percent, reportPage, smooth, textTable} from './shared/page.mjs';
import {progressLine} from './shared/progress.mjs';
import {drawShapes, known, unknown} from './shared/shapes.mjs';

await run('mnist-mlp', async () => {
  const given = readArguments({
    ...{data: 'text', out: 'text', 'self-made': 'flag', backend: backends},
    ...{steps: 'whole', batch: 'whole', rank: 'whole', seed: 'whole', angle: 'number', rate: 'number'},
  });
  const {rank = 4, batch = 64, seed = 1, rate = 1e-2, angle = 45} = given;
  const folder = given['self-made']
    ? undefined
    : findData(given.data, ['weights-mnist-mlp', 'mnist', 'fashion-mnist']);
  const {steps = folder ? 400 : 150} = given;
  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');

  const {title, weights, old, tasks} = folder ? fromFiles(folder, angle) : await fromShapes(angle);
  const out = given.out ?? join('runs', folder ? 'mnist-mlp' : 'mnist-mlp-shapes');
  console.log(`Model    ${title}`);
  console.log(`Budget   ${steps} steps of ${batch} images, LoRA of rank ${rank}, rate ${rate} falling to 0`);
  console.log(`Backend  ${tf.getBackend()}\n`);

  const rows = [['Held-out accuracy', 'before', 'after', 'old task', 'after', 'adapter', 'model']];
  const curves = [];
  for (const [name, {train, test}] of Object.entries(tasks)) {
    const model = network(weights);
    const before = {now: await accuracy(model, test), old: await accuracy(model, old)};
    const optimizer = loraAdam(cosine(rate, {steps}), {rank, seed});
    const losses = await fineTune(model, optimizer, train, {
      ...{steps, batch, seed, classes: 10, onStep: progressLine(`${name}: `)},
    });
    if (curves.length === 0) {
      console.log();
      optimizer.explain(model);
      console.log();
    }
    const after = {now: await accuracy(model, test), old: await accuracy(model, old)};
    const sizes = await keep(join(out, name.replaceAll(' ', '-')), model, optimizer);
    rows.push([
      name,
      ...[before.now, after.now, before.old, after.old].map(percent),
      ...[sizes.adapter, sizes.model].map(kilobytes),
    ]);
    curves.push({name, points: smooth(losses)});
    optimizer.dispose();
    model.dispose();
  }
  // Nothing is lost for good: the old network is the file it came from, and each new task is an adapter beside it.
  const again = network(weights);
  const kept = percent(await accuracy(again, old));
  again.dispose();
  console.log(`${textTable(rows)}\n\nWithout an adapter the old task is at ${kept} as before.`);

  mkdirSync(out, {recursive: true});
  writeFileSync(
    join(out, 'report.html'),
    reportPage({
      title: 'New tasks for an old network',
      subtitle: `${title}. Old task: what it knew. Without an adapter that is at ${kept} as before.`,
      tables: [rows],
      charts: [
        {title: 'Training loss', svg: lineChart(curves, {x: 'step', y: 'cross-entropy, mean of ten'})},
      ],
      facts: [
        ['Steps, batch, seed', `${steps}, ${batch}, ${seed}`],
        ['Rank, rate', `${rank}, ${rate} falling to 0 along a cosine`],
        ['Backend', tf.getBackend()],
        ['tfjs', tf.version.tfjs],
      ],
      next: `const model = await tf.loadLayersModel('${Object.keys(tasks)[0]}/model/model.json'); // plain tfjs`,
    }),
  );
  console.log(`Wrote    report.html and, for each task, adapter.safetensors and model/ in ${out}`);
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
    title: 'a network of digits from raw float32 files (deeplearn.js), 784-128-32-10',
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
    title: 'a network of six shapes, trained here, 784-128-32-10',
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
