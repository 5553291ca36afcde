import type {Optimizer, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, keep} from '@tensorflow/tfjs-core';
import {describe} from '../attachment.js';
import {expectOptions} from '../options.js';
import type {Attached, ProjectedOptimizer} from '../optimizer.js';
import {generatedBy} from '../version.js';
import {isGone, mapValues, type Named} from '../tensors.js';
import type {Adapter, AdapterWeight, HostTensor, WeightPrint} from './adapter.js';
import {expectOptimizer} from './expect-optimizer.js';
import {expectWeights} from './expect.js';
import {isModel, namedWeights, type WeightsOf} from './paths.js';
import {printOf} from './print.js';
import {errorOf} from './untrusted.js';

export interface AdapterOfOptions {
  /** Whatever shall be kept with it; text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * What an optimizer has trained so far, as an adapter: factors and frozen parts, and for weights that were trained as
 * they are the weights. It is a snapshot of this moment, though it is read later: training may go on meanwhile.
 *
 * Of every base that is known comes a print, by which `mergeAdapter` recognises it: of weights with factors always, of
 * weights trained as they are with `keepBase: true`.
 *
 * What moves without a gradient is not trained by the optimizer and not part of it: the moving mean and variance of
 * batch normalisation. Where these have moved, save them with the model (or freeze them, as one does when adapting).
 *
 * A run that was loaded can be made an adapter of at once, when the model is given: `optimizer.bind(model)` finds the
 * weights that its state is of.
 *
 * @param optimizer One of ours; `model.optimizer` of a compiled model will do.
 * @param model What the weights are called by: a model, variables, or variables by path. Default: the variables'
 *     own names, which suit models without nested models.
 * @returns Host data, weights in the model's order; nothing to dispose.
 * @throws Error when nothing was trained yet, when a trained weight is not in the model or was disposed, when a state
 *     was loaded and the model is not given, and when weights were refreshed: their factors hold only what they learned
 *     since.
 */
export async function adapterOf(
  optimizer: Optimizer,
  model?: WeightsOf,
  options: AdapterOfOptions = {},
): Promise<Adapter> {
  expectOptions('adapterOf', options, ['metadata']);
  const metadata = readMetadata(options.metadata ?? {});
  expectOptimizer('adapterOf', optimizer);
  if (model !== undefined) {
    expectWeights('adapterOf', model);
    bindTo(optimizer, model);
  }
  const {attached} = optimizer;
  expectLiving('adapterOf', attached);
  expectBound('adapterOf', optimizer, model !== undefined);
  expectTrained(attached);
  const named = [...namedWeights(model ?? attached.map(({weight}) => weight))];
  const pathOf = new Map(named.map(([path, variable]) => [variable, path]));
  expectAllNamed(attached, pathOf);
  const order = new Map(named.map(([, variable], i) => [variable, i]));
  const snapshots = [...attached].sort((x, y) => order.get(x.weight)! - order.get(y.weight)!).map(snapshot);
  const weights: AdapterWeight[] = [];
  try {
    for (const {weight, parametrization, factors, frozen} of snapshots) {
      weights.push({
        path: pathOf.get(weight)!,
        shape: [...weight.shape],
        parametrization,
        factors: await readAll(factors),
        frozen: await readAll(frozen),
        base: await basePrint(optimizer, weight, parametrization === null),
      });
    }
  } finally {
    for (const {factors, frozen} of snapshots) dispose({...factors, ...prefixed(frozen)});
  }
  const places = named.map(([path, {shape}]) => ({path, shape: [...shape]}));
  return {weights, ...(model && {model: places}), generatedBy: generatedBy(), metadata};
}

/** Handles on what the variables hold now: a step gives them other data. */
function snapshot({weight, parametrization, factors, frozen}: Attached) {
  const clones = (variables: Named) => mapValues(variables, variable => keep(variable.clone()));
  return {weight, parametrization, factors: clones(factors), frozen: clones(frozen)};
}

const prefixed = (frozen: Named) =>
  Object.fromEntries(Object.entries(frozen).map(([key, value]) => [`frozen/${key}`, value]));

async function readAll(tensors: Named): Promise<Record<string, HostTensor>> {
  const read: Record<string, HostTensor> = {};
  for (const [key, tensor] of Object.entries(tensors)) {
    const values = (await tensor.data()) as Float32Array | Int32Array;
    // A copy: the cpu backend hands out the very array the tensor lives in.
    read[key] = {shape: [...tensor.shape], values: values.slice()};
  }
  return read;
}

async function basePrint(
  optimizer: ProjectedOptimizer,
  weight: Variable,
  isWhole: boolean,
): Promise<WeightPrint | null> {
  let base: Tensor;
  try {
    base = keep(optimizer.base(weight));
  } catch (error) {
    if (isWhole) return null;
    throw error;
  }
  try {
    return printOf(await base.data());
  } finally {
    base.dispose();
  }
}

/** Throws when a weight that is trained was disposed: its numbers are gone. */
export function expectLiving(where: string, attached: readonly Attached[]): void {
  const gone = attached.filter(({weight}) => isGone(weight)).map(({weight}) => describe(weight));
  if (gone.length === 0) return;
  throw errorOf(
    `${where}: ${gone.join(', ')}, which the optimizer trains, ${gone.length > 1 ? 'were' : 'was'} disposed, with ` +
      'what it had learned. Do this before the model is disposed; where it was meant, the next step lets go of it',
  );
}

/** Binds a loaded state to the weights of a model. */
export function bindTo(optimizer: ProjectedOptimizer, model: WeightsOf): void {
  optimizer.bind(isModel(model) ? model : [...namedWeights(model).values()]);
}

/** Throws when the optimizer holds a loaded state of which nobody knows yet whose it is. */
export function expectBound(where: string, {waiting}: ProjectedOptimizer, isGiven: boolean): void {
  if (waiting.length === 0) return;
  const names = [...waiting.slice(0, 4), ...(waiting.length > 4 ? [`${waiting.length - 4} more`] : [])].join(
    ', ',
  );
  throw errorOf(
    isGiven
      ? `${where}: the optimizer was loaded with a state of ${names}, which the model given does not have: give the ` +
          'model it was saved with'
      : `${where}: the optimizer was loaded with a state of ${names}, and has not seen these weights yet: give the ` +
          'model',
  );
}

function expectTrained(attached: readonly Attached[]): void {
  if (attached.length === 0) {
    throw errorOf('adapterOf: nothing was trained yet, so there is no adapter: take a step first');
  }
  const refreshed = attached.filter(weight => weight.refreshed).map(({weight}) => describe(weight));
  if (refreshed.length === 0) return;
  throw errorOf(
    `adapterOf: ${refreshed.join(', ')} ${refreshed.length > 1 ? 'were' : 'was'} refreshed, so the factors hold only ` +
      'what was learned since and are no adapter. extractAdapter makes one from W and the weight before training',
  );
}

function expectAllNamed(attached: readonly Attached[], pathOf: ReadonlyMap<Variable, string>): void {
  const strangers = attached.filter(({weight}) => !pathOf.has(weight)).map(({weight}) => describe(weight));
  if (strangers.length === 0) return;
  throw errorOf(
    `adapterOf: ${strangers.join(', ')} ${strangers.length > 1 ? 'were' : 'was'} trained, and the model given does ` +
      'not have it. Give the model that holds every weight the optimizer trains, or leave it out',
  );
}

function readMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  if (metadata === null || typeof metadata !== 'object' || Array.isArray(metadata)) {
    throw new TypeError('adapterOf: metadata must be an object of text by name');
  }
  for (const [key, value] of Object.entries<unknown>(metadata)) {
    if (typeof value !== 'string')
      throw new TypeError(`adapterOf: metadata: '${key}' must be text, not ${typeof value}`);
  }
  return {...metadata};
}
