import {readPlaces} from '../arguments.js';
import {innerAndRate, methodName, methodOf, methodTable} from '../adapt/method-names.js';
import {decimalOption, integerOption, textOption} from '../options.js';
import {UsageError} from '../usage-error.js';
import {scales} from './picture-features.js';

export const finetuneHelp = `Usage: tfjs-lora finetune MODEL DATA [options]

Fine-tunes a model of tfjs-layers on your own data. Says what it understood, and
measures the model on examples set aside, before and after. Writes into a folder
of its own the adapter, the merged model (model/), report.html and result.json.
MODEL and DATA stay as they are.

  MODEL   a folder with model.json, or the path to one
  DATA    .csv, .tsv, .jsonl; a folder of PNG or JPEG images with a subfolder
          for each class; or images-idx3-ubyte(.gz) beside its labels

What the data is
  --label COLUMN,...   the label; several for several outputs or 0/1 columns
                       (the column called label, class, target or y)
  --ignore COLUMN,...  columns that are no inputs
  --no-header          the first line of a CSV holds no names: they are 1, 2 ...
  --drop-empty         leave rows with empty cells out
  --standardise        columns to mean 0, deviation 1 over the training part (as
                       data.json beside the model says, else as they are)
  --standardise-labels labels that are numbers too: for a head that has never
                       seen their units
  --scale RANGE        what images become: ${Object.keys(scales).join(', ')} (as
                       data.json beside the model says, else 0..1)
  --resize             resize images to what the model takes
  --classes FILE       names of the outputs, one a line (classes.txt beside the
                       model, else numbers or letters in order)
  --split X            share of the examples set aside (0.2)
  --test DATA          measure on these instead

How to train
  --method NAME        as in \`tfjs-lora adapt\` (lora); \`--method list\`
  --rank N --alpha X   of the method (its own)
  --lr X               peak learning rate (the method's own)
  --epochs N           times through the training part (10), or
  --steps N            batches
  --batch N            examples in a batch (32)
  --targets REGEX      names of the weights to adapt (every matrix)
  --head HOW           the last layer: full, lora or freeze (full)
  --new-head           a new last layer, for other classes than the model knows
  --task KIND          what a new head tells: classes or numbers (as the labels
                       and the old head say)
  --batch-norm HOW     freeze or train its statistics (freeze)
  --inner NAME         sgd, momentum, adagrad, adam ... (adam)
  --backend NAME       tensorflow-gpu, tensorflow, webgpu, wasm or cpu (the
                       first that works)
  --seed N             seed of split, batches and factors (0)
  --out FOLDER         must not hold a run yet (runs/DATA)
  --checkpoint-every N save all the state every N steps, in OUT/checkpoints
  --resume             go on from the last of these; all else must be as it was

Ctrl-C ends the training early and keeps what was learned until then.

Examples:
  tfjs-lora finetune my-model flowers.csv --label species
  tfjs-lora finetune my-model photos --new-head --resize --epochs 5
  tfjs-lora finetune my-model houses.csv --label price --standardise
`;

export interface Options {
  model: string;
  data: string;
  label: string[] | undefined;
  ignore: string[];
  header: boolean | undefined;
  dropEmpty: boolean;
  standardise: boolean;
  standardiseLabels: boolean;
  /** What data.json beside the model says, or 0..1, where undefined. */
  scale: string | undefined;
  resize: boolean;
  classes: string | undefined;
  split: number;
  test: string | undefined;
  method: string;
  /** Null for a method without one; alpha too. */
  rank: number | null;
  alpha: number | null;
  lr: number;
  epochs: number;
  /** In place of epochs. */
  steps: number | undefined;
  batch: number;
  targets: RegExp | undefined;
  head: 'full' | 'lora' | 'freeze';
  newHead: boolean;
  task: string | undefined;
  batchNorm: 'freeze' | 'train';
  inner: string;
  backend: string | undefined;
  seed: number;
  out: string | undefined;
  checkpointEvery: number | undefined;
  resume: boolean;
}

/**
 * What a command line asks for, or text to print in place of a run.
 * @throws UsageError for a value that does not fit
 */
