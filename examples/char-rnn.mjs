// A character model of Shakespeare (two LSTM layers, trained by others in TensorFlow) learns to write like Charlotte
// Brontë, through LoRA.
//
//     node examples/char-rnn.mjs --data FOLDER
//     node examples/char-rnn.mjs --self-made       a small model of made-up sentences, in seconds
//
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, loraAdam} from 'tfjs-lora';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, kilobytes, percent, say, textTable} from './shared/format.mjs';
import {progressLine} from './shared/progress.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';
import {batch, characterModel, loadWeights, nats, write} from './shared/text/char-model.mjs';
import {countOutside, encode, readCharacters} from './shared/text/characters.mjs';
import {random} from './shared/text/random.mjs';
import {toyLanguages} from './shared/text/toys.mjs';

async function main() {
  const given = readArguments({
    ...usual,
    steps: {...usual.steps, default: 60},
    batch: {is: 'pieces of text in a batch', kind: 'whole', default: 16},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 8},
    rate: {is: 'highest learning rate', kind: 'number', default: 0.02},
    compare: {is: 'choose the rate on the validation part, and train all weights too', kind: 'flag'},
  });
  const wanted = ['weights-charrnn-shakespeare', 'tinyshakespeare', 'charlotte-bronte'];
  const data = given['self-made'] ? undefined : findData(given.data, wanted);
  const out = runFolder(given.out, data ? 'char-rnn' : 'char-rnn-made-up');

  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');
  const task = data ? await shakespeareToBronte(data) : await madeUp(given.seed);
  const settings = {...given, time: data ? 64 : small.time};
  const {model, base, target, characters} = task;
  say(
    'Model',
    `embedding, LSTM ${task.units}, LSTM ${task.units}, softmax: ${count(model.countParams())} weights`,
  );
  say('Knows', `${base.name}; learns ${target.name}: ${count(target.train.length)} characters of it`);
  say('Held out', `the last twentieth by position, ${count(target.test.length)} characters of it measured`);
  for (const line of target.notes) say('Note', line);

  const untrained = tf.tidy(() => model.getWeights().map(weight => tf.keep(weight.clone())));
  const restart = () => model.setWeights(untrained);
  const tell = async () => ({target: await nats(model, target.test), base: await nats(model, base.test)});
  const sample = () =>
    write(model, characters, {beginning: task.beginning, length: 320, next: random(given.seed + 9)});

  const before = await tell();
  const writtenBefore = await sample();
  let trials = [];
  let whole;
  let {rate} = given;
  if (given.compare) {
    trials = await tryRates(task, settings, restart);
    rate = best(trials, 'LoRA').rate;
    console.log(`The best rate for LoRA on the validation part: ${rate}`);
    restart();
    const other = best(trials, 'all weights').rate;
    const optimizer = methods['all weights'].optimizer(other, settings);
    await train(task, optimizer, {...settings, label: 'all weights: '});
    whole = await tell();
    optimizer.dispose();
  }

  restart();
  const optimizer = methods.LoRA.optimizer(rate, settings);
  const training = await train(task, optimizer, {...settings, label: '', look: true});
  const after = await tell();
  const writtenAfter = await sample();
  const explained = [];
  optimizer.explain(model, line => explained.push(line));
  console.log(`\n${explained.join('\n')}\n\n${howCaptured}\n`);
  const sizes = await keep(out, model, optimizer);

  // What was written, read back: the untrained model and the adapter are the trained model.
  restart();
  await readBack(out, model);
  const again = await nats(model, target.test);

  const change = ([from, to]) => `${to >= from ? '+' : '-'}${percent(Math.abs(to / from - 1))}`;
  const row = (name, from, to) => [name, from.toFixed(3), to.toFixed(3), change([from, to])];
  const natsTable = [
    ['Nats a character', 'before', 'after LoRA', 'change'],
    row(`${target.name}, held out`, before.target, after.target),
    row(base.name, before.base, after.base),
  ];
  const wholeTable = whole && [
    ['All weights instead', 'before', 'after', 'change'],
    row(`${target.name}, held out`, before.target, whole.target),
    row(base.name, before.base, whole.base),
  ];
  const trained = optimizer.explain(model, null).reduce((sum, {trained}) => sum + trained, 0);
  const costTable = [
    ['Cost', 'model', 'LoRA', 'share'],
    ['Trained numbers', count(model.countParams()), count(trained), percent(trained / model.countParams())],
    [
      'Size on disk (model; adapter)',
      kilobytes(sizes.model),
      kilobytes(sizes.adapter),
      percent(sizes.adapter / sizes.model),
    ],
  ];
  const tables = [natsTable, costTable, ...(given.compare ? [trialTable(trials)] : [])];
  console.log(tables.map(textTable).join('\n\n'));
  console.log();
  say('Again', `the untrained model with the adapter from its file: ${again.toFixed(3)} nats`);
  const frame = text => text.replace(/^/gm, '  | ');
  console.log(`\nWhat followed "${task.beginning}" before:\n${frame(writtenBefore)}`);
  console.log(`\nWhat follows "${task.beginning}" now:\n${frame(writtenAfter)}\n`);

  const result = {
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {
      steps: settings.steps,
      rank: given.rank,
      rate,
      batch: settings.batch,
      time: settings.time,
      seed: given.seed,
    },
    texts: {base: base.name, target: target.name, notes: target.notes, testCharacters: target.test.length},
    check: task.check ?? null,
    nats: {before, after, allWeights: whole ?? null, readBack: again},
    parameters: {all: model.countParams(), trained},
    bytes: sizes,
    trials,
    curve: training.seen,
    written: {beginning: task.beginning, before: writtenBefore, after: writtenAfter},
  };
  const points = key => training.seen.map(entry => [entry.step, entry[key]]);
  const parts = [
    {title: 'Result', rows: natsTable},
    ...(whole
      ? [
          {title: 'All weights instead, the same steps', rows: wholeTable},
          {title: 'Rates tried on the validation part', rows: trialTable(trials)},
        ]
      : []),
    {title: 'Cost', rows: costTable},
    {
      title: 'Learning and forgetting',
      svg: lineChart(
        [
          {name: `${target.name}, validation`, points: points('target')},
          {name: base.name, points: points('base')},
        ],
        {y: 'nats a character'},
      ),
    },
    {
      title: 'Training loss',
      svg: lineChart([{name: 'mean of ten; faint: each step', points: smooth(training.losses)}], {
        y: 'nats a character',
        faint: training.losses.map((loss, i) => [i + 1, loss]),
      }),
    },
    {title: `What followed "${task.beginning}" before`, text: writtenBefore},
    {title: `What follows "${task.beginning}" now`, text: writtenAfter},
    {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    {title: 'How the kernels of an RNN are captured', text: howCaptured},
  ];
  const facts = [
    [
      'Steps',
      `${settings.steps} of ${settings.batch} x ${settings.time} characters, ${duration(training.seconds)}`,
    ],
    ['LoRA', `rank ${given.rank}, Adam, rate ${rate} at most, seed ${given.seed}`],
    ['Split', 'by position: nine tenths to learn, a twentieth to choose by, a twentieth to measure'],
    ...target.notes.map(note => ['Note', note]),
    ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
  ];
  writeReport(out, result, {
    title: `${base.name} learns ${target.name}`,
    subtitle: 'LoRA on two LSTM layers.',
    parts,
    facts,
    next: "const model = await tf.loadLayersModel('model/model.json'); // the merged model: plain tfjs, no library",
  });
  say('Wrote', `adapter.safetensors, model/, report.html, result.json in ${out}`);
}

