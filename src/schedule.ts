import {expectNumber, expectOptions} from './options.js';
import {recipe} from './recipe.js';

/** Whether something is due at `step`: the number of steps already taken, so the first step is 0. */
export type Schedule = (step: number) => boolean;

/** The place a learning rate is for: set for an inner optimizer of one factor, empty for a shared one. */
export interface Where {
  /** Name of the weight. */
  readonly weight?: string;
  /** Name of its factor, e.g. 'a'; 'weight' for a weight that is trained as it is. */
  readonly factor?: string;
}

/** The learning rate at `step` (0 for the first). */
export type LearningRate = (step: number, where: Where) => number;

/** Throws unless `value` is a function. */
export function expectSchedule(where: string, value: unknown): asserts value is Schedule {
  if (typeof value === 'function') return;
  throw new TypeError(`${where} must be a function such as every(200), not ${String(value)}`);
}

export const never: Schedule = /* @__PURE__ */ recipe('never', (): Schedule => () => false)();

/** Due at steps n, 2n, 3n, … */
export const every = /* @__PURE__ */ recipe('every', (n: number): Schedule => {
  expectNumber('every: n', n, 'a whole number of at least 1', n => Number.isInteger(n) && n >= 1);
  return step => step > 0 && step % n === 0;
});

/** Due at the steps listed. */
export const at = /* @__PURE__ */ recipe('at', (steps: readonly number[]): Schedule => {
  const due = new Set(steps);
  return step => due.has(step);
});

/** The same learning rate at every step. */
export const constant = /* @__PURE__ */ recipe('constant', (rate: number): LearningRate => {
  expectRate('constant: rate', rate);
  return () => rate;
});

/** What `cosine` and `linear` take besides the peak rate. */
export interface DecayOptions {
  /** Steps until the floor is reached. */
  steps: number;
  /** Steps of linear warm-up from peak/warmup to peak. Default 0. */
  warmup?: number;
  /** Rate after `steps`. Default 0. */
  floor?: number;
}

/** Warm-up to `peak`, then half a cosine down to `floor` (arXiv:1608.03983). */
export const cosine = /* @__PURE__ */ recipe('cosine', (peak: number, options: DecayOptions): LearningRate =>
  decay('cosine', peak, options, half),
);

/** Warm-up to `peak`, then a straight line down to `floor`. */
export const linear = /* @__PURE__ */ recipe('linear', (peak: number, options: DecayOptions): LearningRate =>
  decay('linear', peak, options, left => left),
);

/** What `restarts` takes besides the peak rate. */
export interface RestartOptions extends DecayOptions {
  /** Steps from one restart to the next: as the `refresh: every(n)` beside it. */
  every: number;
  /** Steps of linear warm-up after each restart. Default `warmup`. */
  rewarm?: number;
}

/**
 * `cosine`, which at every restart begins again at 1/rewarm of where it is and is back in `rewarm` steps: for
 * moments that start again (ReLoRA, arXiv:2307.05695).
 */
export const restarts = /* @__PURE__ */ recipe(
  'restarts',
  (peak: number, options: RestartOptions): LearningRate => {
    const whole = decay('restarts', peak, options, half, ['every', 'rewarm']);
    const {every: n, rewarm} = options;
    const steps = rewarm ?? options.warmup ?? 0;
    const isCount = (count: number) => Number.isInteger(count) && count >= 1;
    expectNumber('restarts: every', n, 'a whole number of at least 1', isCount);
    const given = rewarm === undefined ? 'warmup, where no rewarm is given,' : 'rewarm';
    expectNumber(`restarts: ${given}`, steps, `a number from 0 to every (${n})`, c => c >= 0 && c <= n);
    return (step, where) =>
      whole(step, where) * (step < n || steps === 0 ? 1 : Math.min(1, ((step % n) + 1) / steps));
  },
);

function decay(
  name: string,
  peak: number,
  options: DecayOptions,
  shape: (left: number) => number,
  more: readonly string[] = [],
): LearningRate {
  expectRate(`${name}: peak`, peak);
  expectOptions(name, options, ['steps', 'warmup', 'floor', ...more]);
  const {steps, warmup = 0, floor = 0} = options;
  expectNumber(`${name}: steps`, steps, 'a number above 0', n => n > 0);
  expectNumber(`${name}: warmup`, warmup, 'a number from 0 to below steps', n => n >= 0 && n < steps);
  expectNumber(`${name}: floor`, floor, 'a number of at least 0', n => n >= 0);
  return step => {
    if (step < warmup) return (peak * (step + 1)) / warmup;
    const left = Math.max(0, 1 - (step - warmup) / (steps - warmup));
    return floor + (peak - floor) * shape(left);
  };
}

export function expectRate(where: string, rate: unknown): asserts rate is number {
  expectNumber(where, rate, 'a number of at least 0', n => n >= 0);
}

/** Half a cosine, down from 1 to 0 as what is left goes from 1 to 0. */
function half(left: number): number {
  return (1 + Math.cos(Math.PI * (1 - left))) / 2;
}
