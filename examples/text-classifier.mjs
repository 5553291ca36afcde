// A classifier of sentences that knows one set of labels learns another through LoRA: on the embedding, a convolution
// and a hidden layer, with a new head that is trained in full.
//
//     node examples/text-classifier.mjs --data FOLDER --task banking77
//     node examples/text-classifier.mjs --self-made       made-up sentences, in seconds
//
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {cosine, lora, loraAdam, projected} from 'tfjs-lora';
import {nodeFiles} from 'tfjs-lora/adapter';
import {readArguments, run, usual} from './shared/arguments.mjs';
import {chooseBackend} from './shared/backend.mjs';
import {lineChart, smooth} from './shared/chart.mjs';
import {findData} from './shared/data.mjs';
import {count, duration, kilobytes, percent, say, textTable} from './shared/format.mjs';
import {progressLine} from './shared/progress.mjs';
import {keep, readBack, runFolder, writeReport} from './shared/run-folder.mjs';
import {accuracy, classifier, predict, tensors, withNewHead} from './shared/text/classifier.mjs';
import {random, shuffled} from './shared/text/random.mjs';
import {banking77, rtPolarity, snips, uciReviews} from './shared/text/sentences.mjs';
import {toyIntents} from './shared/text/toys.mjs';

const tasks = {
  banking77: {
    needs: ['snips-intents', 'banking77'],
    steps: 600,
    title: 'From seven intents to 77 concerns of a bank',
    base: data => ({name: 'snips', ...snips(join(data, 'snips-intents'))}),
    target: data => ({name: 'banking77', ...banking77(join(data, 'banking77'))}),
  },
  snips: {
    needs: ['banking77', 'snips-intents'],
    steps: 150,
    title: 'From 77 concerns of a bank to seven intents, twenty sentences each',
    base: data => ({name: 'banking77', ...banking77(join(data, 'banking77'))}),
    target: data => ({name: 'snips', ...snips(join(data, 'snips-intents'))}),
    few: 20,
  },
  'rt-polarity': {
    needs: ['rt-polarity', 'uci-sentiment-sentences'],
    steps: 200,
    title: 'From film reviews to reviews of phones, films and restaurants',
    base: data => ({name: 'rt-polarity', train: rtPolarity(join(data, 'rt-polarity'))}),
    target: data => ({name: 'UCI reviews', train: uciReviews(join(data, 'uci-sentiment-sentences'))}),
  },
};

const toy = {
  title: 'Made-up sentences: from three topics to six intents',
  base: next => ({name: 'topics', train: toyIntents(next).base}),
  target: next => ({name: 'intents', train: toyIntents(next).target}),
};

/** How each method moves the weights, and the rates to choose from. */
const methods = {
  'head only': {
    rates: [0.001, 0.003, 0.01, 0.03],
    optimizer: ({rate, seed}) =>
      projected(adam(), lora(), {learningRate: rate, seed, targets: [['head', 'train']]}),
  },
  LoRA: {
    rates: [0.001, 0.003, 0.01, 0.03],
    optimizer: ({rate, rank, seed, newHead}) =>
      projected(adam(), lora({rank}), {
        ...{learningRate: rate, seed},
        targets: [
          ['embedding', lora({rank})],
          [/^(conv|hidden)\/kernel/, lora({rank})],
          // A head of new labels has nothing to keep.
          ['head', newHead ? 'train' : lora({rank: 1})],
        ],
      }),
  },
  'all weights': {
    rates: [0.0003, 0.001, 0.003, 0.01],
    optimizer: ({rate}) => projected(adam(), lora(), {learningRate: rate, targets: [[/./, 'train']]}),
  },
};

const adam = () => tf.train.adam(1e-3, 0.9, 0.999, 1e-7);

