// A character model of Shakespeare (two LSTM layers, trained by others in TensorFlow) learns to write like Charlotte
// Brontë, through LoRA.
//
//     node examples/char-rnn.mjs --data FOLDER
//     node examples/char-rnn.mjs --self-made       a small model of made-up sentences, in seconds
//
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, loraAdam, loraPlus, projected} from 'tfjs-lora';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {costTable, trainedBy} from './shared/cost.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, percent, say, textTable} from './shared/format.mjs';
import {random} from './shared/random.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';
import {madeUpLanguages, shakespeareToBronte} from './shared/text/authors.mjs';
import {nats, write} from './shared/text/char-model.mjs';
import {compare, compareTable, train} from './shared/text/char-training.mjs';

/** The rate rises for half of the steps, 10 at most, then falls as a cosine. */
const schedule = ({rate, steps}) => cosine(rate, {steps, warmup: Math.min(10, Math.floor(steps / 2))});

const adam = () => tf.train.adam(1e-3, 0.9, 0.999, 1e-7);

const withLora = settings => loraAdam(schedule(settings), {rank: settings.rank, seed: settings.seed});

/** For --compare: how each method moves the weights, and the rates to choose from. */
const methods = {
  'softmax only': {
    rates: [0.01, 0.03],
    optimizer: settings =>
      projected(adam(), lora(), {learningRate: schedule(settings), targets: [[/^softmax/, 'train']]}),
  },
  LoRA: {rates: [0.01, 0.03], optimizer: withLora},
  'LoRA, four times the rank': {
    rates: [0.01, 0.03],
    optimizer: settings => withLora({...settings, rank: 4 * settings.rank}),
  },
  'LoRA+, B four times as fast': {
    rates: [0.003, 0.01],
    optimizer: settings =>
      projected(adam, lora({rank: settings.rank}), {
        ...{learningRate: loraPlus(schedule(settings), {ratio: 4}), seed: settings.seed},
      }),
  },
  'LoRA, softmax, embedding and biases in full': {
    rates: [0.003, 0.01],
    optimizer: settings =>
      projected(adam(), lora(), {
        ...{learningRate: schedule(settings), seed: settings.seed},
        targets: [
          [/^(softmax|embedding)|bias/, 'train'],
          [/kernel/, lora({rank: settings.rank})],
        ],
      }),
  },
  'all weights': {
    rates: [0.003, 0.01],
    optimizer: settings =>
      projected(adam(), lora(), {learningRate: schedule(settings), targets: [[/./, 'train']]}),
  },
};

const howCaptured =
  'A kernel of an RNN is used once at every step of time. The tape sees that many matMuls of one weight; their inputs\n' +
  'and deltas are stacked and multiplied once with the thin factors, so no gradient as large as a kernel is ever formed.';

