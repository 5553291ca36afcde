/** From a model and files to examples and a task; whatever does not fit is told before anything is written. */
import {existsSync, readFileSync} from 'node:fs';
import {basename, join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {percent, several} from '../table.js';
import {UsageError} from '../usage-error.js';
import {describeHead, describeInputs, describeOutputs, describeTask} from './describe.js';
import {digestOf} from './digest.js';
import {type Examples, pick} from './examples.js';
import {featuresOf, withoutEmpty} from './features.js';
import {type Head, headOf, oldActivation, withNewHead} from './head.js';
import {areSameColumns, factsFile, type Known, readKnown} from './known.js';
import {expectColumn, expectLabels, labelColumns, type Labels, listed} from './labels.js';
import {type Given, inputOf, unfreeze} from './model.js';
import type {Options} from './options.js';
import {pictureFeatures, scales} from './picture-features.js';
import {outOfReach} from './reach.js';
import {readData, type Source} from './read-data.js';
import {split} from './split.js';
import {type Standard, standardised, standardOf} from './standardise.js';
import {constantColumns, newTask, type Task, targetsOf, taskOf} from './task.js';
import {readVocabulary, type Vocabulary} from './vocabulary.js';

/** What must be done to an input before the model sees it: written beside the merged model. */
export interface InputFacts {
  /** The columns in their order; null for images. */
  readonly columns: readonly string[] | null;
  readonly shape: readonly number[];
  /** Subtract the mean, divide by the deviation; null where that was not asked for. */
  readonly standardise: Standard | null;
  /** What images became of their bytes; null for columns. */
  readonly scale: {readonly range: string; readonly times: number; readonly plus: number} | null;
  /** What text was read through; null for other inputs. */
  readonly text: TextFacts | null;
  /** Multiply an output by the deviation and add the mean; null where that was not asked for. */
  readonly outputs: Standard | null;
  /** The label columns that are numbers; null for classes. */
  readonly numbers: readonly string[] | null;
}

/** How a text becomes the numbers of its tokens: cut after the length, filled up to it behind. */
export interface TextFacts {
  /** The name of its file, which lies beside the model. */
  readonly vocabulary: string;
  readonly tokens: 'words' | 'characters';
  /** Whether text is put in small letters first. */
  readonly isSmall: boolean;
  readonly length: number;
  readonly pad: number;
  /** Of tokens that the vocabulary has not; null where these are left out. */
  readonly unknown: number | null;
}

/** Of what a run is made of, so that it can be seen whether another is made of the same. */
export interface Digests {
  /** The label columns, by their names. */
  readonly labels: string;
  readonly data: string;
  readonly test: string | null;
  readonly known: string | null;
  readonly vocabulary: string | null;
}

export interface Prepared {
  readonly model: tf.LayersModel;
  readonly head: Head;
  readonly task: Task;
  readonly train: Examples;
  readonly heldOut: Examples;
  readonly heldOutIs: string;
  readonly input: InputFacts;
  /** What belongs beside the model besides `input` and the classes, by the names of files. */
  readonly files: Readonly<Record<string, string>>;
  readonly digests: Digests;
  /** What was understood, for people. */
  readonly understood: [name: string, value: string][];
}

/** The file of class names beside a model, which a run writes too. */
export const classesFile = 'classes.txt';

/** Data in the shape of the model's input. */
export interface Loaded {
  readonly shape: readonly number[];
  readonly values: Float32Array | Uint8Array;
  readonly labels: Labels;
  readonly columns: readonly string[] | null;
  readonly vocabulary?: Vocabulary | undefined;
  /** What data.json says of these inputs; null where it says nothing of them. */
  readonly known: Known | null;
  readonly notes: readonly string[];
}

/** @throws UsageError for whatever does not fit, in one line */
export async function prepare(given: Given, options: Options): Promise<Prepared> {
  const source = await readData(options.data, options.header);
  const {known, note, text: knownText} = readKnown(given.folder);
  const data = await load(source, given, options, known);
  const testData =
    options.test === undefined ? undefined : await readTest(options.test, data, given, options, known);

  const {labels} = data;
  const frozen = unfreeze(given.model);
  const wanted = options.newHead ? newTask(labels, oldActivation(given.model), options.task) : undefined;
  const model = wanted
    ? withNewHead(given.model, wanted.units, wanted.activation, options.seed)
    : given.model;
  const head = headOf(model);
  const task = taskOf(head, labels, options.newHead ? undefined : classNames(given.folder, options.classes));
  const targets = targetsOf(task, labels);
  const constant = task.kind === 'numbers' ? constantColumns(targets, labels) : [];
  if (task.kind === 'classes' && labels.names.length > 1) expectClasses(task, targets.values);

  const classes = task.kind === 'classes' ? targets.values : null;
  const all = Int32Array.from({length: labels.rows.length}, (_, i) => i);
  const parts = testData ? null : split(labels.rows.length, classes, options.split, options.seed);
  const trainIndices = parts?.train ?? all;
  const {standardise, scale} = scalingOf(data, trainIndices, options);
  const knownOutputs = options.newHead ? null : outputsKnown(known, task);
  const outputs = outputStandard(task, targets, trainIndices, options) ?? knownOutputs;
  const examplesOf = (loaded: Loaded, {values, width} = targetsOf(task, loaded.labels)): Examples => ({
    size: loaded.labels.rows.length,
    shape: loaded.shape,
    values: standardise ? standardised(loaded.values as Float32Array, standardise) : loaded.values,
    ...{times: scale?.times ?? 1, plus: scale?.plus ?? 0},
    ...{targets: outputs ? standardised(values, outputs) : values, width},
  });
  const examples = examplesOf(data, targets);
  const train = parts ? pick(examples, parts.train) : examples;
  const heldOut = parts ? pick(examples, parts.heldOut) : examplesOf(testData!);
  const heldOutIs = parts
    ? `${percent(heldOut.size / examples.size)} drawn by seed ${options.seed}${classes ? ', of each class' : ''}`
    : options.test!;
  const input: InputFacts = {
    columns: data.columns,
    shape: data.shape,
    standardise,
    scale,
    text: data.vocabulary ? textFacts(data.vocabulary, data.shape) : null,
    outputs,
    numbers: task.kind === 'numbers' ? task.names : null,
  };
  const beyond = outOfReach(head, task, train.targets, outputs !== null);
  const understood: [string, string][] = [
    ['Inputs', describeInputs(data, input, options)],
    ['Labels', describeTask(task, labels) + describeOutputs(outputs, knownOutputs)],
    ['Head', describeHead(head, options)],
    ...(frozen.length > 0
      ? [['Unfrozen', `${listed(frozen, 6)}: saved as not trainable`] as [string, string]]
      : []),
    ['To learn', several(train.size, 'example')],
    ['Held out', `${several(heldOut.size, 'example')}: ${heldOutIs}`],
    ...given.warnings.map((warning): [string, string] => ['Note', `tfjs says of the model: ${warning}`]),
    ...(note === undefined ? [] : [['Note', note] as [string, string]]),
    ...otherLabels(known, task, options).map((text): [string, string] => ['Note', text]),
    ...data.notes.map((note): [string, string] => ['Note', note]),
    ...constant.map((name): [string, string] => ['Note', `the label "${name}" is the same in every example`]),
    ...(heldOut.size < fewHeldOut ? [['Warning', describeFew(heldOut.size)] as [string, string]] : []),
    ...(beyond === undefined ? [] : [['Warning', beyond] as [string, string]]),
  ];
  const {vocabulary} = data;
  return {
    ...{model, head, task, train, heldOut, heldOutIs, input, understood},
    files: vocabulary ? {[basename(vocabulary.file)]: vocabulary.text} : {},
    digests: {
      labels: labels.names.join(','),
      data: digestOf(partsOf(data)),
      test: testData ? digestOf(partsOf(testData)) : null,
      known: knownText === null ? null : digestOf([knownText]),
      vocabulary: vocabulary ? digestOf([vocabulary.text]) : null,
    },
  };
}

/** All that is to be learned from data, before it is scaled. */
function* partsOf({columns, shape, values, labels}: Loaded): Iterable<string | ArrayBufferView> {
  yield JSON.stringify([columns, shape, labels.names]);
  yield values;
  for (const row of labels.rows) yield JSON.stringify(row);
}

const textFacts = ({file, isOfCharacters, isSmall, pad, unknown}: Vocabulary, shape: readonly number[]) => ({
  vocabulary: basename(file),
  tokens: isOfCharacters ? ('characters' as const) : ('words' as const),
  ...{isSmall, length: shape[0]!, pad, unknown},
});

async function load(
  source: Source,
  {model, folder}: Given,
  options: Options,
  known: Known | null,
): Promise<Loaded> {
  const input = inputOf(model);
  if ('pictures' in source) {
    const {pictures} = source;
    if (options.label || options.ignore.length > 0 || options.standardise || options.dropEmpty) {
      throw new UsageError(
        '--label, --ignore, --standardise and --drop-empty go with columns, and the data is images',
      );
    }
    const labels = {
      names: [pictures.labelled],
      areColumns: false,
      rows: pictures.labels.map(label => [label]),
      where: pictures.where,
    };
    const features = await pictureFeatures(pictures, input.shape, options.resize);
    return {...features, labels, columns: null, known: known?.scale ? known : null, notes: pictures.notes};
  }
  const {name} = source.records;
  const labelled = labelColumns(source.records, options.label);
  for (const column of options.ignore) expectColumn(name, source.records.columns, column, '--ignore');
  const given = source.records.columns.filter(
    column => !labelled.includes(column) && !options.ignore.includes(column),
  );
  const isKnown = areSameColumns(known?.columns ?? [], given);
  const columns = isKnown ? known!.columns! : given;
  const {records, left} = options.dropEmpty
    ? withoutEmpty(source.records, [...labelled, ...columns])
    : {records: source.records, left: 0};
  const places = labelled.map(column => records.columns.indexOf(column));
  const labels: Labels = {
    names: labelled,
    areColumns: true,
    rows: records.rows.map(row => places.map(place => row[place]!)),
    where: i => `line ${records.lines[i]} of ${name}`,
  };
  expectLabels(labels);
  const {note, ...features} = featuresOf(records, columns, input, readVocabulary(folder));
  if (features.vocabulary && options.standardise) {
    throw new UsageError(`--standardise goes with columns of numbers, and "${columns[0]}" is text`);
  }
  return {
    ...features,
    labels,
    columns,
    known: isKnown ? known : null,
    notes: [
      ...(isKnown && String(columns) !== String(given)
        ? [`the columns are put in the order of ${factsFile} beside the model`]
        : []),
      ...(!isKnown && known?.standardise && !options.standardise
        ? [
            `${factsFile} beside the model standardises ${listed(known.columns ?? [], 6)}, and these inputs are others: ` +
              'they are as they are',
          ]
        : []),
      ...(left > 0 ? [`${several(left, 'row')} with empty cells left out`] : []),
      ...(note === undefined ? [] : [note]),
    ],
  };
}

async function readTest(
  path: string,
  data: Loaded,
  given: Given,
  options: Options,
  known: Known | null,
): Promise<Loaded> {
  const test = await load(await readData(path, options.header), given, options, known);
  if (String(test.columns) !== String(data.columns) || String(test.shape) !== String(data.shape)) {
    throw new UsageError(
      `--test ${path} has other inputs than ${options.data}: the same columns in the same order are needed`,
    );
  }
  return test;
}

function scalingOf(data: Loaded, indices: Int32Array, options: Options) {
  if (!data.columns) {
    const range = options.scale ?? '0..1';
    const scale = options.scale === undefined ? data.known?.scale : undefined;
    return {standardise: null, scale: scale ?? {range, ...scales[range]!}};
  }
  const width = data.values.length / data.labels.rows.length;
  if (options.standardise) return {standardise: standardOf(data.values, width, indices), scale: null};
  const standardise = data.known?.standardise ?? null;
  return {standardise: standardise?.mean.length === width ? standardise : null, scale: null};
}

/** In what the outputs of the model are, where an earlier run has learned the same labels. */
function outputsKnown(known: Known | null, task: Task): Standard | null {
  if (!known?.outputs || task.kind !== 'numbers' || known.outputs.mean.length !== task.names.length)
    return null;
  return known.numbers && String(known.numbers) !== String(task.names) ? null : known.outputs;
}

/** What is to be said where the outputs of the model are in units of other labels. */
function otherLabels(known: Known | null, task: Task, {newHead, standardiseLabels}: Options): string[] {
  if (!known?.outputs || task.kind !== 'numbers' || newHead || standardiseLabels || outputsKnown(known, task))
    return [];
  return [
    `${factsFile} beside the model standardises the labels ${listed(known.numbers ?? [], 6)}, and these are others: ` +
      'they are as they are',
  ];
}

function outputStandard(
  task: Task,
  {values, width}: {values: Float32Array; width: number},
  indices: Int32Array,
  {standardiseLabels}: Options,
): Standard | null {
  if (!standardiseLabels) return null;
  if (task.kind === 'numbers') return standardOf(values, width, indices);
  throw new UsageError('--standardise-labels goes with labels that are numbers, and these are classes');
}

function classNames(folder: string, asked: string | undefined): string[] | undefined {
  const file = asked ?? join(folder, classesFile);
  if (!existsSync(file)) {
    if (asked === undefined) return undefined;
    throw new UsageError(`--classes: no such file: ${asked}`);
  }
  return readFileSync(file, 'utf8')
    .replace(/^\ufeff/, '')
    .replace(/\r?\n$/, '')
    .split(/\r?\n/);
}

/** Fewer examples than this say little about a model. */
const fewHeldOut = 10;

const describeFew = (size: number): string =>
  `only ${several(size, 'example')} ${size === 1 ? 'is' : 'are'} held out, which measures the model only roughly: ` +
  'set more aside with --split or --test';

/** @throws UsageError where all examples are of one class, though there are columns for several */
function expectClasses({classes}: Task & {kind: 'classes'}, targets: Float32Array): void {
  if (targets.some(target => target !== targets[0])) return;
  throw new UsageError(`every example is of the class "${classes[targets[0]!]}": at least two are needed`);
}
