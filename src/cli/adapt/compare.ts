/** `tfjs-lora adapt --compare`: several methods learn the same text from the same start, one after another. */
import {join} from 'node:path';
import {adaptation} from '../byte-lm/adaptation.js';
import {expectWritable, loadModel, runFiles, runFolder, writeFiles} from '../files.js';
import {Interruption} from '../interruption.js';
import {modelFolder} from '../package.js';
import {progressLine} from '../progress.js';
import {count, percent} from '../table.js';
import {rankFor, trainedAt} from './budget.js';
import {comparisonPage, comparisonText, outcomeText} from './compare-show.js';
import type {Comparison, Trial} from './comparison.js';
import type {Ground} from './ground.js';
import {innerAndRate, methodOf} from './method-names.js';
import {buildOptimizer, countParameters, type Plan, targetsOf} from './optimizer.js';
import {type CompareOptions, textName} from './options.js';
import {isDiverged} from './result.js';

/** A method and the rates to try. */
interface Entry {
  plans: Plan[];
  trained: number;
}

/** @returns the exit code: 0, 1 when no method came to its end, or that of the signal that ended it */
export async function compare(options: CompareOptions, ground: Ground): Promise<number> {
  const out = runFolder(options.out, join('runs', `${textName(options.text)}-compared`));
  expectWritable(out);
  const interruption = new Interruption();
  try {
    const {entries, budget, weights, before} = await prepare(options, ground, interruption.signal);
    if (!before) return interruption.exitCode!;
    const {text, targets, ...rest} = options;
    const comparison: Comparison = {
      date: '',
      before,
      budget,
      weights,
      adamStateBytes: 2 * 4 * weights,
      methods: [],
      missing: [],
      prompt: ground.prompt,
      options: {
        ...rest,
        ...{
          text: ground.target.name,
          targets: targets?.source ?? 'every matrix',
          lr: options.lr ?? null,
          inner: options.inner ?? 'adam',
          out,
        },
        backend: ground.backend.name,
      },
      backend: ground.backend.name,
      versions: ground.versions(),
    };
    for (const [i, entry] of entries.entries()) {
      const best = await bestTrial(entry, ground, interruption.signal);
      if (best) comparison.methods.push(best);
      comparison.missing = options.compare.slice(comparison.methods.length);
      if (comparison.methods.length === 0) break;
      // After every method, so that whatever happens from here on loses nothing.
      await write(comparison, ground, out);
      if (interruption.signal.aborted) break;
      if (i === entries.length - 1) console.log(`\n${comparisonText(comparison)}`);
    }
    if (interruption.signal.aborted) return stopped(comparison, interruption.exitCode!);
    return comparison.methods.some(({ended}) => ended === 'done') ? 0 : 1;
  } finally {
    interruption.off();
  }
}

function stopped(comparison: Comparison, code: number): number {
  const {methods, options} = comparison;
  if (methods.length > 0) console.log(`\n${comparisonText(comparison)}`);
  else console.log(`Stopped before ${options.compare[0]} had taken a step; nothing was written.`);
  return code;
}