export function readOptions(args: string[]): Options | {tell: string} {
  const {given, places} = readPlaces(args, {
    ...{label: 'value', ignore: 'value', 'no-header': 'flag', 'drop-empty': 'flag', standardise: 'flag'},
    ...{'standardise-labels': 'flag'},
    ...{scale: 'value', resize: 'flag', classes: 'value', split: 'value', test: 'value', method: 'value'},
    ...{rank: 'value', alpha: 'value', lr: 'value', epochs: 'value', steps: 'value', batch: 'value'},
    ...{targets: 'value', head: 'value', 'new-head': 'flag', task: 'value', 'batch-norm': 'value'},
    ...{inner: 'value', backend: 'value', seed: 'value', out: 'value', 'checkpoint-every': 'value'},
    ...{resume: 'flag', help: 'flag'},
  } as const);
  if (given.help) return {tell: finetuneHelp};
  if (given.method === 'list') return {tell: methodTable()};
  if (places.length !== 2) {
    throw new UsageError(
      `finetune takes a model and data, and then options; it was given ${places.join(' ') || 'neither'} ` +
        '(tfjs-lora finetune --help)',
    );
  }
  const [model, data] = places.map(place => textOption('finetune', place)) as [string, string];
  const integer = (
    name: 'rank' | 'epochs' | 'steps' | 'batch' | 'seed' | 'checkpoint-every',
    least: number,
  ) => (given[name] === undefined ? undefined : integerOption(`--${name}`, given[name], least));
  const decimal = (name: 'alpha' | 'lr' | 'split') =>
    given[name] === undefined ? undefined : decimalOption(`--${name}`, given[name]);
  const text = (name: 'classes' | 'test' | 'out') =>
    given[name] === undefined ? undefined : textOption(`--${name}`, given[name]);
  const split = decimal('split') ?? 0.2;
  if (split >= 1) throw new UsageError(`--split takes a share above 0 and below 1, got "${given.split}"`);
  if (given.split !== undefined && given.test !== undefined)
    throw new UsageError('--split goes without --test');
  if (given.epochs !== undefined && given.steps !== undefined)
    throw new UsageError('--epochs goes without --steps');
  if (given.task !== undefined && !given['new-head'])
    throw new UsageError("--task goes with --new-head: without, the model's own head says what it tells");
  if (given['new-head'] && given.head === 'freeze')
    throw new UsageError('--head freeze goes without --new-head');
  const name = methodName('--method', given.method ?? 'lora');
  const method = methodOf(name);
  const [rank, alpha] = [integer('rank', 1), decimal('alpha')];
  if (rank !== undefined && method.rank === null) throw meaningless('--rank', name);
  if (alpha !== undefined && method.alpha === null) throw meaningless('--alpha', name);
  const chosenRank = method.rank === null ? null : (rank ?? method.rank);
  const suited = innerAndRate(method, given.inner);
  return {
    ...{model, data, split},
    label: given.label === undefined ? undefined : names('--label', given.label),
    ignore: given.ignore === undefined ? [] : names('--ignore', given.ignore),
    header: given['no-header'] ? false : undefined,
    dropEmpty: given['drop-empty'] ?? false,
    standardise: given.standardise ?? false,
    standardiseLabels: given['standardise-labels'] ?? false,
    scale: given.scale === undefined ? undefined : oneOf('--scale', given.scale, Object.keys(scales)),
    resize: given.resize ?? false,
    classes: text('classes'),
    test: text('test'),
    method: name,
    rank: chosenRank,
    alpha: method.alpha === null ? null : (alpha ?? method.alpha * (chosenRank ?? 1)),
    lr: decimal('lr') ?? suited.lr,
    epochs: integer('epochs', 1) ?? 10,
    steps: integer('steps', 1),
    batch: integer('batch', 1) ?? 32,
    targets: given.targets === undefined ? undefined : regExp('--targets', given.targets),
    head: oneOf('--head', given.head ?? 'full', ['full', 'lora', 'freeze'] as const),
    newHead: given['new-head'] ?? false,
    task: given.task === undefined ? undefined : oneOf('--task', given.task, ['classes', 'numbers']),
    batchNorm: oneOf('--batch-norm', given['batch-norm'] ?? 'freeze', ['freeze', 'train'] as const),
    inner: suited.inner,
    backend: given.backend,
    seed: integer('seed', 0) ?? 0,
    out: text('out'),
    checkpointEvery: integer('checkpoint-every', 1),
    resume: given.resume ?? false,
  };
}

const meaningless = (option: string, name: string) =>
  new UsageError(`${option} means nothing to --method ${name} (${methodOf(name).help}): leave it out`);

const names = (option: string, list: string) => list.split(',').map(name => textOption(option, name).trim());

function oneOf<T extends string>(option: string, value: string, choices: readonly T[]): T {
  const found = choices.find(choice => choice === value);
  if (found !== undefined) return found;
  throw new UsageError(`${option} takes ${choices.join(', ')}, got "${value}"`);
}

function regExp(option: string, text: string): RegExp {
  try {
    return new RegExp(textOption(option, text));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${option} takes a regular expression: ${(error as Error).message}`);
  }
}
