/** The entry `tfjs-lora/adapter`: what one training added to a model, as files that travel, merge, swap and resume. */

export type {Adapter, AdapterWeight, HostTensor, WeightPrint} from './adapter.js';
export {type Described, type DescribedPair, describeSafetensors} from './describe.js';
export {adapterOf, type AdapterOfOptions} from './adapter-of.js';
export {AdapterSet, type AdapterSetOptions, type Use} from './adapter-set.js';
export type {BaseCheck} from './bind.js';
export {combine, type CombineOptions} from './combine.js';
export {
  type Certificate,
  extractAdapter,
  type Extracted,
  type ExtractOptions,
  type Snapshot,
  snapshot,
} from './extract.js';
export {nodeFiles} from './files.js';
export {decodeAdapter, encodeAdapter} from './format.js';
export {fromKeras, type FromKerasOptions, toKeras, type ToKerasOptions} from './keras.js';
export {loadAdapter} from './load.js';
export {forgetBases, mergeAdapter, type MergeOptions, unmergeAdapter, type UnmergeOptions} from './merge.js';
export {namedWeights} from './named-weights.js';
export type {LayerLike, WeightsOf} from './paths.js';
export {fromPeft, type FromPeftOptions} from './peft/from-peft.js';
export type {ModuleNames} from './peft/mapping.js';
export {type PeftFiles, toPeft, type ToPeftOptions} from './peft/to-peft.js';
export {type CompiledModel, readAdapter, saveAdapter, type SaveAdapterOptions} from './save.js';
export {decodeSafetensors, encodeSafetensors, type FloatDtype} from './safetensors.js';
export {
  type Checkpoints,
  checkpoints,
  type CheckpointSource,
  type CheckpointsOptions,
  type FitCallback,
  latestCheckpoint,
  loadCheckpoint,
  type LoadCheckpointOptions,
  type Progress,
  type Resumed,
  saveCheckpoint,
  type SaveCheckpointOptions,
  type Trained,
} from '../resume/index.js';
