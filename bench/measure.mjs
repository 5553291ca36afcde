// Times candidates against each other: all are alive at once and take their steps in turns.
import * as tf from '@tensorflow/tfjs';
import {watchEngine} from './engine.mjs';
import {onKernels} from './kernels.mjs';
import {largestDifference, spread} from './statistics.mjs';

/** Candidates with faster steps are watched in one more step at the end. */
const lastLookMs = 2000;

/**
 * @param candidates `{method, kernels, make(id)}`; `make` returns a function that takes one step and returns the loss.
 * @param rounds Turns. A candidate whose steps would take longer than `budgetMs` together sits out some, evenly.
 * @param limitMs A candidate whose first step takes longer is not asked for a second; its row says `cold`.
 */
export async function measure(candidates, {rounds, budgetMs, limitMs, progress}) {
  const rows = [];
  for (const candidate of candidates) rows.push(await build(candidate));
  for (const row of rows) warmUp(row, limitMs, progress);
  const running = rows.filter(row => row.step && !row.cold);
  for (const row of running) {
    const every = Math.ceil((rounds * row.warm) / budgetMs);
    row.every = Math.min(Math.max(1, every), Math.max(1, Math.floor(rounds / 3)));
  }
  for (let round = 0; round < rounds; round++) {
    progress(`round ${round + 1} of ${rounds}`);
    for (const row of running) {
      if (round % row.every === 0) row.times.push(timed(row));
    }
  }
  // The profile of a step long after the first ones.
  for (const row of running) if (row.warm < lastLookMs) watchedStep(row);
  return withAgreement(rows.map(result));
}

async function build({method, kernels, make}) {
  const row = {method, kernels, losses: [], times: [], held: {tensors: 0, buffers: 0}, cold: false};
  const watch = watchEngine();
  try {
    row.step = await make(`${method}-${kernels}`);
  } catch (error) {
    row.error = messageOf(error);
  }
  grow(row.held, watch.stop().added);
  return row;
}

/** Two steps that are watched, and not timed unless there is time for one step alone. */
function warmUp(row, limitMs, progress) {
  row.peak = {tensors: 0, buffers: 0};
  for (let i = 0; i < 2 && row.step; i++) {
    progress(`warm-up of ${row.method}, ${row.kernels}`);
    try {
      row.warm = watchedStep(row);
    } catch (error) {
      row.error = messageOf(error);
      delete row.step;
      return;
    }
    if (row.warm > limitMs) {
      row.cold = true;
      row.times.push(row.warm);
      return;
    }
  }
}

/** A step in an engine that is watched; keeps what was seen, and returns its time. */
function watchedStep(row) {
  const watch = watchEngine();
  let ms, seen;
  try {
    ms = timed(row);
  } finally {
    seen = watch.stop();
  }
  for (const of of ['tensors', 'buffers'])
    row.peak[of] = Math.max(row.peak[of], row.held[of] + seen.peak[of]);
  grow(row.held, seen.added);
  Object.assign(row, {launches: seen.launches, profile: profileOf(seen, ms)});
  return ms;
}

/** Milliseconds of one step, with the kernels of the candidate. */
function timed(row) {
  return onKernels(row.kernels, () => {
    const start = performance.now();
    const loss = row.step();
    const ms = performance.now() - start;
    row.losses.push(loss);
    return ms;
  });
}

function result(row) {
  const {method, kernels, error, cold, losses, times, launches, peak, held, profile} = row;
  if (error) return {method, kernels, error};
  return {
    method,
    kernels,
    cold,
    ms: spread(times),
    launches,
    peakBytes: peak,
    heldBytes: held,
    losses,
    profile,
  };
}

/**
 * How far each loss is from that of a reference: tfjs-lora with dense gradients for LoRA, Adam as shipped for Adam;
 * where that throws, the first other one that trains the same.
 */
function withAgreement(results) {
  const trained = results.filter(({losses}) => losses);
  for (const row of trained) {
    const same = trained.filter(
      ({method}) => !isFloor(method) && (method === 'adam') === (row.method === 'adam'),
    );
    const reference = same.find(({method}) => method === 'dense') ?? same[0];
    if (!reference || reference === row) continue;
    // The floor moves nothing: its loss is the first one.
    const losses = isFloor(row.method) ? row.losses.slice(0, 1) : row.losses;
    row.lossReference = `${reference.method}, ${reference.kernels}`;
    row.lossDifference = largestDifference(losses, reference.losses);
  }
  return results;
}

const isFloor = method => method === 'floor' || method === 'moving';

/** The kernels that took longest in one watched step, and the time outside of kernels. */
function profileOf({kernels, kernelMs}, ms) {
  const rows = Object.entries(kernels).map(([kernel, seen]) => ({kernel, ...seen}));
  return {
    ms,
    outsideKernels: ms - kernelMs,
    kernels: rows.sort((a, b) => b.ms - a.ms).slice(0, 12),
  };
}

function grow(held, added) {
  held.tensors += added.tensors;
  held.buffers += added.buffers;
}

const messageOf = error => String(error.message ?? error).split('\n')[0];

/** Runs `work` and disposes every tensor and variable made in it. */
export async function cleanly(work) {
  tf.engine().startScope();
  try {
    return await work();
  } finally {
    tf.disposeVariables();
    tf.engine().endScope();
  }
}
