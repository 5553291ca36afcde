import type {Tensor} from '@tensorflow/tfjs-core';
import {reshape, transpose} from '@tensorflow/tfjs-core';
import {type Block, sumOfBlocks} from './block.js';
import {factoredGradient} from './factored.js';
import {denseGradient, type Gradient} from './gradient.js';
import type {Part} from './node.js';
import type {View} from './views.js';

/** What one use of a weight adds to the gradient of a block of it. */
export interface PlacedPart extends Part {
  readonly block: Block;
}

/** The gradient of a weight from all its parts. Terms of the same block are stacked and multiplied once. */
export function gradientOfParts(
  parts: readonly PlacedPart[],
  shape: readonly [m: number, n: number],
): Gradient {
  const byBlock = new Map<string, PlacedPart[]>();
  for (const part of parts) {
    const {top, rows, left, columns} = part.block;
    const key = String([top, rows, left, columns]);
    byBlock.set(key, [...(byBlock.get(key) ?? []), part]);
  }
  return sumOfBlocks(
    [...byBlock.values()].flatMap(here => {
      const {block} = here[0]!;
      const terms = here.flatMap(({term, tensors}) => (term ? [term(tensors)] : []));
      const others = here.filter(({term}) => !term).map(({gradient, tensors}) => gradient(tensors));
      const stacked = terms.length > 0 ? [factoredGradient(terms, [block.rows, block.columns])] : [];
      return [...stacked, ...others].map(gradient => ({gradient, block}));
    }),
    shape,
  );
}

/** A part that tfjs has formed: the gradient of an op by an input that is a weight in some form. */
export function densePart(
  op: string,
  input: Tensor,
  gradient: (() => Tensor) | undefined,
  {transposed, block: {rows, columns}}: View,
): Part {
  if (!gradient) throw new Error(`${op} has no gradient by the weight it is given`);
  const formed = gradient();
  if (String(formed.shape) !== String(input.shape)) {
    throw new Error(`${op} gave a gradient of the shape [${formed.shape}] for an input of [${input.shape}]`);
  }
  const seen = reshape(formed, transposed ? [columns, rows] : [rows, columns]);
  return {
    isDense: true,
    tensors: [transposed ? transpose(seen) : seen],
    gradient: ([g]) => denseGradient(g!, [rows, columns]),
  };
}
