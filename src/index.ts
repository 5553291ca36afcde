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
export type {TelemetryRow} from './telemetry.js';
export {allocateRanks, type AllocateRanksOptions} from './rules/allocate-ranks.js';
export {attention} from './rules/attention.js';
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
  Tangent,
  Transport,
} from './parametrization.js';
export {additive, type AdditiveOptions} from './parametrizations/additive.js';
export {dora, type DoraOptions} from './parametrizations/dora.js';
export {full} from './parametrizations/full.js';
export {hadamard, type HadamardOptions} from './parametrizations/hadamard.js';
export {kronecker, type KroneckerOptions} from './parametrizations/kronecker.js';
export {lora, type LoraOptions} from './parametrizations/lora.js';
export {loraXS, type LoraXSOptions} from './parametrizations/lora-xs.js';
export {mica, type MicaOptions} from './parametrizations/mica.js';
export {vera, type VeraOptions} from './parametrizations/vera.js';
export {loraSB, type LoraSBOptions} from './parametrizations/lora-sb.js';
export {osf, type OsfOptions} from './parametrizations/osf.js';
export {loraFA, type LoraFAOptions} from './parametrizations/lora-fa.js';
export {flora, type FloraOptions} from './parametrizations/flora.js';
export {galore, type GaloreOptions} from './parametrizations/galore.js';
export {randomProjection, type RandomProjectionOptions} from './parametrizations/random-projection.js';

export type {Preconditioner} from './precondition/preconditioner.js';
export {loraPro, type LoraProOptions} from './precondition/lora-pro.js';
export {riemannian, type RiemannianOptions} from './precondition/riemannian.js';

export type {Initializer, InitializerObservation, InitializerStart} from './init/initializer.js';
export type {GradientOptions} from './init/directions.js';
export {eva, type EvaOptions} from './init/eva.js';
export {gaussian} from './init/gaussian.js';
export {hadamardHe, type HadamardInitializer, hadamardNormal, hadamardUniform} from './init/hadamard.js';
export {kaiming} from './init/kaiming.js';
export {type KroneckerInitializer, kroneckerUniform} from './init/kronecker.js';
export {loraGA, type LoraGAEnergy, type LoraGAOptions} from './init/lora-ga.js';
export {loraOne, type LoraOneOptions} from './init/lora-one.js';
export {olora} from './init/olora.js';
export {orthogonal} from './init/orthogonal.js';
export {pissa, type PissaOptions} from './init/pissa.js';
export {symmetric} from './init/symmetric.js';
export {veraConstant, type VeraInitializer} from './init/vera.js';

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

export {
  type Audit,
  audit,
  type AuditedLoss,
  type AuditedModel,
  type AuditedWeight,
  type AuditOptions,
} from './models/audit.js';
export {freezeBatchNorm, type ModelWithLayers} from './models/freeze-batch-norm.js';
export {
  type Blocked,
  type GraphModelLike,
  trainableGraphModel,
  type TrainableGraphModel,
  type TrainableGraphModelOptions,
} from './models/trainable-graph-model.js';

export {loraPlus, type LoraPlusOptions} from './lora-plus.js';
export {denseGradient} from './capture/gradient.js';
export {normal, splitSeed, uniform} from './random.js';
export {recipe} from './recipe.js';
export {renewed} from './renewed.js';
