/** Something of which there may be several, each worth no more than the one before. */
export interface Candidate {
  /** What the first, the second, … is worth; falling. */
  readonly scores: readonly number[];
  /** What each costs. */
  readonly cost: number;
}

/**
 * How many of each to take within a budget: always what is worth most for its cost, as long as something that is worth
 * anything can be paid for. Of equals the earlier candidate comes first.
 *
 * That is a threshold on `score / cost`. With equal costs it is the best there is. With unequal ones it is the best for what
 * it spends up to the first that cannot be paid for, so no choice is better by more than that one's score.
 */
export function allocate(candidates: readonly Candidate[], budget: number): number[] {
  const taken = candidates.map(() => 0);
  let left = budget;
  for (;;) {
    let [best, worth] = [-1, 0];
    candidates.forEach(({scores, cost}, i) => {
      const value = (scores[taken[i]!] ?? 0) / cost;
      if (cost <= left && value > worth) [best, worth] = [i, value];
    });
    if (best < 0) return taken;
    taken[best]!++;
    left -= candidates[best]!.cost;
  }
}
