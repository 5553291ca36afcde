/** What a model is to learn: inferred from its head and the labels. */
import {UsageError} from '../usage-error.js';
import type {Head} from './head.js';
import {areNumbers, classNameOf, distinct, type Labels, listed} from './labels.js';
import {commaAdvice, fault, hasDecimalComma, numberIn} from './records.js';

/** Which of several things an example is, or how much of something. */
export type Task = Classes | Numbers;

export interface Classes {
  readonly kind: 'classes';
  /** In the order of the units; of a single unit the second is the one it is sure of at 1. */
  readonly classes: readonly string[];
  /** Whether outputs are probabilities of each (softmax), the probability of the second (sigmoid), or logits. */
  readonly outputs: 'probabilities' | 'probability' | 'logits';
}

export interface Numbers {
  readonly kind: 'numbers';
  /** What each unit tells. */
  readonly names: readonly string[];
}

/**
 * What the labels ask of the head:
 * softmax of k units: one of k classes; sigmoid of one unit: one of two classes; any other head of k units: k numbers, or
 * logits of k classes where there is one label column and k > 1.
 *
 * @param named the classes in the order of the units, where that is known
 * @throws UsageError where they do not fit
 */
export function taskOf(
  {units, activation}: Head,
  labels: Labels,
  named: readonly string[] | undefined,
): Task {
  const {names} = labels;
  const gives = `the model gives ${units} ${activation} ${units === 1 ? 'number' : 'numbers'}`;
  const isClassifier = activation === 'softmax' || activation === 'sigmoid';
  if (names.length > 1 && !(activation === 'softmax' && units > 1)) {
    if (isClassifier || names.length !== units || !areNumbers(labels)) {
      const what = areNumbers(labels) ? `${names.length} columns of numbers` : 'columns with text';
      throw new UsageError(
        `${gives}, and the labels are ${what}: --label takes as many columns of numbers as there are outputs`,
      );
    }
    return {kind: 'numbers', names};
  }
  if (activation === 'sigmoid' && units > 1) {
    throw new UsageError(
      `${gives} (several labels at once), which is not known here: --new-head puts one for single classes`,
    );
  }
  if (activation === 'softmax' && units === 1) {
    throw new UsageError(`${gives}, which is always 1: --new-head puts a usable head`);
  }
  if (!isClassifier && units === 1) {
    if (areNumbers(labels)) return {kind: 'numbers', names};
    const text = labels.rows.findIndex(row => numberIn(row[0]!) === null);
    const cell = labels.rows[text]![0]!;
    if (fault(cell) !== 'is no number') {
      throw new UsageError(`the label "${names[0]}" ${fault(cell)} in ${labels.where(text)} (${cell})`);
    }
    if (hasDecimalComma(cell)) {
      throw new UsageError(
        `the label "${names[0]}" is no number in ${labels.where(text)} ("${cell}"): ${commaAdvice(cell)}`,
      );
    }
    throw new UsageError(
      `${gives}, and the label "${names[0]}" is text ("${cell}" in ${labels.where(text)}): for classes ` +
        'add --new-head',
    );
  }
  const wanted = activation === 'sigmoid' ? 2 : units;
  const classes = classesOf(labels, named, wanted, gives);
  const outputs = activation === 'softmax' ? 'probabilities' : units === 1 ? 'probability' : 'logits';
  return {kind: 'classes', classes, outputs};
}

/** What a new head has to give. */
export function newTask(
  labels: Labels,
  oldActivation: string | undefined,
  asked: string | undefined,
): {units: number; activation: 'softmax' | 'linear'} {
  const isNumeric = areNumbers(labels);
  const areClasses = asked ? asked === 'classes' : !isNumeric || isClassifying(oldActivation, labels);
  if (!areClasses && !isNumeric) throw new UsageError('--task numbers: the labels are not all numbers');
  if (!areClasses) return {units: labels.names.length, activation: 'linear'};
  if (labels.names.length > 1) return {units: labels.names.length, activation: 'softmax'};
  const classes = distinct(labels.rows.map(row => row[0]!));
  expectClasses(classes, labels);
  return {units: classes.length, activation: 'softmax'};
}

