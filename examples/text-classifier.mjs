// A classifier of sentences that knows one set of labels learns another through LoRA: on the embedding, a convolution
// and a hidden layer, with a new head that is trained in full.
//
//     node examples/text-classifier.mjs --data FOLDER --task banking77
//     node examples/text-classifier.mjs --self-made       made-up sentences, in seconds
//
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, loraPlus, projected} from 'tfjs-lora';
import {nodeFiles} from 'tfjs-lora/adapter';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {costTable, trainedBy} from './shared/cost.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, percent, say, textTable} from './shared/format.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';
import {accuracy, classifier, predict, withNewHead} from './shared/text/classifier.mjs';
import {compare, compareTable} from './shared/text/compare.mjs';
import {showStockWasm} from './shared/text/stock-wasm.mjs';
import {madeUpTask, readTask, tasks} from './shared/text/tasks.mjs';
import {mostConfused, train} from './shared/text/training.mjs';

const adam = () => tf.train.adam(1e-3, 0.9, 0.999, 1e-7);

/** The rate rises for a twentieth of the steps, then falls as a cosine. */
const schedule = ({rate, steps}) => cosine(rate, {steps, warmup: Math.ceil(steps / 20)});

/** LoRA on the embedding, the convolution and the hidden layer. A head of new labels has nothing to keep. */
const onEveryLayer = ({newHead}, factors, embedding = factors) => [
  ['embedding', embedding],
  [/^(conv|hidden)\/kernel/, factors],
  ['head', newHead ? 'train' : lora({rank: 1})],
];

const withLora = settings =>
  projected(adam(), lora(), {
    learningRate: schedule(settings),
    targets: onEveryLayer(settings, lora({rank: settings.rank})),
    seed: settings.seed,
  });

/** For --compare: how each method moves the weights, and the rates to choose from. */
const methods = {
  'head only': {
    rates: [0.003, 0.01, 0.03],
    optimizer: settings =>
      projected(adam(), lora(), {learningRate: schedule(settings), targets: [['head', 'train']]}),
  },
  LoRA: {rates: [0.003, 0.01, 0.03], optimizer: withLora},
  'LoRA, four times the rank': {
    rates: [0.003, 0.01, 0.03],
    optimizer: settings => withLora({...settings, rank: 4 * settings.rank}),
  },
  'LoRA, rank-stabilised, alpha = 2 r': {
    rates: [0.001, 0.003, 0.01],
    optimizer: settings =>
      projected(adam(), lora(), {
        ...{learningRate: schedule(settings), seed: settings.seed},
        targets: onEveryLayer(
          settings,
          lora({rank: settings.rank, alpha: 2 * settings.rank, rankStabilised: true}),
        ),
      }),
  },
  'LoRA+, B four times as fast': {
    rates: [0.003, 0.01, 0.03],
    optimizer: settings =>
      projected(adam, lora(), {
        ...{learningRate: loraPlus(schedule(settings), {ratio: 4}), seed: settings.seed},
        targets: onEveryLayer(settings, lora({rank: settings.rank})),
      }),
  },
  'LoRA, the embedding in full': {
    rates: [0.001, 0.003, 0.01],
    optimizer: settings =>
      projected(adam(), lora(), {
        ...{learningRate: schedule(settings), seed: settings.seed},
        targets: onEveryLayer(settings, lora({rank: settings.rank}), 'train'),
      }),
  },
  'all weights': {
    rates: [0.001, 0.003, 0.01],
    optimizer: settings =>
      projected(adam(), lora(), {learningRate: schedule(settings), targets: [[/./, 'train']]}),
  },
};

const confusionTable = confusions => [
  ['Most often taken for another', 'taken for', 'times', 'of'],
  ...confusions.map(({is, taken, times, of}) => [is, taken, String(times), String(of)]),
];

