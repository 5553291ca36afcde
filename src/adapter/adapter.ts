import type {Parametrization} from '../parametrization.js';

/** Numbers outside tfjs: nothing to dispose, the same on every backend. Row-major. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

/** What was learned for one weight. */
export interface AdapterWeight {
  /** Where the weight lives in the model, by the names of its layers: `block0/attention/query/kernel`. */
  readonly path: string;
  readonly shape: readonly number[];
  /** How the factors make the change of the weight. Null: the weight was trained as it is, and is its one factor. */
  readonly parametrization: Parametrization | null;
  /** By name, e.g. `a` [m, r] and `b` [r, n]; a weight trained as it is has `weight`. */
  readonly factors: Readonly<Record<string, HostTensor>>;
  /** Constants of the start: bases, start values. */
  readonly frozen: Readonly<Record<string, HostTensor>>;
  /** What the weight was before training, in a few numbers; null where nobody knows. */
  readonly base: WeightPrint | null;
}

/**
 * A few numbers by which a weight is recognised though rounding has touched it: its norm, and its products with a few
 * fixed random signs.
 */
export interface WeightPrint {
  readonly norm: number;
  readonly products: readonly number[];
}

/** A weight of the model that an adapter was trained on, whether or not it was trained. */
export interface ModelPlace {
  readonly path: string;
  readonly shape: readonly number[];
}

/** All that one training added to a model, as plain data: what files hold, and what merges into weights. */
export interface Adapter {
  readonly weights: readonly AdapterWeight[];
  /** All weights of the model in its order, where it was known: tells a place when layers are numbered otherwise. */
  readonly model?: readonly ModelPlace[];
  /** The library that wrote it and the version of tfjs-core, e.g. `tfjs-lora 0.1.0, tfjs-core 4.22.0`. */
  readonly generatedBy: string;
  /** Whatever the user wants to keep with it. */
  readonly metadata: Readonly<Record<string, string>>;
}
