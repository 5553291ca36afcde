import {ownName, layerOf} from '../layers.js';

/** The name of the PyTorch module that a weight belongs to, or null to leave the weight out. */
export type ModuleNames = (path: string) => string | null;

/** What PyTorch calls a weight of a module. */
export type Part = 'weight' | 'bias' | 'running_mean' | 'running_var';

/** The usual name of a module in PyTorch: the path of the layer, with dots. */
export const moduleOf = (path: string): string => layerOf(path).replaceAll('/', '.');

/** By the names tfjs-layers gives. */
const PARTS: ReadonlyMap<string, Part> = new Map([
  ['bias', 'bias'],
  ['beta', 'bias'],
  ['moving_mean', 'running_mean'],
  ['moving_variance', 'running_var'],
]);
export const partOf = (path: string): Part => PARTS.get(ownName(path)) ?? 'weight';

/** Before every name in the file. */
export const PREFIX = 'base_model.model.';
/** In the metadata of the safetensors file, which PEFT does not read: the path of every parameter. */
export const PATHS = 'tfjs-lora.paths';

/** `[..., in, k]` is `[k, in, ...]` there. */
export const lastTwoFirst = (axes: number): number[] => [axes - 1, axes - 2, ...Array(axes - 2).keys()];
export const firstTwoLast = (axes: number): number[] =>
  [...Array(axes - 2).keys()].map(i => i + 2).concat(1, 0);