const howCaptured =
  'A kernel of an RNN is used once at every step of time. The tape sees that many matMuls of one weight; their inputs\n' +
  'and deltas are stacked and multiplied once with the thin factors, so no gradient as large as a kernel is ever formed.';

/** @returns the task on real texts */
async function shakespeareToBronte(data) {
  const weights = join(data, 'weights-charrnn-shakespeare');
  const characters = readCharacters(weights);
  const model = characterModel({characters: characters.length, units: 128});
  loadWeights(model, weights);
  const shakespeare = readFileSync(join(data, 'tinyshakespeare', 'input.txt'), 'utf8');
  const bronte = readFileSync(join(data, 'charlotte-bronte', 'bronte.txt'), 'utf8');
  const first = [shakespeare, bronte].map(text => encode(text.slice(0, 7000), characters).subarray(0, 6000));
  const check = {
    firstCharacters: 6000,
    base: await nats(model, first[0], 1),
    target: await nats(model, first[1], 1),
  };
  say(
    'Loaded',
    `the first 6,000 characters: Shakespeare ${check.base.toFixed(2)}, Brontë ${check.target.toFixed(2)} nats each`,
  );
  const outside = countOutside(bronte, characters);
  const notes = [
    `${count(outside)} of Brontë's ${count(bronte.length)} characters (${percent(outside / bronte.length)}) are not ` +
      `among the model's 65: quotation marks become ', brackets a comma, digits 3, accents go, _ and * are left out`,
    'the part of Shakespeare that is measured is not new to the model: what counts is how much of it is lost',
  ];
  return {
    ...{model, characters, check, units: 128, beginning: 'I thought '},
    base: {name: 'Shakespeare', test: split(encode(shakespeare, characters), 16_000).test},
    target: {name: 'Brontë', notes, ...split(encode(bronte, characters), 16_000)},
  };
}

