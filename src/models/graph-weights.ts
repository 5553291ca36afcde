import {util} from '@tensorflow/tfjs-core';
import {type GradientPaths, linksOf} from './gradient-path.js';
import type {GraphNode} from './graph-model.js';

/** The parameters of ops by which a layer's weights come in. */
const BY_WEIGHT: Readonly<Record<string, readonly string[]>> = {
  MatMul: ['a', 'b'],
  BatchMatMul: ['a', 'b'],
  BatchMatMulV2: ['a', 'b'],
  _FusedMatMul: ['a', 'b', 'args'],
  Einsum: ['tensors'],
  Conv1D: ['filter'],
  Conv2D: ['filter'],
  Conv3D: ['filter'],
  _FusedConv2D: ['filter', 'args'],
  Conv2DBackpropInput: ['filter'],
  Conv2dTranspose: ['filter'],
  DepthwiseConv2d: ['filter'],
  DepthwiseConv2dNative: ['filter'],
  FusedDepthwiseConv2dNative: ['filter', 'args'],
  Gather: ['x'],
  GatherV2: ['x'],
  BiasAdd: ['a', 'b'],
  FusedBatchNorm: ['scale', 'offset'],
  FusedBatchNormV2: ['scale', 'offset'],
  FusedBatchNormV3: ['scale', 'offset'],
  Prelu: ['alpha'],
};

/** Ops that are layers' biases and gains where the other side is computed from an input. */
const MIXED: ReadonlySet<string> = new Set(['Add', 'AddV2', 'Mul']);
/** Ops that show a weight in another form. */
const FORMS: ReadonlySet<string> = new Set([
  'Identity',
  'Reshape',
  'Transpose',
  'ExpandDims',
  'Squeeze',
  'Cast',
]);

/**
 * Whether a constant is a weight by what uses it: a kernel, a bias, a table, a gain. Scalars are not, nor what a batch
 * norm has as mean and variance, nor what is only mixed with other constants.
 */
export function isWeight(constant: GraphNode, shape: readonly number[], paths: GradientPaths): boolean {
  if (shape.length === 0 || util.sizeFromShape([...shape]) < 2) return false;
  return paths.usersOf(constant.name).some(({node, param}) => {
    if (FORMS.has(node.op)) return isWeight(node, shape, paths);
    if (BY_WEIGHT[node.op]?.includes(param)) return true;
    return MIXED.has(node.op) && linksOf(node).some(({from}) => from !== constant && isComputed(from));
  });
}

/** Whether a node's value depends on an input of the graph. Constants may have inputs that they only wait for. */
function isComputed(node: GraphNode, seen = new Set<GraphNode>()): boolean {
  if (node.op.startsWith('Placeholder')) return true;
  if (node.op === 'Const' || seen.has(node)) return false;
  seen.add(node);
  return node.inputs.some(input => input && isComputed(input, seen));
}
