import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, expandDims, matMul, mul, reshape, sub, sum, transpose} from '@tensorflow/tfjs-core';
import {begin, expectInit, startOf} from '../init/begin.js';
import {type HadamardInitializer, hadamardUniform} from '../init/hadamard.js';
import {changeOfProduct} from '../low-rank.js';
import {expectOptions} from '../options.js';
import type {Additive, Gradient, Start} from '../parametrization.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';

export interface HadamardOptions {
  /** r of each of the two products, a positive integer; the change has rank up to r^2. Default 8. */
  rank?: number;
  /** Default: the rank, so that s is 1. */
  alpha?: number;
  /** Where the factors start: ours, or a function of your own. Default `hadamardUniform()`. */
  init?: HadamardInitializer;
}

type Key = 'a1' | 'b1' | 'a2' | 'b2';
type Factors = Readonly<Record<Key, Tensor>>;

/**
 * W = W0 + s (A1 B1) o (A2 B2), A1, A2 `[m, r]`, B1, B2 `[r, n]`, s = alpha/r; o is element by element.
 * Adjoint: g_A1 = s (G o A2 B2) B1^T, g_B1 = s A1^T (G o A2 B2), and the same with 1 and 2 exchanged.
 *
 * The same change is s A B of rank r^2, where the columns of A are the products of a column of A1 and one of A2: by
 * that form the adjoint needs only G Q and P^T G, and it is taken where 2 r^2 (m + n) <= m n.
 * Trains 2 r (m + n) numbers. Sources: FedPara, arXiv:2108.06098; LoHa of LyCORIS, arXiv:2309.14859.
 */
export const hadamard = /* @__PURE__ */ recipe('hadamard', (options: HadamardOptions = {}): Additive<Key> => {
  expectOptions('hadamard', options, ['rank', 'alpha', 'init']);
  const {rank = 8, alpha = rank, init = hadamardUniform()} = options;
  const s = scaling('hadamard', {rank, alpha});
  expectInit('hadamard', init, 'hadamardUniform() or (start) => ({a1, b1, b2})');

  const product = ({a1, b1, a2, b2}: Factors) => mul(matMul(a1, b1), matMul(a2, b2));
  const start = (given: Start) => {
    const [m, n] = given.weight.shape;
    const [a, b] = [[m, rank] as const, [rank, n] as const];
    return begin('hadamard', init({...given, rank}), {a1: a, b1: b, a2: a, b2: b});
  };

  return {
    name: 'hadamard',
    rank,
    trained: ([m, n]) => 2 * rank * (m + n),
    init: start,
    delta: ({factors, frozen}) => {
      const from = startOf(frozen, factors);
      return mul(from ? sub(product(factors), product(from)) : product(factors), s);
    },
    pullback: ({factors}, gradient) => {
      const [m, n] = gradient.shape;
      const isThin = 2 * rank * rank * (m + n) <= m * n;
      return mul4(isThin ? throughProducts(factors, gradient) : throughDense(factors, gradient), s);
    },
    // M1'M2' - M1 M2 = (M1' - M1) M2' + M1 (M2' - M2), so that no digits are lost to a difference.
    lift: ({factors: {a1, b1, a2, b2}}, {factors: next}) => {
      const first = mul(difference(a1, b1, next.a1, next.b1), matMul(next.a2, next.b2));
      return mul(add(first, mul(matMul(a1, b1), difference(a2, b2, next.a2, next.b2))), s);
    },
    refresh: (_, given) => start(given),
  };
});

/** From G itself: two element-wise products and four thin ones. */
function throughDense({a1, b1, a2, b2}: Factors, gradient: Gradient): Record<Key, Tensor> {
  const G = gradient.dense();
  const [first, second] = [mul(G, matMul(a2, b2)), mul(G, matMul(a1, b1))];
  return {
    a1: matMul(first, transpose(b1)),
    b1: matMul(transpose(a1), first),
    a2: matMul(second, transpose(b2)),
    b2: matMul(transpose(a2), second),
  };
}

/** From G Q, `[m, r^2]`, and P^T G, `[r^2, n]`, where Q and P hold all products of a row of one and of the other. */
function throughProducts({a1, b1, a2, b2}: Factors, gradient: Gradient): Record<Key, Tensor> {
  const [m, r] = a1.shape as [number, number];
  const n = b1.shape[1]!;
  const [c1, c2] = [transpose(b1), transpose(b2)];
  const a = reshape(gradient.rightMul(pairs(c1, c2)), [m, r, r]);
  const b = reshape(transpose(gradient.leftMul(pairs(a1, a2))), [n, r, r]);
  return {
    a1: sum(mul(a, expandDims(a2, 1)), 2),
    a2: sum(mul(a, expandDims(a1, 2)), 1),
    b1: transpose(sum(mul(b, expandDims(c2, 1)), 2)),
    b2: transpose(sum(mul(b, expandDims(c1, 2)), 1)),
  };
}

/** Row by row, all products of a number of x and one of y: `[k, r^2]` from two `[k, r]`. */
function pairs(x: Tensor, y: Tensor): Tensor2D {
  const [k, r] = x.shape as [number, number];
  return reshape(mul(expandDims(x, 2), expandDims(y, 1)), [k, r * r]);
}

/** A'B' - AB. */
function difference(a: Tensor, b: Tensor, nextA: Tensor, nextB: Tensor): Tensor {
  const {left, right} = changeOfProduct({a, b}, {a: nextA, b: nextB});
  return matMul(left, right);
}

const mul4 = ({a1, b1, a2, b2}: Factors, s: number): Record<Key, Tensor> => ({
  a1: mul(a1, s),
  b1: mul(b1, s),
  a2: mul(a2, s),
  b2: mul(b2, s),
});
