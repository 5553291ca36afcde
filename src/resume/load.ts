import type {NamedTensorMap, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, io} from '@tensorflow/tfjs-core';
import {ioHandler} from '../adapter/io.js';
import {namedWeights, type WeightsOf} from '../adapter/paths.js';
import {unpack} from '../checkpoint.js';
import type {ProjectedOptimizer} from '../optimizer.js';
import {expectOptions} from '../options.js';
import {type Contents, fromArtifacts, MODEL, OPTIMIZER} from './contents.js';
import {expectOptimizer} from './expect-optimizer.js';
import {attachedWeights, digestOf} from './save.js';
import {expectSameOptions} from './same-options.js';

export interface LoadCheckpointOptions {
  /** The model, its variables, or variables by path, as for `saveCheckpoint`. Default: the weights the optimizer trains. */
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
 * as for the first run; a learning rate that was set by hand comes back too.
 *
 * All or nothing: where the checkpoint is damaged, of another model, or of an optimizer with other options, it throws
 * and nothing has changed.
 *
 * @param source An address of any scheme tfjs knows, or a tf.io.IOHandler.
 */
export async function loadCheckpoint(
  optimizer: ProjectedOptimizer,
  source: string | io.IOHandler,
  options: LoadCheckpointOptions = {},
): Promise<Resumed> {
  expectOptions('loadCheckpoint', options, ['model']);
  expectOptimizer('loadCheckpoint', optimizer);
  const where = typeof source === 'string' ? source : 'the checkpoint';
  const {contents, specs, data} = fromArtifacts(where, await ioHandler(source, 'load').load!());
  expectSameOptions(contents.config, String(optimizer.getConfig()['name']));
  const {model} = options;
  const named = model ? namedWeights(model) : attachedWeights(optimizer);
  expectSameWeights(where, contents, named, model !== undefined);
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
    return {step: checkpoint.steps, data: contents.data};
  } finally {
    dispose(tensors);
  }
}

function expectSameWeights(
  where: string,
  {weights, still, isWhole}: Contents,
  named: ReadonlyMap<string, Variable>,
  isGiven: boolean,
): void {
  for (const {path, shape} of [...weights, ...still]) {
    const variable = named.get(path);
    if (!variable) {
      throw new Error(
        isGiven
          ? `${where} holds the weight ${path} [${shape}], and the model given has none of that path: it has ` +
              [...named.keys()].join(', ')
          : `${where} holds the weight ${path} [${shape}], which this optimizer does not train yet: say of which ` +
              'model it is, loadCheckpoint(optimizer, source, {model})',
      );
    }
    if (String(variable.shape) === String(shape)) continue;
    throw new Error(`${where} holds ${path} as [${shape}], and the model has it as [${variable.shape}]`);
  }
  const known = new Set([...weights, ...still].map(({path}) => path));
  const more = [...named.keys()].filter(path => !known.has(path));
  if (isGiven && isWhole && more.length > 0) {
    throw new Error(
      `${where} knows no ${more.join(', ')}, which the model given has: it was made of another model`,
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
      throw new Error(
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
  throw new Error(`${where}: ${name} is ${is ?? 'missing'}, and ${want} is needed`);
}
