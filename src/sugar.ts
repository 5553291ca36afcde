import {type Optimizer, train} from '@tensorflow/tfjs-core';
import {loraPlus} from './lora-plus.js';
import {expectNumber, expectOptions} from './options.js';
import {projected, type ProjectedOptimizer} from './optimizer.js';
import {lora, type LoraOptions} from './parametrizations/lora.js';
import {expectRate, type LearningRate} from './schedule.js';
import {OPTION_NAMES, type ProjectedOptions} from './settings.js';

/** LoRA's options and the optimizer's together. */
export interface LoraSgdOptions extends LoraOptions, Omit<ProjectedOptions, 'learningRate'> {
  /** LoRA+: the rate of B over that of A and of weights trained as they are, see `loraPlus`. Default 1. */
  ratio?: number;
}

export interface LoraAdamOptions extends LoraSgdOptions {
  /** Decay of the first moment. Default 0.9. */
  beta1?: number;
  /** Decay of the second moment. Default 0.999. */
  beta2?: number;
  /** Default 1e-7 on every backend (tfjs's own default depends on the backend). */
  epsilon?: number;
}

/** LoRA trained by stochastic gradient descent. `rate`: a number, or a schedule such as `cosine(0.1, {steps})`. */
export function loraSgd(rate: number | LearningRate, options: LoraSgdOptions = {}): ProjectedOptimizer {
  return build('loraSgd', rate, options, [], first => train.sgd(first));
}

/** LoRA trained by Adam. `rate`: a number, or a schedule such as `cosine(1e-3, {steps})`. */
export function loraAdam(rate: number | LearningRate, options: LoraAdamOptions = {}): ProjectedOptimizer {
  return adam('loraAdam', rate, options);
}

/**
 * LoRA trained by Adam with decoupled weight decay, by default 0.01. The decay pulls the factors to where they
 * started, so W towards the base: see `weightDecay`.
 */
export function loraAdamW(rate: number | LearningRate, options: LoraAdamOptions = {}): ProjectedOptimizer {
  return adam('loraAdamW', rate, {...options, weightDecay: options.weightDecay ?? 0.01});
}

function adam(name: string, rate: number | LearningRate, options: LoraAdamOptions): ProjectedOptimizer {
  const {beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7} = options;
  expectNumber(`${name}: beta1`, beta1, 'a number from 0 to below 1', b => b >= 0 && b < 1);
  expectNumber(`${name}: beta2`, beta2, 'a number from 0 to below 1', b => b >= 0 && b < 1);
  expectNumber(`${name}: epsilon`, epsilon, 'a number above 0', e => e > 0);
  return build(name, rate, options, ['beta1', 'beta2', 'epsilon'], first =>
    train.adam(first, beta1, beta2, epsilon),
  );
}

const FACTOR_OPTIONS = [
  'rank',
  'alpha',
  'rankStabilised',
  'init',
  'precondition',
] as const satisfies readonly (keyof LoraOptions)[];

function build(
  name: string,
  rate: number | LearningRate,
  options: LoraSgdOptions,
  own: readonly string[],
  make: (rate: number) => Optimizer,
): ProjectedOptimizer {
  expectOptions(name, options, [
    ...FACTOR_OPTIONS,
    ...own,
    'ratio',
    ...OPTION_NAMES.filter(key => key !== 'learningRate'),
  ]);
  const pick = (keys: readonly string[]) =>
    Object.fromEntries(
      Object.entries(options).filter(([key, value]) => keys.includes(key) && value !== undefined),
    );
  const first = typeof rate === 'function' ? rate(0, {}) : rate;
  expectRate(`${name}: the learning rate`, first);
  const {ratio = 1} = options;
  const learningRate = ratio === 1 ? rate : loraPlus(rate, {ratio});
  return projected(ratio === 1 ? make(first) : () => make(first), lora(pick(FACTOR_OPTIONS)), {
    ...(pick(OPTION_NAMES) as ProjectedOptions),
    ...(typeof learningRate === 'function' && {learningRate}),
  });
}
