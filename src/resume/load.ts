import type {NamedTensorMap, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, io} from '@tensorflow/tfjs-core';
import {placesOf} from '../adapter/bind.js';
import {ioHandler} from '../adapter/io.js';
import {namedWeights, trainableOf, type WeightsOf} from '../adapter/paths.js';
import {unpack} from '../checkpoint.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {expectOptions} from '../options.js';
import {type Contents, MODEL, OPTIMIZER, readArtifacts} from './contents.js';
import {attachedWeights, digestOf} from './save.js';
import {expectSameOptions} from './same-options.js';
import {type CheckpointSource, expectNoAdapter, partsOf} from './source.js';
import {errorOf, seen} from '../adapter/untrusted.js';

export interface LoadCheckpointOptions {
  /**
   * The model, its variables, or variables by path, as for `saveCheckpoint`. Default: the model that was given in place of
   * an optimizer, else the weights the optimizer trains.
   */
  model?: WeightsOf;
}

/** What a resumed run begins with. */
export interface Resumed {
  /** Steps taken before. */
  readonly step: number;
  /** What was saved as `data`. */
  readonly data: unknown;
}

/**
 * Puts an optimizer and a model back to where `saveCheckpoint` found them: k steps, a save, a load in another process and
 * the other n - k steps give the weights of n steps, bit for bit on the same backend. Build the model and the optimizer
 * as for the first run. The learning rates of the checkpoint win over those the new optimizer was given; set another
 * after loading.
 *
 *     await loadCheckpoint(model, 'file://runs/checkpoint'); // a compiled model
 *     await loadCheckpoint(optimizer, 'file://runs/checkpoint', {model});
 *
 * Weights are found by their paths; where tfjs numbered layers otherwise this time, in the model's order.
 *
 * All or nothing: where the checkpoint is damaged, of another model, or of an optimizer with other options, it throws
 * and nothing has changed.
 *
 * @param into A model of tfjs-layers that was compiled with an optimizer of ours, or such an optimizer.
 * @param source An address of any scheme tfjs knows, or a tf.io.IOHandler.
 */
export async function loadCheckpoint(
  into: CheckpointSource,
  source: string | io.IOHandler,
  options: LoadCheckpointOptions = {},
): Promise<Resumed> {
  expectOptions('loadCheckpoint', options, ['model']);
  expectNoAdapter('loadCheckpoint', source);
  const {optimizer, model} = partsOf('loadCheckpoint', into, options.model);
  const where = typeof source === 'string' ? source : 'the checkpoint';
  const {contents, specs, data} = await readArtifacts(where, ioHandler(source, 'load'));
  try {
    expectSameOptions(contents.config, String(optimizer.getConfig()['name']));
  } catch (error) {
    throw seen(error);
  }
  const known = model ? namedWeights(model) : attachedWeights(optimizer);
  const named = expectSameWeights(where, contents, known, model !== undefined);
  expectSameTrainable(where, contents, named, trainableOf(model ?? [...known.values()]), optimizer);
  await expectStill(contents, named);
  const tensors = io.decodeWeights(data, specs);
  try {
    const moved = contents.weights.map(({path}) => ({
      variable: named.get(path)!,
      tensor: taken(where, tensors, MODEL + path, named.get(path)!),
    }));
    const list = Object.entries(tensors)
      .filter(([name]) => name.startsWith(OPTIMIZER))
      .map(([name, tensor]) => ({name: name.slice(OPTIMIZER.length), tensor}));
    const checkpoint = await unpack(list);
    // The model may call its weights otherwise than the one that was saved.
    const nameOf = new Map(contents.weights.map(({path, trained}) => [trained, named.get(path)!.name]));
    const weights = checkpoint.weights.map((saved, i) => ({...saved, weight: nameOf.get(i) ?? saved.weight}));
    optimizer.resume({...checkpoint, weights}, {name: contents.config}, [...named.values()]);
    for (const {variable, tensor} of moved) variable.assign(tensor as never);
    optimizer.bind([...named.values()]);
    return {step: checkpoint.steps, data: contents.data};
  } catch (error) {
    throw seen(error);
  } finally {
    dispose(tensors);
  }
}