await run('text-classifier', async () => {
  const given = readArguments({
    task: {is: 'what to learn', kind: Object.keys(tasks)},
    ...usual,
    batch: {...usual.batch, is: 'sentences in a batch'},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 8},
    rate: {is: 'highest learning rate', kind: 'number', default: 0.02},
    few: {is: 'sentences of each label to learn from; 0: all; default: as the task says', kind: 'from 0'},
    compare: {is: 'LoRA in several ways, the head alone, all weights, each at its best rate', kind: 'flag'},
    methods: {is: 'with --compare: which, as a regular expression', kind: 'text', default: '.'},
    seeds: {is: 'with --compare: seeds at the best rate', kind: 'whole', default: 2},
  });
  const chosen = tasks[given.task];
  const data = given['self-made'] ? undefined : findData(given.data, chosen.needs);
  const out = runFolder(given.out, data ? `text-classifier-${given.task}` : 'text-classifier-made-up');
  const {base, target} = data ? readTask(chosen, data, given.few) : madeUpTask(given.seed, given.few);
  const title = data ? chosen.title : 'Made-up sentences: from three topics to six intents';
  const newHead = String(base.labels) !== String(target.labels);
  const settings = {...given, steps: given.steps ?? (data ? chosen.steps : 60), newHead};
  const baseSteps = data ? 600 : 60;

  await chooseBackend(given.backend);
  if (given.backend === 'wasm') {
    await showStockWasm();
    await import('tfjs-lora/wasm');
  }

  // 1. A model that knows something: trained in full by tfjs's own Adam.
  for (const [word, {name, labels, train, validation, test}] of [
    ['Base', base],
    ['Target', target],
  ]) {
    const sizes = [train, validation, test].map(part => count(part.length)).join(', ');
    say(word, `${name}: ${labels.length} labels; ${sizes} sentences to learn, choose by, measure`);
  }
  const known = classifier(base.labels.length, given.seed);
  const label = `${base.name}: `;
  await train(known, tf.train.adam(0.003, 0.9, 0.999, 1e-7), base, {...settings, steps: baseSteps, label});
  const baseAccuracy = await accuracy(known, base.test, base.labels);
  say('Base', `finds ${percent(baseAccuracy)} of the labels of ${base.name}, held out`);
  /** A copy of it, with a new head where the labels are new. */
  const start = seed => {
    if (newHead) return withNewHead(known, target.labels.length, seed + 100);
    const model = classifier(base.labels.length, seed);
    model.setWeights(known.getWeights());
    return model;
  };

  // 2. It learns the other labels, by LoRA.
  const wanted = Object.fromEntries(
    Object.entries(methods).filter(([name]) => name === 'LoRA' || new RegExp(given.methods).test(name)),
  );
  const compared = given.compare ? await compare(wanted, start, {base, target}, settings) : [];
  const rate = compared.find(({method}) => method === 'LoRA')?.rate ?? given.rate;
  const model = start(given.seed);
  const before = await accuracy(model, target.test, target.labels);
  const optimizer = withLora({...settings, rate});
  const training = await train(model, optimizer, target, {...settings, look: true});
  const found = await predict(model, target.test);
  const after = await accuracy(model, target.test, target.labels);
  const forgotten = newHead ? null : await accuracy(model, base.test, base.labels);
  const explained = [];
  optimizer.explain(model, line => explained.push(line));
  const parameters = {all: model.countParams(), trained: trainedBy(optimizer, model)};

  // 3. What is kept: the base, the adapter, and the model with it merged. Base and adapter give the model again.
  const sizes = await keep(out, model, optimizer);
  const untrained = start(given.seed);
  await untrained.save(nodeFiles(join(out, 'base')));
  await readBack(out, untrained);
  const again = await accuracy(untrained, target.test, target.labels);

  const resultTable = [
    ['Labels found', 'before', 'after'],
    [`${target.name}, held out`, percent(before), percent(after)],
    ...(newHead ? [] : [[`${base.name}, held out`, percent(baseAccuracy), percent(forgotten)]]),
  ];
  const confusions = mostConfused(found, target);
  const tables = [
    {title: 'Result', rows: resultTable},
    {title: 'Cost', rows: costTable(parameters, sizes)},
    ...(given.compare
      ? [{title: 'Methods, each at its best rate', rows: compareTable(compared, base.name)}]
      : []),
    ...(confusions.length ? [{title: 'What is confused', rows: confusionTable(confusions)}] : []),
  ];
  console.log(`\n${explained.join('\n')}\n\n${tables.map(({rows}) => textTable(rows)).join('\n\n')}\n`);
  say('Again', `the untrained model with the adapter from its file: ${percent(again)}`);

  const result = {
    task: data ? given.task : 'made up',
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps: settings.steps, rank: given.rank, rate, batch: given.batch, seed: given.seed},
    texts: [base, target].map(({name, labels, train, validation, test}) => ({
      ...{name, labels: labels.length, train: train.length, validation: validation.length, test: test.length},
    })),
    accuracy: {base: baseAccuracy, before, after, forgotten, readBack: again},
    parameters,
    bytes: sizes,
    compared,
    confusions,
    curve: training.seen,
  };
  writeReport(out, result, {
    title,
    subtitle: 'LoRA on a classifier of sentences.',
    parts: [
      ...tables,
      {
        title: 'Labels found on the validation part',
        svg: lineChart([{name: 'LoRA', points: training.seen.map(({step, accuracy}) => [step, accuracy])}], {
          ...{y: 'labels found', dots: true, percent: true},
        }),
      },
      {
        title: 'Training loss',
        svg: lineChart([{name: 'mean of ten; faint: each step', points: smooth(training.losses)}], {
          y: 'nats a sentence',
          faint: training.losses.map((loss, i) => [i + 1, loss]),
        }),
      },
      {title: 'What happened to each weight', text: explained.join('\n'), wide: true},
    ],
    facts: [
      ['Steps', `${settings.steps} of ${given.batch} sentences, ${duration(training.seconds)}`],
      ['LoRA', `rank ${given.rank}, Adam, rate ${rate} at most, seed ${given.seed}`],
      ['Base', `${base.name}, ${baseSteps} steps on all weights`],
      ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
    ],
    next: "// The merged model: plain tfjs, no library.\nconst model = await tf.loadLayersModel('model/model.json');",
  });
  say('Wrote', `adapter.safetensors, base/, model/, report.html, result.json in ${out}`);
});
