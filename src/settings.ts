import {type Moments, MOMENTS} from './moments.js';
import {expectBoolean, expectNumber, expectOneOf, expectOptions} from './options.js';
import type {Parametrization} from './parametrization.js';
import {expectSchedule, type LearningRate, never, type Schedule} from './schedule.js';
import {isParametrization, type Targets} from './targets.js';

/** Options of `projected` and `ProjectedOptimizer`. */
export interface ProjectedOptions {
  /** Which weights get the parametrization. Default: every matrix in which it trains fewer numbers. */
  targets?: Targets;
  /** What happens to the others. Default 'freeze'. */
  rest?: 'freeze' | 'train';
  /** A whole number; every random number follows from it. Default 0. */
  seed?: number;
  /** Keep W0, so that it can be restored bit for bit; one copy of every trained weight. Default false. */
  keepBase?: boolean;
  /** Scale all factor gradients of a step down to this global norm at most. Default: no clipping. */
  clipNorm?: number;
  /**
   * Decoupled weight decay towards the base: before each step `theta <- theta - rate * decay * (theta - start)`,
   * where Phi(start) = W0. It never enters the gradient, and its limit is the base, not zero. Default 0.
   */
  weightDecay?: number;
  /** Average this many gradients into one step; W is untouched in between. Default 1. */
  accumulate?: number;
  /** The learning rate of each step, for every inner optimizer. Default: what the inner optimizer was given. */
  learningRate?: LearningRate;
  /**
   * When to choose the subspace anew, by steps taken, e.g. `every(200)`. Default: as the parametrization says
   * (its `renewal`), which for most is `never`.
   */
  refresh?: Schedule;
  /**
   * What becomes of the inner optimizer's moments then: 'keep', 'reset' or 'transport'. Default: as the
   * parametrization says; required where it says nothing.
   */
  moments?: Moments;
  /** How `minimize` gets gradients: 'auto' as operators where the op allows it, 'dense' formed. Default 'auto'. */
  capture?: 'auto' | 'dense';
  /**
   * A NaN or infinite gradient: 'throw' an error that names the weight before anything moves, 'skip' the step, or
   * 'ignore' it. The first two read one small tensor a step; on webgpu, which hands over no number at once, such a step
   * undoes itself, and the error comes with a later one. Default 'throw'.
   */
  nonFinite?: 'throw' | 'skip' | 'ignore';
  /** Measure every step for `optimizer.telemetry()`. Default false. */
  telemetry?: boolean;
}

/** Options with their defaults. */
export type Settings = Required<Omit<ProjectedOptions, Left>> & Pick<ProjectedOptions, Left>;
type Left = 'targets' | 'clipNorm' | 'learningRate' | 'refresh' | 'moments';

export const OPTION_NAMES = [
  'targets',
  'rest',
  'seed',
  'keepBase',
  'clipNorm',
  'weightDecay',
  'accumulate',
  'learningRate',
  'refresh',
  'moments',
  'capture',
  'nonFinite',
  'telemetry',
] as const satisfies readonly (keyof ProjectedOptions)[];

/** What options are that are not given. */
export const DEFAULTS = {
  rest: 'freeze',
  seed: 0,
  keepBase: false,
  weightDecay: 0,
  accumulate: 1,
  capture: 'auto',
  nonFinite: 'throw',
  telemetry: false,
} as const satisfies Settings;

/** Checks options and fills in the defaults. */
export function readOptions(parametrization: Parametrization, options: ProjectedOptions): Settings {
  if (!isParametrization(parametrization)) {
    throw new TypeError(
      'projected: the second argument must be a parametrization such as lora({rank: 8}), with init and delta ' +
        `or compose, not ${String(parametrization)}`,
    );
  }
  expectOptions('projected', options, OPTION_NAMES);
  const settings: Settings = {...DEFAULTS, ...withoutUndefined(options)};
  expectOneOf('rest', settings.rest, ['freeze', 'train']);
  expectOneOf('capture', settings.capture, ['auto', 'dense']);
  expectOneOf('nonFinite', settings.nonFinite, ['throw', 'skip', 'ignore']);
  expectBoolean('telemetry', settings.telemetry);
  expectNumber('seed', settings.seed, 'a whole number', Number.isSafeInteger);
  expectNumber('weightDecay', settings.weightDecay, 'a number of at least 0', n => n >= 0);
  expectNumber(
    'accumulate',
    settings.accumulate,
    'a whole number of at least 1',
    n => Number.isInteger(n) && n >= 1,
  );
  if (settings.clipNorm !== undefined)
    expectNumber('clipNorm', settings.clipNorm, 'a number above 0', n => n > 0);
  if (settings.moments !== undefined) expectOneOf('moments', settings.moments, MOMENTS);
  expectFunction('learningRate', settings.learningRate, 'cosine(1e-3, {steps: 1000})');
  if (settings.refresh !== undefined) expectSchedule('refresh', settings.refresh);
  if (options.refresh && options.refresh !== never) {
    if (!(settings.moments ?? parametrization.renewal)) {
      throw new Error(
        `refresh: say what becomes of the inner optimizer's moments: moments: 'keep' or 'reset'`,
      );
    }
    if (!parametrization.refresh) {
      throw new Error(`refresh: ${parametrization.name} has no refresh; leave the option out`);
    }
  }
  return settings;
}

function expectFunction(name: string, value: unknown, example: string): void {
  if (value !== undefined && typeof value !== 'function') {
    throw new TypeError(`${name} must be a function such as ${example}, not ${String(value)}`);
  }
}

function withoutUndefined(options: ProjectedOptions): ProjectedOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