/** The model's weights, by what the checkpoint calls them. */
function expectSameWeights(
  where: string,
  {weights, still, isWhole}: Contents,
  named: ReadonlyMap<string, Variable>,
  isGiven: boolean,
): Map<string, Variable> {
  const entries = [...weights, ...still];
  const places = isGiven ? placesOf(named, entries) : entries.map(({path}) => path);
  const found = new Map<string, Variable>();
  entries.forEach(({path, shape}, i) => {
    const variable = named.get(places[i] ?? path);
    if (!variable) {
      throw errorOf(
        isGiven
          ? `${where} holds the weight ${path} [${shape}], and the model given has none of that path: it has ` +
              [...named.keys()].join(', ')
          : `${where} holds the weight ${path} [${shape}], which this optimizer does not train yet: say of which ` +
              'model it is, loadCheckpoint(optimizer, source, {model})',
      );
    }
    if (String(variable.shape) !== String(shape)) {
      throw errorOf(`${where} holds ${path} as [${shape}], and the model has it as [${variable.shape}]`);
    }
    found.set(path, variable);
  });
  const taken = new Set(found.values());
  const more = [...named].filter(([, variable]) => !taken.has(variable)).map(([path]) => path);
  if (isGiven && isWhole && more.length > 0) {
    throw errorOf(
      `${where} knows no ${more.join(', ')}, which the model given has: it was made of another model`,
    );
  }
  if (taken.size < found.size) {
    const [first, ...others] = [...found].filter(
      ([, variable]) => [...found.values()].filter(other => other === variable).length > 1,
    );
    throw errorOf(`${where}: ${first![0]} and ${others[0]![0]} are both for one weight of the model given`);
  }
  return found;
}

/** A layer that was frozen and is not any more would be trained from now on; or the other way round. */
function expectSameTrainable(
  where: string,
  {weights, still}: Contents,
  named: ReadonlyMap<string, Variable>,
  chosen: ReadonlySet<Variable>,
  optimizer: ProjectedOptimizer,
): void {
  const frozen = still.filter(({trainable}) => trainable === false);
  for (const {path, trainable} of [...weights, ...frozen]) {
    const variable = named.get(path)!;
    const now = chosen.has(variable);
    if (trainable === undefined || trainable === now) continue;
    // What the rules freeze does not move in either case.
    if (now && optimizer.explain([variable], null)[0]!.treatment === 'freeze') continue;
    const [was, is] = trainable ? ['trainable', 'frozen'] : ['frozen', 'trainable'];
    throw errorOf(
      `${where}: ${path} was ${was} when this checkpoint was made, and is ${is} now: set trainable = ${trainable} on ` +
        'its layer before loadCheckpoint; afterwards it may change',
    );
  }
}

async function expectStill({still}: Contents, named: ReadonlyMap<string, Variable>): Promise<void> {
  const handles: Tensor[] = [];
  const handleOf = (tensor: Tensor) => {
    handles.push(tensor.clone());
    return handles.at(-1)!;
  };
  try {
    for (const {path, digest} of still) {
      if ((await digestOf(named.get(path)!, handleOf)) === digest) continue;
      throw errorOf(
        `${path} is not what it was when this checkpoint was made, and training does not change it: load the same ` +
          'model, with the same weights, before loadCheckpoint',
      );
    }
  } finally {
    dispose(handles);
  }
}

function taken(where: string, tensors: NamedTensorMap, name: string, variable: Variable): Tensor {
  const tensor = tensors[name];
  const [is, want] = [tensor && `${tensor.dtype} [${tensor.shape}]`, `${variable.dtype} [${variable.shape}]`];
  if (tensor && is === want) return tensor;
  throw errorOf(`${where}: ${name} is ${is ?? 'missing'}, and ${want} is needed`);
}
