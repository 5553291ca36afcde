import {serialization} from '@tensorflow/tfjs-core';
import {ProjectedOptimizer} from './optimizer.js';

// tf.loadLayersModel finds the optimizer of a saved model by its class name. The one side effect of this package.
serialization.registerClass(ProjectedOptimizer as never);

export {loraAdam, type LoraAdamOptions, loraAdamW, loraSgd, type LoraSgdOptions} from './sugar.js';
export {type Attached, projected, ProjectedOptimizer} from './optimizer.js';
export type {InnerSource} from './inners.js';
export type {HostGradients} from './capture/dense.js';
export type {NamedTensors} from './checkpoint.js';
export type {Moments} from './moments.js';
export type {ProjectedOptions} from './settings.js';
export type {Decision, Pattern, Rules, Targets, Treatment, WeightInfo} from './targets.js';
export type {Explainable, Explained, Printer} from './explain.js';

export type {
  Additive,
  BasedState,
  Composed,
  Fresh,
  Gradient,
  Members,
  Observation,
  Parametrization,
  Renewal,
  Start,
  State,
  Transport,
} from './parametrization.js';
export {full} from './parametrizations/full.js';
export {flora, type FloraOptions} from './parametrizations/flora.js';
export {galore, type GaloreOptions} from './parametrizations/galore.js';
export {lora, type LoraOptions} from './parametrizations/lora.js';
export {randomProjection, type RandomProjectionOptions} from './parametrizations/random-projection.js';

export type {Initializer} from './init/initializer.js';
export {gaussian} from './init/gaussian.js';
export {kaiming} from './init/kaiming.js';
export {orthogonal} from './init/orthogonal.js';
export {symmetric} from './init/symmetric.js';

export {
  at,
  constant,
  cosine,
  type DecayOptions,
  every,
  type LearningRate,
  linear,
  never,
  type RestartOptions,
  restarts,
  type Schedule,
  type Where,
} from './schedule.js';

export {denseGradient} from './capture/gradient.js';
export {normal, splitSeed, uniform} from './random.js';
export {recipe} from './recipe.js';
