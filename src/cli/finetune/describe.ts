/** What was understood, in the words of the lines before a training. */
import type {Head} from './head.js';
import {factsFile} from './known.js';
import {areNumbers, type Labels, listed} from './labels.js';
import type {Options} from './options.js';
import type {InputFacts, Loaded} from './prepare.js';
import {reachOf} from './reach.js';
import type {Standard} from './standardise.js';
import type {Task} from './task.js';

const asKnown = `as ${factsFile} beside the model says`;

export function describeInputs(
  {columns, shape, known}: Loaded,
  {standardise, scale, text}: InputFacts,
  options: Options,
): string {
  const sizes = shape.join(' x ');
  if (!columns || scale) {
    const from = scale && scale === known?.scale ? `, ${asKnown}` : '';
    return `images of ${sizes}, ${scale?.range}${from}`;
  }
  if (text) return `${columns[0]}: ${sizes} ${text.tokens} of ${text.vocabulary}, cut or filled up`;
  const how = !standardise
    ? 'as they are'
    : options.standardise
      ? 'standardised over the training part'
      : `standardised ${asKnown}`;
  return `${listed(columns, 8)} (${sizes}), ${how}`;
}

export function describeOutputs(outputs: Standard | null, known: Standard | null): string {
  if (!outputs) return '';
  return outputs === known ? `, standardised ${asKnown}` : ', standardised';
}

export function describeTask(task: Task, labels: Labels): string {
  if (task.kind === 'numbers') return `numbers: ${listed(task.names)}`;
  const {names, areColumns} = labels;
  const from = names.length > 1 ? 'columns' : names[0]!;
  const taken = areColumns && names.length === 1 && areNumbers(labels) ? ' (numbers taken for classes)' : '';
  return `${task.classes.length} classes of ${from}: ${listed(task.classes, 8)}${taken}`;
}

export function describeHead(head: Head, {head: treatment, newHead}: Options): string {
  const {layer, units, activation} = head;
  const how = {full: 'trained as it is', lora: 'adapted', freeze: 'frozen'}[treatment];
  const outputs = units === 1 ? '1 output' : `${units} outputs`;
  const reach = ['softmax', 'sigmoid'].includes(activation) ? undefined : reachOf(head);
  const kind = reach === undefined ? activation : `${activation}: ${reach}`;
  return `${layer.name}, ${outputs} (${kind}), ${newHead ? 'new, ' : ''}${how}`;
}
