import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  abs,
  addN,
  div,
  max,
  maximum,
  minimum,
  mul,
  sqrt,
  square,
  stack,
  sub,
  sum,
} from '@tensorflow/tfjs-core';
import type {Attachment} from './attachment.js';
import {Guard} from './guard.js';
import type {Inners} from './inners.js';
import {areAllFinite, canRead} from './inspect.js';
import {joined} from './pack.js';
import {expectRate} from './schedule.js';
import type {Settings} from './settings.js';
import {type Named, tidied} from './tensors.js';

/** What each attachment's factors are to move along. */
export type FactorGradients = ReadonlyMap<Attachment, Named>;

/**
 * Moves the factors: the schedule sets the learning rates, the gradients are clipped, decoupled decay pulls towards
 * the base, then the inner optimizers step. Throws when they produce NaN; W has not moved then.
 *
 * @returns Where nothing can be read now: what `Guard.settle` says of it.
 */
export function stepFactors(
  gradients: FactorGradients,
  inners: Inners,
  settings: Settings,
  step: number,
): Tensor | null {
  const {learningRate, clipNorm, weightDecay, nonFinite} = settings;
  if (learningRate) {
    inners.schedule(where => {
      const rate: unknown = learningRate(step, where);
      expectRate(`learningRate at step ${step}`, rate);
      return rate;
    });
  }
  const byFactor = new Map<Variable, Tensor>();
  for (const [{factors}, named] of gradients) {
    for (const [key, gradient] of Object.entries(named)) byFactor.set(factors[key]!, gradient);
  }
  const isChecked = nonFinite !== 'ignore';
  const settled = tidied(() => {
    const guard = isChecked && !canRead() ? guardOf(gradients, clipNorm !== undefined) : null;
    guard?.watch(byFactor.keys());
    const clipped = clipNorm === undefined ? byFactor : clip(byFactor, clipNorm);
    if (weightDecay > 0) for (const attachment of gradients.keys()) decay(attachment, weightDecay, inners);
    inners.apply(clipped, guard);
    return guard?.settle(byFactor.keys()) ?? null;
  });
  if (isChecked && !settled && !areAllFinite([...byFactor.keys()])) {
    inners.reset(new Set(byFactor.keys()));
    throw madeUnusable(step);
  }
  return settled;
}

const guardOf = (gradients: FactorGradients, clipped: boolean) =>
  new Guard(
    [...gradients.values()].map(named => Object.values(named)),
    clipped,
  );

/** What is said where the inner optimizer is at fault. */
export const madeUnusable = (step: number): Error =>
  new Error(
    `the inner optimizer made NaN or infinity out of finite gradients at step ${step}; no weight was moved, and its ` +
      'moments were reset. The learning rate may be too high; a centered RMSProp does this where a gradient ' +
      'is small or zero',
  );

/** Scales all gradients so that their joint norm is at most `clipNorm`; safe where its square would overflow. */
function clip(gradients: ReadonlyMap<Variable, Tensor>, clipNorm: number): ReadonlyMap<Variable, Tensor> {
  const all = [...gradients.values()];
  const largest = maximum(max(stack(joined(all).map(gradient => max(abs(gradient))))), 1e-30);
  const norm = mul(largest, sqrt(addN(all.map(gradient => sum(square(div(gradient, largest)))))));
  const scale = minimum(1, div(clipNorm, norm));
  return new Map([...gradients].map(([factor, gradient]) => [factor, mul(gradient, scale)]));
}

/** theta <- theta - rate * decay * (theta - start): towards the base, and never through the gradient. */
function decay({factors, store}: Attachment, weightDecay: number, inners: Inners): void {
  for (const [key, factor] of Object.entries(factors)) {
    const distance = sub(factor, store.get('start')[key]!);
    factor.assign(sub(factor, mul(distance, inners.rateOf(factor) * weightDecay)));
  }
}