async function main() {
  const given = readArguments({
    task: {is: 'what to learn', kind: Object.keys(tasks)},
    ...usual,
    batch: {...usual.batch, is: 'sentences in a batch'},
    rank: {is: 'rank of LoRA', kind: 'whole', default: 8},
    rate: {is: 'highest learning rate', kind: 'number', default: 0.02},
    few: {is: 'sentences of each label to learn from; 0: all; default: as the task says', kind: 'from 0'},
    compare: {is: 'LoRA, the head alone, all weights: rates chosen on validation, two seeds', kind: 'flag'},
  });
  const chosen = tasks[given.task];
  const data = given['self-made'] ? undefined : findData(given.data, chosen.needs);
  const out = runFolder(given.out, data ? `text-classifier-${given.task}` : 'text-classifier-made-up');
  const task = prepare(data ? chosen : toy, data ?? random(given.seed), given.few ?? chosen.few);
  const steps = given.steps ?? (data ? chosen.steps : 60);
  const settings = {
    ...given,
    steps,
    baseSteps: data ? 600 : 60,
    newHead: String(task.base.labels) !== String(task.target.labels),
  };
  const {base, target} = task;

  await chooseBackend(given.backend);
  if (given.backend === 'wasm') {
    await showStockWasm();
    await import('tfjs-lora/wasm');
  }

  for (const [word, {name, labels, train, validation, test}] of [
    ['Base', base],
    ['Target', target],
  ]) {
    const sizes = [train, validation, test].map(part => count(part.length)).join(', ');
    say(word, `${name}: ${labels.length} labels; ${sizes} sentences to learn, choose by, measure`);
  }
  const known = classifier(base.labels.length, given.seed);
  await train(known, adam(), base, {
    ...settings,
    steps: settings.baseSteps,
    rate: 0.003,
    label: `${base.name}: `,
  });
  const baseAccuracy = await accuracy(known, base.test, base.labels);
  say('Base', `finds ${percent(baseAccuracy)} of the labels of ${base.name}, held out`);

  const start = seed => {
    if (!settings.newHead) {
      const model = classifier(base.labels.length, seed);
      model.setWeights(known.getWeights());
      return model;
    }
    return withNewHead(known, target.labels.length, seed + 100);
  };
  let {rate} = given;
  const compared = given.compare ? await compare(start, task, settings) : [];
  if (given.compare) rate = compared.find(({method}) => method === 'LoRA').rate;

  const model = start(given.seed);
  const untrained = start(given.seed);
  const before = await accuracy(model, target.test, target.labels);
  const optimizer = methods.LoRA.optimizer({...settings, rate: schedule(rate, steps)});
  const training = await train(model, optimizer, target, {...settings, look: true});
  const found = await predict(model, target.test);
  const after = await accuracy(model, target.test, target.labels);
  const forgotten = settings.newHead ? undefined : await accuracy(model, base.test, base.labels);
  const explained = [];
  const trained = optimizer
    .explain(model, line => explained.push(line))
    .reduce((sum, row) => sum + row.trained, 0);
  console.log(`\n${explained.join('\n')}\n`);
  const sizes = await keep(out, model, optimizer);
  await untrained.save(nodeFiles(join(out, 'base')));
  await readBack(out, untrained);
  const again = await accuracy(untrained, target.test, target.labels);

  const resultTable = [
    ['Labels found', 'before', 'after'],
    [`${target.name}, held out`, percent(before), percent(after)],
    ...(settings.newHead ? [] : [[`${base.name}, held out`, percent(baseAccuracy), percent(forgotten)]]),
  ];
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
  const confusions = mostConfused(found, target);
  const confusionTable = [
    ['Most often taken for another', 'taken for', 'times', 'of'],
    ...confusions.map(({is, taken, times, of}) => [is, taken, String(times), String(of)]),
  ];
  const compareTable = [
    [
      'Method',
      'rate',
      'validation',
      'held out, two seeds',
      'trained',
      ...(settings.newHead ? [] : [base.name]),
    ],
    ...compared.map(row => [
      ...[
        row.method,
        String(row.rate),
        percent(row.validation),
        row.test.map(percent).join(', '),
        count(row.trained),
      ],
      ...(settings.newHead ? [] : [row.base.map(percent).join(', ')]),
    ]),
  ];
  const tables = [
    resultTable,
    costTable,
    ...(given.compare ? [compareTable] : []),
    ...(confusions.length ? [confusionTable] : []),
  ];
  console.log(tables.map(textTable).join('\n\n'));
  console.log();
  say('Again', `the untrained model with the adapter from its file: ${percent(again)}`);

  const result = {
    task: data ? given.task : 'made up',
    versions: {node: process.version, tfjs: tf.version.tfjs, backend: tf.getBackend()},
    settings: {steps, rank: given.rank, rate, batch: given.batch, seed: given.seed},
    texts: [base, target].map(({name, labels, train, validation, test}) => ({
      ...{name, labels: labels.length, train: train.length, validation: validation.length, test: test.length},
    })),
    accuracy: {base: baseAccuracy, before, after, forgotten: forgotten ?? null, readBack: again},
    parameters: {all: model.countParams(), trained},
    bytes: sizes,
    compared,
    confusions,
    curve: training.seen,
  };
  const parts = [
    {title: 'Result', rows: resultTable},
    {title: 'Cost', rows: costTable},
    ...(given.compare ? [{title: 'Methods, each at its best rate', rows: compareTable}] : []),
    ...(confusions.length ? [{title: 'What is confused', rows: confusionTable}] : []),
    {
      title: 'Labels found on the validation part',
      svg: lineChart([{name: 'LoRA', points: training.seen.map(({step, accuracy}) => [step, accuracy])}], {
        y: 'labels found',
        dots: true,
        percent: true,
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
  ];
  const facts = [
    ['Steps', `${steps} of ${given.batch} sentences, ${duration(training.seconds)}`],
    ['LoRA', `rank ${given.rank}, Adam, rate ${rate} at most, seed ${given.seed}`],
    ['Base', `${base.name}, ${settings.baseSteps} steps on all weights`],
    ['Backend', `${tf.getBackend()} of tfjs ${tf.version.tfjs}`],
  ];
  writeReport(out, result, {
    title: (data ? chosen : toy).title,
    subtitle: 'LoRA on a classifier of sentences.',
    parts,
    facts,
    next: "const model = await tf.loadLayersModel('model/model.json'); // the merged model: plain tfjs, no library",
  });
  say('Wrote', `adapter.safetensors, base/, model/, report.html, result.json in ${out}`);
}

/** tfjs alone cannot train an embedding on its wasm backend; through the library it can. */
async function showStockWasm() {
  const model = tf.sequential({
    layers: [
      tf.layers.embedding({inputDim: 500, outputDim: 16, inputLength: 8}),
      tf.layers.globalAveragePooling1d(),
      tf.layers.dense({units: 2, activation: 'softmax'}),
    ],
  });
  const x = tf.ones([4, 8], 'int32');
  const y = tf.ones([4, 1]);
  for (const [name, optimizer] of [
    ['tf.train.adam', adam()],
    ['loraAdam', loraAdam(0.01, {rank: 2})],
  ]) {
    model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
    try {
      const loss = await model.trainOnBatch(x, y);
      console.log(`An embedding on stock wasm by ${name}: trains, loss ${loss.toFixed(3)}`);
    } catch (error) {
      console.log(`An embedding on stock wasm by ${name}: ${error.message.split('\n')[0]}`);
    }
    optimizer.dispose();
  }
  tf.dispose([x, y]);
  model.dispose();
}

/**
 * No sentence twice, none of the test part to learn from. Without a test part of their own: a fifth of the sentences;
 * a tenth of what is left is the validation part.
 */
function prepare(task, data, few = 0) {
  const [base, target] = [task.base(data), task.target(data)];
  const key = ({text}) => text.toLowerCase();
  const part = ({name, train, test}, {avoid = new Set(), most = 0}) => {
    const next = random(7);
    const seen = new Set([...avoid, ...(test ?? []).map(key)]);
    const all = shuffled(train, next).filter(sentence => !seen.has(key(sentence)) && seen.add(key(sentence)));
    const held = test ?? all.splice(0, Math.floor(all.length / 5));
    const validation = all.splice(0, Math.floor(all.length / 10));
    const labels = [...new Set(all.map(({label}) => label))].sort();
    const taken = new Map();
    const learn = all.filter(({label}) => {
      taken.set(label, (taken.get(label) ?? 0) + 1);
      return most === 0 || taken.get(label) <= most;
    });
    return {name, labels, train: learn, validation: validation.slice(0, 1000), test: held};
  };
  const learned = part(target, {most: few});
  const measured = new Set([...learned.test, ...learned.validation].map(key));
  return {base: part(base, {avoid: measured}), target: learned};
}

/** Rises for a twentieth of the steps, then falls as a cosine. */
const schedule = (rate, steps) => cosine(rate, {steps, warmup: Math.ceil(steps / 20)});

/** Trains for some steps; with `look` it measures eight times on the way. */
async function train(model, optimizer, {train: sentences, validation, labels}, settings) {
  const {steps, batch, seed, label = '', look = false} = settings;
  model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
  const next = random(seed + 1);
  const show = progressLine(label);
  const losses = [];
  const seen = look ? [{step: 0, accuracy: await accuracy(model, validation, labels)}] : [];
  const start = performance.now();
  let waiting = [];
  for (let step = 1; step <= steps; step++) {
    if (waiting.length < batch) waiting = [...waiting, ...shuffled(sentences, next)];
    const {x, y} = tensors(waiting.splice(0, batch), labels);
    losses.push(await model.trainOnBatch(x, y));
    tf.dispose([x, y]);
    show({step, steps, loss: losses.at(-1)});
    if (look && (step % Math.ceil(steps / 8) === 0 || step === steps))
      seen.push({step, accuracy: await accuracy(model, validation, labels)});
  }
  return {losses, seen, seconds: (performance.now() - start) / 1000};
}

/** Every method on the same steps and sentences: the rate by the validation part, then another seed. */
async function compare(start, {base, target}, settings) {
  const {steps, newHead} = settings;
  const rows = [];
  const attempt = async (method, rate, seed, label) => {
    const model = start(seed);
    const optimizer = methods[method].optimizer({...settings, seed, rate: schedule(rate, steps)});
    await train(model, optimizer, target, {...settings, seed, label});
    const result = {
      validation: await accuracy(model, target.validation, target.labels),
      test: await accuracy(model, target.test, target.labels),
      base: newHead ? null : await accuracy(model, base.test, base.labels),
      trained: optimizer.explain(model, null).reduce((sum, row) => sum + row.trained, 0),
    };
    optimizer.dispose();
    model.dispose();
    return result;
  };
  for (const [method, {rates}] of Object.entries(methods)) {
    const tried = [];
    for (const rate of rates) {
      const result = await attempt(method, rate, settings.seed, `${method}, rate ${rate}: `);
      console.log(`${method}, rate ${rate}: ${percent(result.validation)} on the validation part`);
      tried.push({rate, ...result});
    }
    const best = tried.reduce((a, b) => (b.validation > a.validation ? b : a));
    const runs = [best];
    for (const seed of [1])
      runs.push(
        await attempt(method, best.rate, settings.seed + seed, `${method}, seed ${settings.seed + seed}: `),
      );
    rows.push({
      method,
      rate: best.rate,
      validation: best.validation,
      test: runs.map(({test}) => test),
      base: runs.map(run => run.base),
      trained: best.trained,
      tried: tried.map(({rate, validation}) => ({rate, validation})),
    });
  }
  return rows;
}

/** The pairs of labels that are confused most. */
function mostConfused(found, {test, labels}) {
  const pairs = new Map();
  const of = new Map();
  test.forEach(({label}, i) => {
    of.set(label, (of.get(label) ?? 0) + 1);
    const taken = labels[found[i]];
    if (taken !== label) pairs.set(`${label}\t${taken}`, (pairs.get(`${label}\t${taken}`) ?? 0) + 1);
  });
  return [...pairs]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 6)
    .map(([pair, times]) => {
      const [is, taken] = pair.split('\t');
      return {is, taken, times, of: of.get(is)};
    });
}

await run('text-classifier', main);
