/** Which numbers a head can give at all. */
import {count} from '../table.js';
import type {Head} from './head.js';
import {rounded} from './result.js';
import type {Task} from './task.js';
import {rangeOf} from './units.js';

/** The numbers that an activation gives, in the words of tfjs; those that give every number are left out. */
const ranges: Readonly<Record<string, readonly [least: number, most: number]>> = {
  tanh: [-1, 1],
  softsign: [-1, 1],
  sigmoid: [0, 1],
  hardSigmoid: [0, 1],
  hard_sigmoid: [0, 1],
  softmax: [0, 1],
  relu: [0, Infinity],
  softplus: [0, Infinity],
  relu6: [0, 6],
  elu: [-1, Infinity],
};

/** What it gives, in words; undefined where that is every number. */
export function reachOf({activation}: Head): string | undefined {
  const range = ranges[activation];
  if (!range) return undefined;
  const [least, most] = range;
  return most === Infinity ? `numbers from ${least} up` : `numbers from ${least} to ${most}`;
}

/**
 * What is lost where a head cannot give what is asked of it; undefined where it can.
 * @param targets what the outputs are to be
 * @param isStandardised whether these are labels with mean 0 and deviation 1
 */
export function outOfReach(
  head: Head,
  task: Task,
  targets: Float32Array,
  isStandardised: boolean,
): string | undefined {
  const reach = reachOf(head);
  if (reach === undefined) return undefined;
  const gives = `the head ends in ${head.activation}, which gives ${reach}`;
  if (task.kind === 'classes') {
    if (task.outputs !== 'logits') return undefined;
    return `${gives}: it can never be sure of a class; --new-head puts one that can`;
  }
  const [least, most] = ranges[head.activation]!;
  const beyond = targets.filter(target => target < least || target > most).length;
  if (beyond === 0) return undefined;
  const range = rangeOf(targets);
  const labels = isStandardised ? 'standardised labels' : 'labels';
  const these =
    `${count(beyond)} of ${count(targets.length)} ${labels} (${rounded(range.least)} to ${rounded(range.most)}) ` +
    'are out of its reach';
  return `${gives}, and ${these}: --new-head --task numbers puts a head that gives every number`;
}