/** Ranks, rates and checks of all methods before the first one runs, and how the model does as it ships. */
async function prepare(options: CompareOptions, ground: Ground, signal: AbortSignal) {
  const model = await loadModel(modelFolder);
  const {steps, seed, targets, rank, lr, lrs} = options;
  const matrices = targetsOf(model, targets);
  const budget = trainedAt(methodOf('lora'), rank, matrices);
  let weights = 0;
  const entries = options.compare.map((name): Entry => {
    const method = methodOf(name);
    const ownRank = name === 'lora' ? rank : rankFor(method, matrices, budget);
    const alpha = method.alpha === null ? null : method.alpha * (ownRank ?? 1);
    const {inner, lr: suited} = innerAndRate(method, options.inner);
    const rates = lrs.map(factor => Number((factor * (lr ?? suited)).toPrecision(6)));
    const plans = rates.map(rate => ({
      method: name,
      rank: ownRank,
      alpha,
      lr: rate,
      steps,
      inner,
      seed,
      targets,
    }));
    const optimizer = buildOptimizer(model, plans[0]!);
    const {trained, all} = countParameters(model, optimizer);
    optimizer.dispose();
    weights = all;
    return {plans, trained};
  });
  const rateWords = lrs.length > 1 ? `, each with ${lrs.length} rates` : '';
  ground.introduce(weights, [
    ['Methods', `${options.compare.join(', ')}${rateWords}`],
    [
      'Budget',
      `${count(budget)} numbers, ${percent(budget / weights)} of the weights; ${steps} steps, ${options.inner ?? 'adam'}`,
    ],
  ]);
  for (const {plans, trained} of entries) {
    const [{method, rank: own, alpha, inner}] = plans as [Plan];
    const told = [own === null ? [] : `rank ${own}`, alpha === null ? [] : `alpha ${alpha}`].flat();
    const rates = plans.map(plan => plan.lr).join(', ');
    console.log(
      `  ${method.padEnd(16)} ${[...told, `trains ${count(trained)}`, `rate ${rates}`, ...(inner === (options.inner ?? 'adam') ? [] : [inner])].join(', ')}`,
    );
  }
  console.log('\nMeasuring the model before …');
  const before = await ground.measureUnless(signal, model);
  model.dispose();
  return {entries, budget, weights, before};
}

/** The rate that does best on the held-out text; undefined when a signal came before the first step. */
async function bestTrial(
  {plans, trained}: Entry,
  ground: Ground,
  signal: AbortSignal,
): Promise<Trial | undefined> {
  const trials: Trial[] = [];
  for (const plan of plans) {
    if (signal.aborted) break;
    const trial = await runTrial(plan, trained, ground, signal);
    if (trial.loss.length > 0 || trial.ended !== 'stopped') trials.push(trial);
  }
  const merit = ({after}: Trial) => (after && !isDiverged(after.target) ? after.target : Infinity);
  const [best, ...others] = trials.sort((a, b) => merit(a) - merit(b));
  return best && {...best, others: others.map(({lr, after}) => ({lr, target: after?.target ?? null}))};
}

/** Trains a freshly loaded model; leaves no tensor behind. */
export async function runTrial(
  plan: Plan,
  trained: number,
  ground: Ground,
  signal: AbortSignal,
): Promise<Trial> {
  const {method, rank, alpha, lr, steps, inner, seed} = plan;
  const trial: Trial = {
    ...{method, rank, alpha, lr, inner, trained, loss: [], msPerStep: 0, optimizerStateBytes: 0},
    ...{after: null, ended: 'stopped', why: null, others: []},
  };
  const label = `${method}  `;
  const progress = progressLine(process.stderr, undefined, label);
  const model = await loadModel(modelFolder);
  const optimizer = buildOptimizer(model, plan);
  try {
    const onStep: typeof progress.update = step => {
      trial.loss.push(step.loss);
      progress.update(step);
    };
    const done = await adaptation(model, optimizer, ground.target.train, {steps, seed, signal, onStep});
    progress.end();
    trial.msPerStep = Number(done.msPerStep.toFixed(1));
    trial.optimizerStateBytes = optimizer.stateBytes;
    if (done.diverged) trial.ended = 'diverged';
    else {
      trial.after = (await ground.measureUnless(signal, model)) ?? null;
      if (trial.after) trial.ended = isDiverged(trial.after.target) ? 'diverged' : 'done';
    }
  } catch (error) {
    trial.ended = 'failed';
    trial.why = error instanceof Error ? error.message : String(error);
  } finally {
    progress.end();
    optimizer.dispose();
    model.dispose();
  }
  console.log(`${label}${outcomeText(trial)}`);
  return trial;
}

async function write(comparison: Comparison, ground: Ground, out: string): Promise<void> {
  comparison.date = new Date().toISOString();
  await writeFiles({
    [join(out, runFiles.report)]: comparisonPage(comparison, ground),
    [join(out, runFiles.result)]: JSON.stringify(comparison, null, 2) + '\n',
  });
}
