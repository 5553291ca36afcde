// What becomes of the inner optimizer's moments when GaLore chooses its basis anew: kept, kept in an aligned basis, reset,
// transported. Two problems, Adam and Momentum, several seeds and learning rates.
//
//     node bench/moments.mjs           everything (minutes): bench/results/moments.json, docs/performance/moments.svg
//     node bench/moments.mjs net       one problem alone; the results of the other stay
//     node bench/moments.mjs --plot    the figure alone, of the results there are
//
import {existsSync, readFileSync, writeFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {at, every, galore, normal, projected, splitSeed} from 'tfjs-lora';
import {dots} from './plot.mjs';
import {spread} from './statistics.mjs';

const file = new URL('results/moments.json', import.meta.url);
const seeds = Array.from({length: 8}, (_, i) => i + 1);
const rank = 4;
const interval = 20;

/** What is compared. `moments` null: no renewal; `align` null: no projection at all. */
const treatments = {
  'kept, as published': {align: false, moments: 'keep'},
  'kept, aligned': {align: true, moments: 'keep'},
  transported: {align: true, moments: 'transport'},
  reset: {align: true, moments: 'reset'},
  'never renewed': {align: true, moments: null},
  'no projection': {align: null, moments: null},
};

const inners = {
  Adam: rate => tf.train.adam(rate, 0.9, 0.999, 1e-7),
  Momentum: rate => tf.train.momentum(rate, 0.9),
};

/**
 * loss_t(W) = |U_t^T (W - W*)|^2 / 2, W [32, 24]: four directions of the rows count at a time, and they turn by 0.01 a
 * step towards four others and on. What is left is measured over all directions that were ever asked for.
 */
function quadratic(seed) {
  const [m, n, k] = [32, 24, 4];
  const basis = orthonormal(normal([m, 2 * k], splitSeed(seed, 'basis')));
  const [first, second] = tf.split(basis, 2, 1);
  const sizes = tf.tensor2d([2, 1.4, 1, 0.7], [1, k]);
  const goal = normal([m, n], splitSeed(seed, 'goal'));
  const weight = tf.variable(tf.zeros([m, n]));
  const distance = () => tf.sum(tf.square(tf.matMul(basis, tf.sub(weight, goal), true)));
  return {
    weights: [weight],
    step(step) {
      const angle = 0.01 * step;
      const turned = tf.add(tf.mul(first, Math.cos(angle)), tf.mul(second, Math.sin(angle)));
      const asked = tf.mul(turned, sizes);
      return () => tf.mul(tf.sum(tf.square(tf.matMul(asked, tf.sub(weight, goal), true))), 0.5);
    },
    left: distance,
  };
}

/** A net 16-32-4 with tanh learns another of its kind from batches of 32 of 512 rows; the loss of all rows is left. */
function net(seed) {
  const sizes = [16, 32, 4];
  const layers = label =>
    sizes
      .slice(1)
      .map((n, i) => normal([sizes[i], n], splitSeed(seed, label, i), {std: 1.2 / Math.sqrt(sizes[i])}));
  const apply = (x, kernels) =>
    kernels.reduce((h, w, i) => (i < kernels.length - 1 ? tf.tanh(tf.matMul(h, w)) : tf.matMul(h, w)), x);
  const x = normal([512, sizes[0]], splitSeed(seed, 'x'));
  const y = apply(x, layers('teacher'));
  const weights = layers('student').map(w => tf.variable(w));
  const loss = (input, wanted) => tf.mean(tf.squaredDifference(apply(input, weights), wanted));
  return {
    weights,
    step(step) {
      const from = 32 * (step % 16);
      return () => loss(tf.slice(x, [from, 0], [32, -1]), tf.slice(y, [from, 0], [32, -1]));
    },
    left: () => loss(x, y),
  };
}

const problems = {
  quadratic: {
    make: quadratic,
    steps: 300,
    rates: {Adam: [0.004, 0.008, 0.016], Momentum: [0.0006, 0.00125, 0.0025]},
  },
  net: {make: net, steps: 160, rates: {Adam: [0.01, 0.03], Momentum: [0.1, 0.3]}},
};

/** Gram and Schmidt, twice. */
function orthonormal(matrix) {
  return tf.tidy(() => {
    const columns = [];
    for (const column of tf.split(matrix, matrix.shape[1], 1)) {
      let v = column;
      for (let pass = 0; pass < 2; pass++)
        for (const u of columns) v = tf.sub(v, tf.mul(u, tf.sum(tf.mul(u, v))));
      columns.push(tf.div(v, tf.norm(v)));
    }
    return tf.concat(columns, 1);
  });
}

/** Notes, at each renewal, the cosine of the mean of gradients in W before and after it. */
function watched(p, inner, moments, cosines) {
  const refresh = (state, start) => {
    const fresh = p.refresh(state, start);
    const [slot] = inner.accumulatedFirstMoment ?? inner.accumulations;
    if (!slot || moments === 'reset') return fresh;
    const next = {factors: fresh.factors, frozen: fresh.frozen};
    const inW = (at, m) => p.delta({factors: {r: m}, frozen: at.frozen});
    const before = inW(state, slot.variable);
    const {left, right} = moments === 'transport' ? p.transport(state, next).r : {};
    const turned = left ? tf.matMul(left, slot.variable) : slot.variable;
    const after = inW(next, right ? tf.matMul(turned, right) : turned);
    const [dot, a, b] = [tf.mul(before, after), tf.square(before), tf.square(after)].map(
      x => tf.sum(x).dataSync()[0],
    );
    cosines.push(dot / Math.sqrt(a * b));
    return fresh;
  };
  return {...p, refresh};
}

function run(problem, name, rate, treatment, seed) {
  const {make, steps} = problems[problem];
  const before = tf.memory().numTensors;
  tf.engine().startScope();
  const {weights, step: at_, left} = make(seed);
  const inner = inners[name](rate);
  const {align, moments} = treatments[treatment];
  const cosines = [];
  let optimizer = inner;
  if (align !== null) {
    const {trained: _, ...p} = galore({rank, align});
    const options = moments ? {refresh: every(interval), moments} : {refresh: at([]), moments: 'reset'};
    const parametrization = problem === 'quadratic' ? watched(p, inner, moments, cosines) : p;
    optimizer = projected(inner, parametrization, {targets: () => true, ...options});
  }
  const value = () => tf.tidy(() => left().dataSync()[0]);
  const first = value();
  for (let step = 0; step < steps; step++) tf.tidy(() => void optimizer.minimize(at_(step), false, weights));
  const last = value();
  optimizer.dispose();
  weights.forEach(weight => weight.dispose());
  tf.engine().endScope();
  if (tf.memory().numTensors - before > 8)
    throw new Error(`${tf.memory().numTensors - before} tensors are left`);
  return {left: last / first, cosines};
}

async function measure(chosen) {
  tf.enableProdMode();
  await tf.setBackend('cpu');
  const rows = [];
  for (const [problem, {rates}] of chosen.map(name => [name, problems[name]])) {
    for (const name of Object.keys(inners)) {
      for (const treatment of Object.keys(treatments)) {
        const tried = rates[name].map(rate => {
          const runs = seeds.map(seed => run(problem, name, rate, treatment, seed));
          const cosines = runs.flatMap(({cosines}) => cosines);
          return {
            rate,
            left: runs.map(({left}) => left),
            ...spread(runs.map(({left}) => left)),
            ...(cosines.length > 0 && {cosine: spread(cosines), least: Math.min(...cosines)}),
          };
        });
        const best = tried.reduce((a, b) => (b.median < a.median ? b : a));
        rows.push({problem, inner: name, treatment, best: best.rate, rates: tried});
        console.log(
          problem,
          name,
          treatment,
          best.rate,
          best.median.toPrecision(3),
          best.q1.toPrecision(3),
          best.q3.toPrecision(3),
          best.cosine?.median.toFixed(3) ?? '',
          best.least?.toFixed(3) ?? '',
        );
      }
    }
  }
  return {
    what: 'loss left of the first, by what becomes of the moments; per seed, with median and quartiles, at each learning rate tried',
    method: `galore, rank ${rank}, renewed every ${interval} steps; ${seeds.length} seeds`,
    steps: Object.fromEntries(Object.entries(problems).map(([name, {steps}]) => [name, steps])),
    backend: 'cpu, float32',
    tfjs: tf.version.tfjs,
    rows,
  };
}

const titles = {quadratic: 'A quadratic whose directions turn', net: 'A small net'};
const colors = ['#b2182b', '#d9770b', '#1b7837', '#7b5ea7', '#999999', '#555555'];

function plot({rows}) {
  const panels = Object.keys(problems).flatMap(problem =>
    Object.keys(inners).map(inner => ({
      title: `${titles[problem]}, ${inner}`,
      rows: rows
        .filter(row => row.problem === problem && row.inner === inner)
        .map(({treatment, best, rates}, i) => {
          const {left, median, q1, q3} = rates.find(({rate}) => rate === best);
          return {label: treatment, color: colors[i], values: left, median, low: q1, high: q3};
        }),
    })),
  );
  const svg = dots({
    title: 'Loss left of the first, by what becomes of the moments at a renewal',
    unit: 'median, quartiles and each seed (logarithmic)',
    panels,
  });
  writeFileSync(new URL('../docs/performance/moments.svg', import.meta.url), svg);
}

const [what] = process.argv.slice(2);
if (what !== '--plot') {
  const measured = await measure(what ? [what] : Object.keys(problems));
  const before = what && existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).rows : [];
  const rows = [...before.filter(({problem}) => problem !== what), ...measured.rows];
  writeFileSync(file, JSON.stringify({...measured, rows}, null, 1) + '\n');
}
plot(JSON.parse(readFileSync(file, 'utf8')));
