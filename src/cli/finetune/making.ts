/** What a run is made of: kept in its checkpoints, so that what goes on is the same run. */
import {UsageError} from '../usage-error.js';
import {digestOf} from './digest.js';
import type {Given} from './model.js';
import type {Options} from './options.js';
import type {Prepared} from './prepare.js';

type Value = string | number | boolean | null;

/** By name, in the order in which differences are told: what was asked for before what follows from it. */
export type Making = Readonly<Record<string, Value>>;

/** @param steps that the run takes in all */
export function makingOf(
  {digest: model}: Given,
  {task, digests}: Prepared,
  options: Options,
  steps: number,
): Making {
  const {method, rank, alpha, lr, inner, targets, head, newHead, batch, seed} = options;
  const flag = (given: boolean) => (given ? 'given' : null);
  return {
    ...{'--method': method, '--rank': rank, '--alpha': alpha, '--lr': lr, '--inner': inner},
    ...{'--targets': targets?.source ?? null, '--head': head, '--new-head': flag(newHead)},
    ...{'--task': newHead ? task.kind : null, '--batch': batch, '--batch-norm': options.batchNorm},
    ...{'--seed': seed, '--label': digests.labels, '--ignore': [...options.ignore].sort().join(',') || null},
    ...{'--no-header': flag(options.header === false), '--drop-empty': flag(options.dropEmpty)},
    ...{'--standardise': flag(options.standardise), '--standardise-labels': flag(options.standardiseLabels)},
    ...{'--scale': options.scale ?? null, '--resize': flag(options.resize)},
    ...{
      '--test': flag(options.test !== undefined),
      '--split': options.test === undefined ? options.split : null,
    },
    ...{
      model,
      'data.json': digests.known,
      vocabulary: digests.vocabulary,
      data: digests.data,
      test: digests.test,
    },
    classes: task.kind === 'classes' ? digestOf(task.classes) : null,
    steps,
  };
}

/**
 * Compares what a run was made of with what a call asks for.
 * @throws UsageError that names the first option or file that differs
 */
export function expectSameMaking(then: Making, now: Making, {model, data, test}: Options): void {
  const name = Object.keys(now).find(key => key in then && then[key] !== now[key]);
  if (name === undefined) return;
  const files: Record<string, string> = {
    model: `the model ${model}`,
    'data.json': `the data.json beside the model ${model}`,
    vocabulary: `the vocabulary beside the model ${model}`,
    data: `the data ${data}`,
    test: `the data of --test ${test}`,
    classes: 'the names or the order of the classes (--classes, or classes.txt beside the model)',
  };
  const file = files[name];
  const shown = (value: Value | undefined) => value ?? 'not given';
  const called = name === 'steps' ? 'the number of steps (--steps, --epochs)' : name;
  const what =
    file === undefined
      ? `${called} was ${shown(then[name])} when the run began, and is ${shown(now[name])} now`
      : `${file} ${name === 'classes' ? 'are' : 'is'} not what the run began with`;
  throw new UsageError(`--resume: ${what}: go on with what it was, or begin another run in another --out`);
}