const isClassifying = (activation: string | undefined, {areColumns}: Labels) =>
  activation === 'softmax' || activation === 'sigmoid' || !areColumns;

function classesOf(
  labels: Labels,
  named: readonly string[] | undefined,
  wanted: number,
  gives: string,
): readonly string[] {
  if (labels.names.length > 1) {
    if (labels.names.length !== wanted) {
      throw new UsageError(
        `${gives}, and there are ${labels.names.length} label columns: --new-head makes it as many`,
      );
    }
    return labels.names;
  }
  const found = distinct(labels.rows.map(row => row[0]!));
  expectClasses(found, labels);
  if (named) {
    if (named.length !== wanted) {
      throw new UsageError(
        `${gives}, and the file of classes has ${named.length} lines: one for each output is needed`,
      );
    }
    const unknown = found.find(label => !named.includes(label));
    if (unknown === undefined) return named;
    const i = labels.rows.findIndex(row => classNameOf(row[0]!) === unknown);
    throw new UsageError(
      `the label "${unknown}" in ${labels.where(i)} is not in the file of classes: ${listed(named)}`,
    );
  }
  if (found.length === wanted) return found;
  const help =
    found.length < wanted
      ? '--new-head makes a new last layer, or --classes FILE says which outputs they are'
      : '--new-head makes a new last layer';
  throw new UsageError(
    `${gives}${wanted === 2 && gives.includes(' 1 ') ? ' for 2 classes' : ''}, and the labels are ${found.length} classes ` +
      `(${listed(found, 6)}): ${help}`,
  );
}

function expectClasses(found: readonly string[], {rows, names}: Labels): void {
  if (found.length === 1) {
    throw new UsageError(`every label is "${found[0]}": at least two classes are needed`);
  }
  if (found.length > 20 && found.length > rows.length / 2) {
    throw new UsageError(
      `the label "${names[0]}" has ${found.length} different values in ${rows.length} examples: these are no classes ` +
        '(--label names another column; numbers need a model with a linear head, or --new-head --task numbers)',
    );
  }
}

/**
 * @returns the columns that hold the same number in every example, where others do not
 * @throws UsageError where no label differs: there is nothing to learn then
 */
export function constantColumns(
  {values, width}: {values: Float32Array; width: number},
  {names, rows}: Labels,
): string[] {
  const constant = names.filter((_, k) => values.every((value, i) => i % width !== k || value === values[k]));
  if (constant.length < names.length) return constant;
  const first = listed(rows[0]!.map(String));
  throw new UsageError(
    names.length > 1
      ? `the labels ${listed(names)} are the same in every example (${first}): there is nothing to learn from them`
      : `the label "${names[0]}" is ${first} in every example: there is nothing to learn from it`,
  );
}

/** The labels as numbers, `width` for each example: the index of its class, or what is to be met. */
export function targetsOf(task: Task, labels: Labels): {values: Float32Array; width: number} {
  const {rows, names} = labels;
  if (task.kind === 'numbers') {
    const values = rows.flatMap((row, i) =>
      row.map((cell, k) => {
        const value = numberIn(cell);
        if (value !== null) return value;
        throw new UsageError(`the label "${names[k]}" ${fault(cell)} in ${labels.where(i)}: "${cell}"`);
      }),
    );
    return {values: Float32Array.from(values), width: names.length};
  }
  const indexOf = new Map(task.classes.map((name, i) => [name, i]));
  const values = rows.map((row, i) => {
    if (names.length > 1) return oneHot(row.map(numberIn), labels, i);
    const index = indexOf.get(classNameOf(row[0]!));
    if (index !== undefined) return index;
    throw new UsageError(
      `the label "${row[0]}" in ${labels.where(i)} is none of the classes: ${listed(task.classes)}`,
    );
  });
  return {values: Float32Array.from(values), width: 1};
}

function oneHot(row: readonly (number | null)[], {names, where}: Labels, i: number): number {
  const index = row.indexOf(1);
  if (index >= 0 && row.every((value, k) => value === (k === index ? 1 : 0))) return index;
  throw new UsageError(`the label columns ${listed(names, 6)} are not a single 1 among zeros in ${where(i)}`);
}
