import type {Tensor2D} from '@tensorflow/tfjs-core';
import {matMul} from '@tensorflow/tfjs-core';
import {Matrix} from 'ml-matrix';
import {transposedTimes} from '../capture/layout.js';
import {fromHost, toHost} from './host.js';

/**
 * The columns of `basis` in the order and with the signs that bring it nearest to `old` (least ||basis' - old||_F):
 * the assignment with the largest sum of |old^T basis|, found exactly (Hungarian method, r^3), then the signs.
 * The span stays; its coordinates become comparable with what was written in the old ones.
 */
export function aligned(basis: Tensor2D, old: Tensor2D): Tensor2D {
  if (String(old.shape) !== String(basis.shape)) {
    throw new Error(`aligned: the bases differ in shape, [${old.shape}] and [${basis.shape}]`);
  }
  const overlap = toHost(transposedTimes(old, basis), 'aligned: the product of the two bases');
  const r = overlap.rows;
  const order = assignment(Matrix.abs(overlap).mul(-1));
  const turn = new Matrix(r, r);
  order.forEach((from, to) => turn.set(from, to, overlap.get(to, from) < 0 ? -1 : 1));
  return matMul(basis, fromHost(turn));
}

/**
 * The column of each row with the least sum of costs, `[r, r]`: shortest augmenting paths with potentials
 * (Kuhn 1955; Jonker and Volgenant, Computing 38, 1987).
 */
export function assignment(cost: Matrix): number[] {
  const r = cost.rows;
  const [rowPotential, columnPotential] = [new Float64Array(r), new Float64Array(r + 1)];
  // Column r stands for "not yet": the row to be placed waits there.
  const rowOf = new Array<number>(r + 1).fill(-1);
  for (let row = 0; row < r; row++) {
    rowOf[r] = row;
    let column = r;
    const slack = new Float64Array(r).fill(Infinity);
    const cameFrom = new Array<number>(r).fill(r);
    const visited = new Set<number>();
    while (rowOf[column]! >= 0) {
      visited.add(column);
      const i = rowOf[column]!;
      let nearest = -1;
      for (let j = 0; j < r; j++) {
        if (visited.has(j)) continue;
        const reduced = cost.get(i, j) - rowPotential[i]! - columnPotential[j]!;
        if (reduced < slack[j]!) {
          slack[j] = reduced;
          cameFrom[j] = column;
        }
        if (nearest < 0 || slack[j]! < slack[nearest]!) nearest = j;
      }
      const shift = slack[nearest]!;
      for (const j of visited) {
        rowPotential[rowOf[j]!]! += shift;
        columnPotential[j]! -= shift;
      }
      for (let j = 0; j < r; j++) if (!visited.has(j)) slack[j]! -= shift;
      column = nearest;
    }
    while (column !== r) {
      rowOf[column] = rowOf[cameFrom[column]!]!;
      column = cameFrom[column]!;
    }
    rowOf[r] = -1;
  }
  const columns = new Array<number>(r);
  for (let j = 0; j < r; j++) columns[rowOf[j]!] = j;
  return columns;
}
