import type * as tf from '@tensorflow/tfjs';
import {cosine, type ProjectedOptimizer, projected, type Treatment} from '../../index.js';
import {methodOf} from '../adapt/method-names.js';
import {innerOptimizer} from '../inner.js';
import {UsageError} from '../usage-error.js';
import type {Head} from './head.js';
import {listed} from './labels.js';
import type {Options} from './options.js';

/** Steps in which the learning rate rises. */
const warmup = 10;

/**
 * The optimizer that the options describe: the head as `--head` says, each other matrix (kernels of convolutions too) that
 * `--targets` names through the method. A matrix in which the method saves nothing is trained as it is; what is no matrix
 * is frozen.
 *
 * @throws UsageError where nothing is named, or the method cannot be built
 */
export function optimizerFor(
  model: tf.LayersModel,
  {layer}: Head,
  options: Options,
  steps: number,
): ProjectedOptimizer {
  const {head, lr, inner, seed, targets} = options;
  const heads = new Set(layer.trainableWeights.map(weight => nameOf(weight)));
  const others = model.trainableWeights.filter(weight => !heads.has(nameOf(weight)));
  const matrices = others.filter(({shape}) => shape.length >= 2);
  const chosen = matrices.filter(weight => targets?.test(weight.originalName) ?? true);
  if (targets && chosen.length === 0) {
    const names = listed(matrices.map(weight => weight.originalName));
    throw new UsageError(
      `--targets ${targets.source} names no matrix besides the head; there is ${names || 'none'}`,
    );
  }
  if (chosen.length === 0 && head === 'freeze') throw new UsageError('--head freeze leaves nothing to train');
  const learningRate = cosine(lr, {steps, warmup: Math.min(warmup, steps - 1), floor: lr / 10});
  const newInner = () => innerOptimizer(inner, lr);
  try {
    const [rank, alpha] = [options.rank ?? 0, options.alpha ?? 0];
    const built = methodOf(options.method).build({
      rank,
      alpha,
      steps,
      lr,
      rate: learningRate,
      inner: newInner,
    });
    const adapted = new Set(chosen.map(nameOf));
    if (head === 'lora') {
      for (const weight of layer.trainableWeights) if (weight.shape.length >= 2) adapted.add(nameOf(weight));
    }
    const rules: [(weight: {name: string}) => boolean, Treatment][] = [];
    if (head === 'full')
      rules.push([
        function head({name}) {
          return heads.has(name);
        },
        'train',
      ]);
    if (adapted.size > 0)
      rules.push([
        function matrix({name}) {
          return adapted.has(name);
        },
        built.parametrization,
      ]);
    return projected(built.inner ?? newInner(), built.parametrization, {
      learningRate,
      ...built.options,
      targets: rules,
      seed,
    });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--method ${options.method}: ${(error as Error).message}`);
  }
}

/** The name of its variable, which is unique in the program. */
const nameOf = (weight: tf.LayerVariable): string => (weight.read() as tf.Variable).name;
