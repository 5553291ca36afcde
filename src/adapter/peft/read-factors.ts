import {dora} from '../../parametrizations/dora.js';
import {lora} from '../../parametrizations/lora.js';
import {matrixShape} from '../../targets.js';
import type {AdapterWeight, HostTensor} from '../adapter.js';
import type {PeftConfig} from './config.js';
import type {Found} from './finder.js';
import {factorParts, factorsHere, type Sizes, wholeLayout} from './layouts.js';
import {refuse} from './mapping.js';
import type {Parts} from './stored.js';

/** The factors of a module, as they lie here. */
export interface ReadFactors {
  readonly kind: 'dense' | 'conv' | 'embedding';
  /** Of the weight here. */
  readonly shape: readonly number[];
  readonly factors: Readonly<Record<string, HostTensor>>;
  readonly rank: number;
}

/** Whether a module has any factor. */
export const hasFactors = (parts: Parts): boolean => parts.has('lora_A') || parts.has('lora_embedding_A');

/** Null where a module has none; throws where they are not whole, do not fit each other or the config. */
export function readFactors(module: string, parts: Parts, config: PeftConfig): ReadFactors | null {
  const isEmbedding = parts.has('lora_embedding_A') || parts.has('lora_embedding_B');
  const [downName, upName, magnitudeName] = factorParts(isEmbedding);
  const [down, up, magnitude] = [parts.get(downName), parts.get(upName), parts.get(magnitudeName)];
  if (!down && !up && !magnitude) return null;
  if (isEmbedding && (parts.has('lora_A') || parts.has('lora_B'))) refuse(module, 'has factors of two kinds');
  if (!down || !up)
    return refuse(
      module,
      `has ${down ? downName : up ? upName : 'a magnitude'} and no ${down ? upName : downName}; save the adapter again, whole`,
    );
  const axes = down.shape.length;
  const [rank, ins] = down.shape as [number, number];
  const [outs, k] = up.shape as [number, number];
  const fits =
    axes >= 2 && axes <= 5 && (!isEmbedding || axes === 2) && up.shape.length === axes && k === rank;
  if (!fits || up.shape.slice(2).some(axis => axis !== 1)) {
    refuse(
      module,
      `has ${downName} [${down.shape}] and ${upName} [${up.shape}]; needed are [r, in, …window] and [out, r, 1, …]` +
        (axes > 2 && k < rank ? ', as it is without groups' : ''),
    );
  }
  const configured = config.rankOf(module);
  if (configured !== rank || rank === 0) {
    refuse(
      module,
      `has ${downName} [${down.shape}] of rank ${rank}, and adapter_config.json gives it ${configured}; correct r or ` +
        'rank_pattern',
    );
  }
  if (config.dora !== (magnitude !== undefined)) {
    refuse(
      module,
      `has ${magnitude ? 'a' : 'no'} lora_magnitude_vector, and adapter_config.json has use_dora: ${config.dora}`,
    );
  }
  if (magnitude && magnitude.values.length !== outs) {
    refuse(module, `has a lora_magnitude_vector [${magnitude.shape}] where ${outs} numbers are needed`);
  }
  const sizes: Sizes = {window: down.shape.slice(2), ins, outs, rank};
  return {
    kind: isEmbedding ? 'embedding' : sizes.window.length > 0 ? 'conv' : 'dense',
    shape: [...sizes.window, ins, outs],
    rank,
    factors: factorsHere(sizes, {a: down, b: up, magnitude}),
  };
}

/** The weight that factors are for; throws where the config gives no scale, and where it is another weight. */
export function factoredWeight(
  module: string,
  read: ReadFactors,
  {path, shape, kind}: Found,
  config: PeftConfig,
): AdapterWeight {
  const alpha = config.alphaOf(module);
  if (!Number.isFinite(alpha) || alpha === 0)
    refuse(module, `has the lora_alpha ${alpha}; it must be a number other than 0`);
  if (kind === 'depthwise' || kind === 'transposed convolution')
    refuse(module, `is ${path}, a ${kind} kernel, which PEFT cannot adapt`);
  const scale = {rank: read.rank, alpha, ...(config.rankStabilised && {rankStabilised: true})};
  return {
    path,
    shape: shape ? agreed(module, path, read.shape, shape) : read.shape,
    parametrization: config.dora ? dora(scale) : lora(scale),
    factors: read.factors,
    frozen: {},
    base: null,
  };
}

/** The model's shape where the file's means the same matrix: a dense layer and a window of one are one thing. */
function agreed(
  module: string,
  path: string,
  given: readonly number[],
  wanted: readonly number[],
): readonly number[] {
  const isPoint = (shape: readonly number[]) => shape.slice(0, -2).every(axis => axis === 1);
  const isSame = String(given) === String(wanted);
  const isAlike =
    isPoint(given) && isPoint(wanted) && String(matrixShape(given)) === String(matrixShape(wanted));
  if (isSame || isAlike) return wanted;
  return refuse(
    module,
    `is for a weight [${given}], and ${path} of this model is [${wanted}]; give \`names\` or \`paths\` that say which is which`,
  );
}

/** @throws Error where the weight that factors are for is not the model's, beyond what 16 bits lose. */
export function expectBase(module: string, base: HostTensor, {path, shape, kind, values}: Found): void {
  if (!shape || !values) return;
  const layout = wholeLayout(base.shape.length < 2 ? 'vector' : kind === 'embedding' ? kind : 'conv', false);
  const ours = layout.here(base, shape)!;
  const other = String(ours.shape) === String(shape) ? values() : null;
  let [difference, size] = [0, 0];
  for (let i = 0; other && i < other.length; i++) {
    difference += (other[i]! - ours.values[i]!) ** 2;
    size += other[i]! ** 2;
  }
  if (other && difference <= 1e-4 * size) return;
  refuse(
    module,
    `has a base_layer.weight [${base.shape}] beside its factors that is not ${path} [${shape}] of this model: they were ` +
      'trained on another. If they belong to this one nevertheless, save with save_embedding_layers=False',
  );
}
