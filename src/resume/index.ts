export {
  type Checkpoints,
  checkpoints,
  type CheckpointsOptions,
  latestCheckpoint,
  type Progress,
  type Trained,
} from './checkpoints.js';
export {loadCheckpoint, type LoadCheckpointOptions, type Resumed} from './load.js';
export {saveCheckpoint, type SaveCheckpointOptions} from './save.js';
export type {CheckpointSource} from './source.js';
export type {FitCallback} from './fit-callback.js';
