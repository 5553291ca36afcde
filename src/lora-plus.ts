import {expectNumber, expectOptions} from './options.js';
import {recipe} from './recipe.js';
import {expectRate, type LearningRate} from './schedule.js';

export interface LoraPlusOptions {
  /** The rate of B over that of A. Default 16. */
  ratio?: number;
}

/**
 * LoRA+: B learns `ratio` times as fast as everything else. `rate` is a number, or a schedule such as `cosine(1e-3, {steps})`.
 *
 *     projected(() => tf.train.adam(1e-3), lora({rank: 8}), {learningRate: loraPlus(1e-3, {ratio: 16})})
 *
 * What is faster is the factor named `b`: B of lora, dora, loraFA and osf. Methods whose factors have other names do not
 * notice (galore, kronecker, hadamard, …); in vera, additive and randomProjection `b` is something else than LoRA's B.
 *
 * The inner optimizers must be made one for each factor, by a function: one that is shared has one rate.
 * Source: arXiv:2402.12354.
 */
export const loraPlus = /* @__PURE__ */ recipe(
  'loraPlus',
  (rate: number | LearningRate, options: LoraPlusOptions = {}): LearningRate => {
    expectOptions('loraPlus', options, ['ratio']);
    const {ratio = 16} = options;
    if (typeof rate !== 'function') expectRate('loraPlus: rate', rate);
    expectNumber('loraPlus: ratio', ratio, 'a number above 0', r => r > 0);
    return (step, where) => {
      if (where.factor === undefined) {
        throw new Error(
          'loraPlus: one inner optimizer moves all factors, so b cannot have a rate of its own; give a function that ' +
            'makes one for each, such as () => tf.train.adam(1e-3)',
        );
      }
      const plain = typeof rate === 'function' ? rate(step, where) : rate;
      return where.factor === 'b' ? ratio * plain : plain;
    };
  },
);
