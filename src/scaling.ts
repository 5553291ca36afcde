import {expectBoolean, expectNumber} from './options.js';

/** The options that set s in W = W0 + s (…). */
export interface Scaling {
  rank: number;
  alpha: number;
  rankStabilised?: boolean;
}

/** s = alpha/r, or alpha/sqrt(r) when rank-stabilised (arXiv:2312.03732). Throws on a rank or alpha that cannot be. */
export function scaling(where: string, {rank, alpha, rankStabilised = false}: Scaling): number {
  expectNumber(`${where}: rank`, rank, 'a whole number of at least 1', r => Number.isInteger(r) && r >= 1);
  expectNumber(`${where}: alpha`, alpha, 'a number other than 0', a => a !== 0);
  expectBoolean(`${where}: rankStabilised`, rankStabilised);
  return rankStabilised ? alpha / Math.sqrt(rank) : alpha / rank;
}
