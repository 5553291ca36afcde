import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {add, eye, matMul, mul, reshape, sub, transpose} from '@tensorflow/tfjs-core';
import {begin, expectInit, startOf} from '../init/begin.js';
import {type KroneckerInitializer, kroneckerUniform} from '../init/kronecker.js';
import {changeOfProduct} from '../low-rank.js';
import {expectNumber, expectOptions} from '../options.js';
import type {Additive, Start} from '../parametrization.js';
import {recipe} from '../recipe.js';
import {scaling} from '../scaling.js';
import type {Named} from '../tensors.js';

export interface KroneckerOptions {
  /** r of the second block, where r (m2 + n2) < m2 n2; elsewhere the block is trained whole. Default 8. */
  rank?: number;
  /** Default: the rank, so that s is 1. */
  alpha?: number;
  /**
   * Where it divides a side of W: C gets it or what is left beside it, whichever is smaller. Elsewhere C gets the largest
   * divisor up to it and to the square root of the side. Default: the largest divisor up to the square root.
   */
  factor?: number;
  /** Where the factors start: ours, or a function of your own. Default `kroneckerUniform()`. */
  init?: KroneckerInitializer;
}

/**
 * W = W0 + s kron(C, D), C `[m1, n1]`, D `[m2, n2]` or D1 D2 of rank r; m = m1 m2, n = n1 n2, s = alpha/r:
 * block (i, j) of the change is C_ij D.   Adjoint: g_C,ij = s <D, block (i, j) of G>, g_D = s sum_ij C_ij block (i, j).
 *
 * Where D is D1 D2 and r (m + n)(m1 + n1) <= m n, the adjoint takes two products of the operator instead of G.
 * Source: LoKr of LyCORIS, arXiv:2309.14859; as in PEFT.
 */
export const kronecker = /* @__PURE__ */ recipe('kronecker', (options: KroneckerOptions = {}): Additive => {
  expectOptions('kronecker', options, ['rank', 'alpha', 'factor', 'init']);
  const {rank = 8, alpha = rank, factor, init = kroneckerUniform()} = options;
  const s = scaling('kronecker', {rank, alpha});
  if (factor !== undefined) {
    expectNumber(
      'kronecker: factor',
      factor,
      'a whole number of at least 1',
      f => Number.isInteger(f) && f >= 1,
    );
  }
  expectInit('kronecker', init, 'kroneckerUniform() or (start) => ({d})');

  const shapesOf = ([m, n]: readonly [number, number]): Record<string, readonly [number, number]> => {
    const [m1, n1] = [block(m, factor), block(n, factor)];
    const [m2, n2] = [m / m1, n / n1];
    const isLow = rank * (m2 + n2) < m2 * n2;
    return {c: [m1, n1], ...(isLow ? {d1: [m2, rank], d2: [rank, n2]} : {d: [m2, n2]})};
  };
  const change = (f: Named) => mul(kron(f['c']!, second(f)), s);
  const start = (given: Start) => {
    const shapes = shapesOf(given.weight.shape);
    return begin('kronecker', init({...given, rank, shapes}), shapes);
  };

  return {
    name: 'kronecker',
    rank,
    trained: shape =>
      Object.values(shapesOf(shape)).reduce((count, [rows, columns]) => count + rows * columns, 0),
    init: start,
    delta: ({factors, frozen}) => {
      const from = startOf(frozen, factors);
      return from ? sub(change(factors), change(from)) : change(factors);
    },
    pullback: ({factors: {c, d, d1, d2}}, gradient) => {
      const [m, n] = gradient.shape;
      const [m1, n1] = c!.shape as [number, number];
      if (d) return contract(gradient.dense(), c!, d, s);
      if (rank * (m + n) * (m1 + n1) > m * n) {
        const whole = contract(gradient.dense(), c!, matMul(d1!, d2!), s);
        return {c: whole.c, d1: matMul(whole.d, transpose(d2!)), d2: matMul(transpose(d1!), whole.d)};
      }
      // kron(C, D1 D2) = kron(C, D1) kron(I, D2) = kron(I, D1) kron(C, D2)
      const right = contract(gradient.rightMul(kron(eye(n1), transpose(d2!))), c!, d1!, s);
      const left = contract(gradient.leftMul(kron(eye(m1), d1!)), c!, d2!, s);
      return {c: right.c, d1: right.d, d2: left.d};
    },
    // C' x D' - C x D = (C' - C) x D' + C x (D' - D)
    lift: ({factors}, {factors: next}) => {
      const [c, c1] = [factors['c']!, next['c']!];
      return mul(add(kron(sub(c1, c), second(next)), kron(c, difference(factors, next))), s);
    },
    refresh: (_, given) => start(given),
  };
});

/** The side of the first block: `factor`, or what is left beside it, or the largest divisor up to both sqrt and factor. */
function block(size: number, factor = size): number {
  if (factor < size && size % factor === 0) return Math.min(factor, size / factor);
  let divisor = Math.floor(Math.min(Math.sqrt(size), factor));
  while (size % divisor !== 0) divisor--;
  return divisor;
}

const second = ({d, d1, d2}: Named): Tensor => d ?? matMul(d1!, d2!);

function difference({d, d1, d2}: Named, next: Named): Tensor {
  if (d) return sub(next['d']!, d);
  const {left, right} = changeOfProduct({a: d1!, b: d2!}, {a: next['d1']!, b: next['d2']!});
  return matMul(left, right);
}

function kron(c: Tensor, d: Tensor): Tensor2D {
  const [[m1, n1], [m2, n2]] = [c.shape, d.shape] as [[number, number], [number, number]];
  return reshape(mul(reshape(c, [m1, 1, n1, 1]), reshape(d, [1, m2, 1, n2])), [m1 * m2, n1 * n2]);
}

/**
 * s times the adjoint of kron at (c, d). With the blocks of G as rows, `[m1 n1, m2 n2]`, kron(c, d) is vec(c) vec(d)^T,
 * and this a product on either side. Source: Van Loan and Pitsianis, "Approximation with Kronecker products" (1993).
 */
function contract(G: Tensor, c: Tensor, d: Tensor, s: number): {c: Tensor; d: Tensor} {
  const [[m1, n1], [m2, n2]] = [c.shape, d.shape] as [[number, number], [number, number]];
  const blocks = reshape(transpose(reshape(G, [m1, m2, n1, n2]), [0, 2, 1, 3]), [m1 * n1, m2 * n2]);
  // Times s, so that the right operands have data of their own: tfjs's wasm matMul remembers the first shape it saw
  // data in on the right, and a reshape shares its data.
  return {
    c: reshape(matMul(blocks, mul(reshape(d, [-1, 1]), s)), c.shape),
    d: reshape(matMul(reshape(c, [1, -1]), mul(blocks, s)), d.shape),
  };
}
