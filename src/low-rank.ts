import type {Tensor} from '@tensorflow/tfjs-core';
import {concat, sub} from '@tensorflow/tfjs-core';

type Product = Readonly<Record<'a' | 'b', Tensor>>;

/**
 * `A'B' - AB` as one product of inner size 2r, `[A' - A, A] [B'; B' - B]`: no digits are lost to a difference of products.
 *
 * @returns `left` `[m, 2r]` and `right` `[2r, n]`.
 */
export const changeOfProduct = ({a, b}: Product, next: Product): {left: Tensor; right: Tensor} => ({
  left: concat([sub(next.a, a), a], 1),
  right: concat([next.b, sub(next.b, b)], 0),
});
