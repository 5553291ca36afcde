import {errorOf} from '../untrusted.js';
import {layerOf, ownName} from '../layers.js';

/** The name of the PyTorch module that a weight belongs to, or null to leave the weight out. */
export type ModuleNames = (path: string) => string | null;

/** What PyTorch calls a weight of a module. */
export type Part = 'weight' | 'bias' | 'running_mean' | 'running_var';

/** The usual name of a module in PyTorch: the path of the layer, with dots. */
export const moduleOf = (path: string): string => layerOf(path).replaceAll('/', '.');

/** The parts of a module, and what tfjs-layers calls them; the first name is the usual one. A weight has many. */
export const PARTS: ReadonlyMap<Part, readonly string[]> = new Map<Part, readonly string[]>([
  ['weight', []],
  ['bias', ['bias', 'beta']],
  ['running_mean', ['moving_mean']],
  ['running_var', ['moving_variance']],
]);
export const isPart = (name: string): name is Part => PARTS.has(name as Part);

export function partOf(path: string): Part {
  const name = ownName(path);
  for (const [part, names] of PARTS) if (names.includes(name)) return part;
  return 'weight';
}

/** Before every name in the file. */
export const PREFIX = 'base_model.model.';

/** An error of `fromPeft` about one module. */
export function refuse(module: string, reason: string): never {
  throw errorOf(`fromPeft: ${module} ${reason}`);
}
