import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {matMul, reshape, transpose} from '@tensorflow/tfjs-core';
import {factoredGradient, type Term} from './factored.js';
import {biasGradient, timesTransposed} from './layout.js';
import {type Consumer, type ConsumingNode, sameShape} from './node.js';

/**
 * `y = op(a) op(b)`, with a weight on either side: plain, transposed, batched on the other side, and fused with a bias.
 * With the weight on the right the gradient is `op(a)^T delta`; on the left y = W b is y^T = b^T W^T, the same rule
 * with both sides turned.
 *
 * @param side The operand that is the weight.
 * @param keys How the node calls its operands.
 * @param bias Under which key a bias is added to the product.
 */
export function matMulConsumer(
  {inputs, saved, attrs, transposed, shape}: ConsumingNode,
  side: 'a' | 'b',
  keys: {a: string; b: string},
  bias?: string,
): Consumer | string {
  const [keptA, keptB] = saved;
  if (!sameShape(keptA, inputs[keys.a]) || !sameShape(keptB, inputs[keys.b]))
    return 'matMul of shapes that were changed';
  const [kept, other] = (side === 'b' ? [keptB, keptA] : [keptA, keptB]) as [Tensor, Tensor];
  const at = side === 'b' ? 1 : 0;
  const storedShape = kept.shape.slice(-2) as [number, number];
  // A weight that is itself a batch of matrices is not one product.
  if (String(transposed ? storedShape.toReversed() : storedShape) !== String(shape)) {
    return 'a batch of matrices in a matMul';
  }
  const turned = side === 'a';
  const weightTurned = Boolean(side === 'b' ? attrs['transposeB'] : attrs['transposeA']) !== turned;
  const otherTurned = Boolean(side === 'b' ? attrs['transposeA'] : attrs['transposeB']) !== turned;
  const isOneMatrix = other.size === other.shape.at(-1)! * other.shape.at(-2)!;
  if ((turned || otherTurned) && !isOneMatrix)
    return 'matMul with a batch that is transposed or on the right';

  const rows = (tensor: Tensor, turn: boolean) => {
    const flat = (tensor.rank === 2 ? tensor : reshape(tensor, [-1, tensor.shape.at(-1)!])) as Tensor2D;
    return turn ? (transpose(flat) as Tensor2D) : flat;
  };
  // The part belongs to the weight, not to the form the op saw it in.
  const flipped = weightTurned !== transposed;
  const term = ([x, delta]: readonly Tensor[]): Term =>
    (flipped ? {x: delta, delta: x, swapped: true} : {x, delta}) as Term;
  return {
    others: dy => ({
      [side === 'b' ? keys.a : keys.b]: () => {
        const matrix = asShape(saved[at]!, storedShape) as Tensor2D;
        const delta = rows(dy, turned);
        const dx: Tensor2D = weightTurned ? matMul(delta, matrix) : timesTransposed(delta, matrix);
        return asShape(otherTurned ? transpose(dx) : dx, other.shape);
      },
      ...(bias && inputs[bias] && {[bias]: () => biasGradient(dy, inputs[bias]!)}),
    }),
    part: dy => ({
      tensors: [rows(other, otherTurned), rows(dy, turned)],
      term,
      gradient: tensors => factoredGradient([term(tensors)], shape),
    }),
  };
}

/** A reshape, unless the shape is right: a view counts as a tensor of its own. */
const asShape = (tensor: Tensor, shape: number[]): Tensor =>
  String(tensor.shape) === String(shape) ? tensor : reshape(tensor, shape);
