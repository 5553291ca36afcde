import type {Tensor} from '@tensorflow/tfjs-core';
import {getGradient} from '@tensorflow/tfjs-core';
import {type Block, blockOfSlice, blockWithin} from './block.js';
import type {Attributes, Inputs} from './node.js';

/** A tensor that is a weight in another form: a block of its matrix (mostly all of it), or that block's transpose. */
export interface View {
  readonly transposed: boolean;
  readonly block: Block;
}

/** What a node shows of a weight, one view for each output; null when it is more than another form of it. */
export function viewsThrough<V extends View>(
  name: string,
  view: V,
  from: Tensor,
  outputs: readonly Tensor[],
  attrs: Attributes,
): readonly V[] | null {
  const {transposed, block} = view;
  const to = outputs[0]!;
  if (name === 'Identity' || name === 'Reshape' || name === 'ExpandDims') {
    const columns = transposed ? block.rows : block.columns;
    return (to.shape.at(-1) ?? 1) === columns ? [view] : null;
  }
  if (name === 'Transpose') {
    const isPlain = (attrs['perm'] as number[]).every((axis, i) => axis === i);
    if (!isPlain && from.rank !== 2) return null;
    return [{...view, transposed: isPlain ? transposed : !transposed}];
  }
  const blocks = blocksOf(name, from.shape, outputs, attrs);
  return blocks && blocks.map(inner => ({...view, block: blockWithin(block, inner, transposed)}));
}

/** Whether a node is the engine's own clone of a tensor, as it makes of what a gradient function will want. */
export function isClone(name: string, inputs: Inputs, outputs: readonly Tensor[], saved: readonly Tensor[]) {
  const keys = Object.keys(inputs);
  if (keys.length !== 1 || keys[0] !== 'x' || saved.length > 0 || getGradient(name)) return false;
  return String(outputs[0]!.shape) === String(inputs['x']!.shape);
}

/** The blocks that Slice, Split and Unstack cut from a tensor, one for each output; null where one is none. */
function blocksOf(
  name: string,
  shape: readonly number[],
  outputs: readonly Tensor[],
  attrs: Attributes,
): readonly Block[] | null {
  const starts = shape.map(() => 0);
  let cuts: {begin: readonly number[]; size: readonly number[]}[];
  if (name === 'Slice') {
    const begin = [attrs['begin'] as number | number[]].flat();
    cuts = [{begin: starts.map((_, axis) => begin[axis] ?? 0), size: outputs[0]!.shape}];
  } else if (name === 'SplitV' || name === 'Unpack') {
    const given = attrs['axis'] as number;
    const axis = given < 0 ? given + shape.length : given;
    // Unstacked along the last axis, a column would be a tensor with the rows as its last axis.
    if (name === 'Unpack' && axis === shape.length - 1) return null;
    let next = 0;
    cuts = outputs.map(output => {
      const length = name === 'SplitV' ? output.shape[axis]! : 1;
      const begin = starts.with(axis, next);
      next += length;
      return {begin, size: shape.with(axis, length)};
    });
  } else {
    return null;
  }
  const blocks = cuts.map(({begin, size}) => blockOfSlice(shape, begin, size));
  return blocks.every(block => block !== null) ? blocks : null;
}
