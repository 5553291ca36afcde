import {io, version_core} from '@tensorflow/tfjs-core';
import {CHECKPOINT as FORMAT} from '../adapter/artifacts.js';
import {digest} from '../adapter/digest.js';
import {expectSpecs, weightBytes} from '../adapter/specs.js';
import {errorOf} from '../adapter/untrusted.js';
import {withWeightData} from '../adapter/weight-stream.js';

/** A weight of the model whose numbers are in the file. */
export interface SavedModelWeight {
  readonly path: string;
  readonly shape: readonly number[];
  /** Which of the optimizer's weights it is; null for one it does not train. */
  readonly trained: number | null;
  /** Whether tfjs was to train it: `layer.trainable`. */
  readonly trainable?: boolean;
}

/** A weight of the model that nothing moves: only a digest of its numbers is kept. */
export interface StillWeight {
  readonly path: string;
  readonly shape: readonly number[];
  readonly digest: string;
  readonly trainable?: boolean;
}

/** What a checkpoint tells besides its tensors. */
export interface Contents {
  readonly version: 1;
  /** Steps taken. */
  readonly step: number;
  /** What the optimizer's getConfig gave. */
  readonly config: string;
  readonly weights: readonly SavedModelWeight[];
  readonly still: readonly StillWeight[];
  /** Whether these are all weights of a model, and not only those the optimizer trains. */
  readonly isWhole: boolean;
  /** The user's own. */
  readonly data: unknown;
}

/** Names of tensors in the file. */
export const OPTIMIZER = 'optimizer/';
export const MODEL = 'model/';

/** A checkpoint as tfjs's handlers store models. */
export function toArtifacts(
  contents: Contents,
  specs: io.WeightsManifestEntry[],
  data: ArrayBuffer,
): io.ModelArtifacts {
  const text = JSON.stringify(contents);
  return {
    // Local storage and some servers refuse what has none.
    modelTopology: {class_name: FORMAT, config: {}},
    format: FORMAT,
    generatedBy: `tfjs-lora, tfjs-core ${version_core}`,
    convertedBy: null,
    weightSpecs: specs,
    weightData: data,
    userDefinedMetadata: {[FORMAT]: {contents: text, digest: digestOf(text, specs, new Uint8Array(data))}},
  };
}

/** What a store has, read to its end and as far as `fromArtifacts` looks at it. */
export const readArtifacts = async (where: string, store: io.IOHandler) =>
  fromArtifacts(where, await withWeightData(where, await store.load!()));

/** What `toArtifacts` wrote. Throws when anything is missing, cut off or not as it was written; makes no tensor. */
export function fromArtifacts(
  where: string,
  artifacts: io.ModelArtifacts,
): {contents: Contents; specs: io.WeightsManifestEntry[]; data: ArrayBuffer} {
  const kept = artifacts.userDefinedMetadata?.[FORMAT] as {contents?: unknown; digest?: unknown} | undefined;
  if (typeof kept?.contents !== 'string') {
    throw errorOf(
      `${where} is no checkpoint of saveCheckpoint${artifacts.format ? ` but ${artifacts.format}` : ''}`,
    );
  }
  const bytes = weightBytes(where, artifacts.weightData);
  const specs: unknown = artifacts.weightSpecs;
  expectSpecs(where, specs, bytes.length);
  if (kept.digest !== digestOf(kept.contents, specs, bytes)) {
    throw errorOf(`${where} is damaged: its content is not what was written`);
  }
  const contents = JSON.parse(kept.contents) as Contents;
  if ((contents.version as number) !== 1) {
    throw errorOf(
      `${where} was made by a newer tfjs-lora (version ${String(contents.version)}; this one reads 1)`,
    );
  }
  return {contents, specs, data: bytes.buffer};
}

function digestOf(text: string, specs: readonly io.WeightsManifestEntry[], bytes: Uint8Array): string {
  const head = [
    text,
    ...specs.map(({name, shape, dtype}) => `${name} ${dtype} ${shape.join(' ')}`),
    digest(bytes),
  ];
  return digest(new TextEncoder().encode(head.join('\n')));
}

/** Throws unless JSON holds a value as it is: it must come back the same. */
export function expectJson(where: string, value: unknown, around: readonly object[] = []): void {
  const fail = (what: string) => {
    throw new TypeError(
      `${where} is ${what}, which JSON cannot hold: give numbers, strings, booleans, null, lists, plain objects`,
    );
  };
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) fail(String(value));
    return;
  }
  if (typeof value !== 'object') return fail(value === undefined ? 'undefined' : `a ${typeof value}`);
  if (around.includes(value)) fail('the object it is part of');
  if (around.length === 200) fail('more than 200 levels deep');
  const inside = [...around, value];
  if (Array.isArray(value)) {
    value.forEach((item, i) => expectJson(`${where}[${i}]`, item, inside));
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) fail('an object of a class');
  for (const [key, member] of Object.entries(value)) expectJson(`${where}.${key}`, member, inside);
}