/** A batch of made-up sentences. */
const small = {batch: 16, time: 12};

/** A model of one made-up language, trained here in full by tfjs's own Adam, and another to learn. */
async function madeUp(seed) {
  const texts = toyLanguages(random(seed));
  const characters = [...new Set(texts.base + texts.target)].sort();
  const [base, target] = [texts.base, texts.target].map(text => split(encode(text, characters), 800));
  const model = characterModel({characters: characters.length, units: 32, seed});
  const steps = 80;
  const task = {model, characters, units: 32, beginning: 'a cat ', base: {name: 'Sentences', ...base}};
  const optimizer = tf.train.adam(0.02, 0.9, 0.99, 1e-7);
  await train({...task, target: base}, optimizer, {...small, steps, seed, label: 'Before: '});
  optimizer.dispose();
  return {...task, target: {name: 'Questions', notes: [], ...target}};
}

/** Nine tenths to learn, a twentieth to choose by and a twentieth to measure, of which `most` characters are used. */
function split(codes, most) {
  const [learn, choose] = [Math.floor(0.9 * codes.length), Math.floor(0.95 * codes.length)];
  return {
    train: codes.subarray(0, learn),
    validation: codes.subarray(learn, Math.min(choose, learn + most)),
    test: codes.subarray(choose, choose + most),
  };
}

/** Trains for some steps; with `look` it measures six times on the way. */
async function train({model, base, target}, optimizer, {steps, batch: rows, time, seed, label, look}) {
  model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
  const next = random(seed + 1);
  const show = progressLine(label, {unit: ' nats'});
  const losses = [];
  const seen = [];
  const start = performance.now();
  const measure = async step => {
    const few = Math.min(3200, target.validation.length);
    const known = base.test.subarray(0, few);
    seen.push({
      step,
      target: await nats(model, target.validation.subarray(0, few)),
      base: await nats(model, known),
    });
  };
  if (look) await measure(0);
  for (let step = 1; step <= steps; step++) {
    const {x, y} = batch(target.train, {rows, time, next});
    losses.push(await model.trainOnBatch(x, y));
    tf.dispose([x, y]);
    show({step, steps, loss: losses.at(-1)});
    if (look && (step % Math.ceil(steps / 6) === 0 || step === steps)) await measure(step);
  }
  return {losses, seen, seconds: (performance.now() - start) / 1000};
}

/** Steps in which the rate rises: half of them, at most 10. */
const warmup = steps => Math.min(10, Math.floor(steps / 2));

/** How each method moves the weights, and the rates to choose from. */
const methods = {
  LoRA: {
    rates: [0.005, 0.01, 0.02],
    optimizer: (rate, {rank, seed, steps}) =>
      loraAdam(cosine(rate, {steps, warmup: warmup(steps)}), {rank, seed}),
  },
  'all weights': {
    rates: [0.001, 0.003],
    optimizer: (rate, {steps}) =>
      scheduled(tf.train.adam(rate, 0.9, 0.999, 1e-7), cosine(rate, {steps, warmup: warmup(steps)})),
  },
};

/** A third of the steps at each rate, and the nats on the validation part after them. */
async function tryRates(task, settings, restart) {
  const steps = Math.ceil(settings.steps / 3);
  const some = task.target.validation.subarray(0, 8000);
  const trials = [];
  for (const [method, {rates, optimizer: make}] of Object.entries(methods)) {
    for (const rate of rates) {
      restart();
      const optimizer = make(rate, {...settings, steps});
      await train(task, optimizer, {...settings, steps, label: `${method}, rate ${rate}: `});
      const validation = await nats(task.model, some);
      console.log(`${method}, rate ${rate}: ${validation.toFixed(3)} nats on the validation part`);
      trials.push({method, rate, steps, validation});
      optimizer.dispose();
    }
  }
  return trials;
}

/** A tf.Optimizer whose rate follows a schedule. */
function scheduled(optimizer, schedule) {
  const apply = optimizer.applyGradients.bind(optimizer);
  let step = 0;
  optimizer.applyGradients = gradients => {
    optimizer.learningRate = schedule(step++);
    apply(gradients);
  };
  return optimizer;
}

const best = (trials, method) =>
  trials.filter(trial => trial.method === method).reduce((a, b) => (b.validation < a.validation ? b : a));

const trialTable = trials => [
  ['Trial', 'rate', 'steps', 'validation'],
  ...trials.map(trial => [
    trial === best(trials, trial.method) ? `${trial.method} (chosen)` : trial.method,
    ...[trial.rate, trial.steps, trial.validation.toFixed(3)].map(String),
  ]),
];

await run('char-rnn', main);