await run('char-rnn', async () => {
  const asked = readArguments({
    ...usual,
    steps: {...usual.steps, default: 60},
    batch: {is: 'pieces of text in a batch', kind: 'whole', default: 16},
    rank: {is: 'rank of LoRA; default: 8, of the small model 3', kind: 'whole'},
    rate: {is: 'highest learning rate; default: 0.01, of the small model 0.02', kind: 'number'},
    compare: {is: 'choose the rate on the validation part, and train in other ways too', kind: 'flag'},
  });
  const wanted = ['weights-charrnn-shakespeare', 'tinyshakespeare', 'charlotte-bronte'];
  const data = asked['self-made'] ? undefined : findData(asked.data, wanted);
  const given = {...asked, rank: asked.rank ?? (data ? 8 : 3), rate: asked.rate ?? (data ? 0.01 : 0.02)};
  const out = runFolder(given.out, data ? 'char-rnn' : 'char-rnn-made-up');
  await chooseBackend(given.backend);
  if (given.backend === 'wasm') await import('tfjs-lora/wasm');

  // 1. A model that writes like one author, and the text of another.
  const task = data ? await shakespeareToBronte(data) : await madeUpLanguages(given.seed);
  const {model, base, target, characters, units, beginning} = task;
  say('Model', `embedding, LSTM ${units}, LSTM ${units}, softmax: ${count(model.countParams())} weights`);
  say('Knows', `${base.name}; learns ${target.name}: ${count(target.train.length)} characters of it`);
  say('Held out', `the last twentieth by position, ${count(target.test.length)} characters of it measured`);
  for (const line of target.notes) say('Note', line);

  const untrained = tf.tidy(() => model.getWeights().map(weight => tf.keep(weight.clone())));
  const restart = () => model.setWeights(untrained);
  const tell = async () => ({target: await nats(model, target.test), base: await nats(model, base.test)});
  const sample = () => write(model, characters, {beginning, length: 320, next: random(given.seed + 9)});
  const before = await tell();
  const writtenBefore = await sample();

  // 2. It learns, by LoRA; with --compare in other ways first.
  const compared = given.compare ? await compare(methods, task, given, restart) : [];
  const rate = compared.find(({method}) => method === 'LoRA')?.rate ?? given.rate;
  restart();
  const optimizer = withLora({...given, rate});
  const training = await train(task, optimizer, {...given, look: true});
  const after = await tell();
  const writtenAfter = await sample();
  const explained = [];
  optimizer.explain(model, line => explained.push(line));
  const parameters = {all: model.countParams(), trained: trainedBy(optimizer, model)};

  // 3. What is kept, read back: the untrained model and the adapter are the trained model.
  const sizes = await keep(out, model, optimizer);
  restart();
  await readBack(out, model);
  const again = await nats(model, target.test);

  const row = (name, from, to) => {
    const change = `${to >= from ? '+' : '-'}${percent(Math.abs(to / from - 1))}`;
    return [name, from.toFixed(3), to.toFixed(3), change];
  };
  const tables = [
    {
      title: 'Result',
      rows: [
        ['Nats a character', 'before', 'after LoRA', 'change'],
        row(`${target.name}, held out`, before.target, after.target),
        row(base.name, before.base, after.base),
      ],
    },
    ...(given.compare
      ? [{title: 'Methods, each at its best rate', rows: compareTable(compared, {base, target})}]
      : []),
    {title: 'Cost', rows: costTable(parameters, sizes)},
  ];
  console.log(`\n${explained.join('\n')}\n\n${howCaptured}\n`);
  console.log(`${tables.map(({rows}) => textTable(rows)).join('\n\n')}\n`);
  say('Again', `the untrained model with the adapter from its file: ${again.toFixed(3)} nats`);
  const frame = text => text.replace(/^/gm, '  | ');
  console.log(`\nWhat followed "${beginning}" before:\n${frame(writtenBefore)}`);
  console.log(`\nWhat follows "${beginning}" now:\n${frame(writtenAfter)}\n`);

  const {steps, rank, batch, seed} = given;
  const result = {
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps, rank, rate, batch, time: task.time, seed},
    texts: {base: base.name, target: target.name, notes: target.notes, testCharacters: target.test.length},
    check: task.check,
    nats: {before, after, readBack: again},
    parameters,
    bytes: sizes,
    compared,
    curve: training.seen,
    written: {beginning, before: writtenBefore, after: writtenAfter},
  };
  const points = key => training.seen.map(entry => [entry.step, entry[key]]);
  writeReport(out, result, {
    title: `${base.name} learns ${target.name}`,
    subtitle: 'LoRA on two LSTM layers.',
    parts: [
      ...tables,
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
      {title: `What followed "${beginning}" before`, text: writtenBefore},
      {title: `What follows "${beginning}" now`, text: writtenAfter},
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
      {title: 'How the kernels of an RNN are captured', text: howCaptured},
    ],
    facts: [
      ['Steps', `${steps} of ${batch} x ${task.time} characters, ${duration(training.seconds)}`],
      ['LoRA', `rank ${rank}, Adam, rate ${rate} at most, seed ${seed}`],
      ['Split', 'by position: nine tenths to learn, a twentieth to choose by, a twentieth to measure'],
      ...target.notes.map(note => ['Note', note]),
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: "// The merged model: plain tfjs, no library.\nconst model = await tf.loadLayersModel('model/model.json');",
  });
  say('Wrote', `adapter.safetensors, model/, report.html, result.json in ${out}`);
});
