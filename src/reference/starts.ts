/** Where A and B start in methods that take them from a decomposition. W stays at W0 in all of them. */
import type {LoraFactors} from './lora.js';
import {formula} from './formula.js';
import {fromRows, product, toArray, transpose, type Matrix} from './matrix.js';
import {chosen, svd} from './singular.js';

const rest = formula("v - Q * (Q' * v)");

/** PiSSA (arXiv:2404.02948): A = U sqrt(S/s), B = sqrt(S/s) V' from W0 = U S V', the first r terms. */
export function pissa(weight: Matrix, rank: number, scale: number): LoraFactors {
  const {u, s, v} = svd(weight);
  const length = (i: number) => Math.sqrt(s[i]! / scale);
  return {a: chosen(u, first(rank), length), b: transpose(chosen(v, first(rank), length))};
}

/** LoRA-One (arXiv:2502.01235): A = U sqrt(S/(S_1 gamma)), B = sqrt(S/(S_1 gamma)) V' from -G = U S V'. */
export function loraOne(gradient: Matrix, rank: number, gamma: number): LoraFactors {
  const {u, s, v} = svd(gradient);
  const length = (i: number) => Math.sqrt(s[i]! / s[0]! / gamma);
  return {a: chosen(u, first(rank), length), b: transpose(chosen(v, first(rank), i => -length(i)))};
}

/** OLoRA (arXiv:2406.01775): A = R', B = Q' from W0' = Q R, the first r columns of Q. Gram and Schmidt, twice. */
export function olora(weight: Matrix, rank: number): LoraFactors {
  const columns: number[][] = [];
  for (const row of toArray(weight).slice(0, rank)) {
    let v = transpose(fromRows([row]));
    for (let pass = 0; pass < 2 && columns.length > 0; pass++) {
      v = rest({v, Q: transpose(fromRows(columns))});
    }
    const length = Math.hypot(...toArray(v).flat());
    columns.push(toArray(v).map(([x]) => x! / length));
  }
  const b = fromRows(columns);
  return {a: product(weight, transpose(b)), b};
}

/** EVA (arXiv:2410.07170): the columns of A are the first right singular vectors of the inputs X [t, m]. */
export function eva(x: Matrix, rank: number): {a: Matrix} {
  return {a: chosen(svd(x).v, first(rank))};
}

const first = (count: number) => Array.from({length: count}, (_, i) => i);
