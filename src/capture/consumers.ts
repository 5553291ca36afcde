import type {Tensor} from '@tensorflow/tfjs-core';
import {getGradient} from '@tensorflow/tfjs-core';
import {matrixShape} from '../targets.js';
import {conv2dConsumer} from './conv2d.js';
import {depthwiseGradients, SMALL} from './depthwise.js';
import type {InputGradients, TapeNode} from './engine.js';
import {gatherConsumer} from './gather.js';
import {matMulConsumer} from './matmul.js';
import type {Attributes, Consumer, ConsumingNode, Inputs} from './node.js';

type Gradients = NonNullable<TapeNode['gradient']>;

/** A fused kernel that ran. */
export interface Fused {
  readonly name: string;
  readonly inputs: Inputs;
  readonly attrs: Attributes;
}

export const FUSED: ReadonlySet<string> = new Set(['_FusedMatMul', 'FusedConv2D', 'FusedDepthwiseConv2D']);
/** Their nodes are called like the op around them. */
const FUSED_OP = /^fused(MatMul|Conv2d|DepthwiseConv2d)_/;

/** The linear fused kernel behind the node of a fused op, the last that ran on its tensors; null for other nodes. */
export function fusedBehind(name: string, {0: left, 1: right}: Inputs, ran: readonly Fused[]): Fused | null {
  if (!left || !right || !FUSED_OP.test(name)) return null;
  const fused = ran.findLast(
    ({inputs: {a, b, x, filter}}) => (a ?? x)?.id === left.id && (b ?? filter)?.id === right.id,
  );
  return fused && (fused.attrs['activation'] ?? 'linear') === 'linear' ? fused : null;
}

/** What takes the place of tfjs's gradient function where a weight is used in a way that has a factored gradient; else why not. */
export function consumerOf(name: string, node: ConsumingNode, fused: Fused | null): Consumer | string {
  const {key} = node;
  if (name === 'BatchMatMul') return matMulConsumer(node, key as 'a' | 'b', {a: 'a', b: 'b'});
  if (name === 'GatherV2' && key === 'x') return gatherConsumer(node);
  if (name === 'Conv2D' && key === 'filter') return conv2dConsumer(node, {x: 'x', filter: 'filter'});
  if (name === 'DepthwiseConv2dNative' || fused?.name === 'FusedDepthwiseConv2D') return SMALL;
  // tfjs fuses while it records only where nothing follows the product but a bias.
  const ran = fused && {...node, attrs: fused.attrs};
  if (ran && fused.name === '_FusedMatMul' && (key === '0' || key === '1')) {
    return matMulConsumer(ran, key === '0' ? 'a' : 'b', {a: '0', b: '1'}, '2');
  }
  if (ran && fused.name === 'FusedConv2D' && key === '1') {
    return conv2dConsumer(ran, {x: '0', filter: '1', bias: '2'});
  }
  if (name === 'Reshape' || name === 'ExpandDims') return `${name} regroups its columns`;
  if (name === 'Transpose') return 'Transpose of more than two axes';
  if (name === 'Slice' || name === 'SplitV' || name === 'Unpack')
    return `${name} cuts rows that are not in one piece`;
  return getGradient(name) || /_op$/.test(name)
    ? `${opName(name)} has no factored form`
    : 'an op with a gradient of its own (customGrad)';
}

/** The gradients of a depthwise convolution where tfjs has none on this backend; null elsewhere. */
export function missingGradients(
  name: string,
  inputs: Inputs,
  saved: readonly Tensor[],
  attrs: Attributes,
  fused: Fused | null,
): ((dy: Tensor) => InputGradients) | null {
  if (name === 'DepthwiseConv2dNative')
    return depthwiseGradients(inputs, saved, attrs, {x: 'x', filter: 'filter'});
  if (fused?.name !== 'FusedDepthwiseConv2D') return null;
  return depthwiseGradients(inputs, saved, fused.attrs, {x: '0', filter: '1', bias: '2'});
}

/**
 * The gradients of a fused op whose matrix or filter is not trained. tfjs forms that gradient too, whether it is asked for
 * or not; here each is formed when it is asked for, and a frozen layer costs no more than its way back.
 *
 * @param own tfjs's gradient function, which stays where the op is used in a way that has no factored form
 */
export function askedGradients(
  name: string,
  inputs: Inputs,
  saved: readonly Tensor[],
  fused: Fused,
  own: Gradients,
): Gradients {
  const matrix = inputs['1']!;
  const node = {
    key: '1',
    inputs,
    saved,
    attrs: {},
    transposed: false,
    shape: matrixShape(matrix.shape),
  };
  const consumer = consumerOf(name, node, fused);
  if (typeof consumer === 'string') return own;
  return deltas => ({...consumer.others(deltas[0]!), 1: () => own(deltas)['1']!()});
}

/** What people call a kernel, or the op around a fused one. */
export const opName = (name: string) => OPS[name] ?? (name.replace(/_*(op)?$/, '') || 'an op');

const OPS: Readonly<Record<string, string>> = {
  BatchMatMul: 'matMul',
  _FusedMatMul: 'matMul',
  Conv2D: 'conv2d',
  FusedConv2D: 'conv2d',
  GatherV2: 'gather',
};
