// What is measured, in full and quickly.

export const full = {
  steps: {
    sizes: [
      {D: 1024, T: 256, L: 4, rank: 8},
      {D: 512, T: 2048, L: 4, rank: 8},
    ],
    timing: {rounds: 24, budgetMs: 30_000, limitMs: 60_000},
  },
  growth: {
    middle: {D: 512, T: 256, L: 4, rank: 8},
    axes: {
      D: [128, 256, 512, 1024, 2048],
      T: [32, 64, 128, 256, 512, 1024, 2048, 4096],
      rank: [1, 2, 4, 8, 16, 32, 64],
      L: [1, 2, 4, 8, 16],
    },
    timing: {rounds: 9, budgetMs: 6_000, limitMs: 5_000},
  },
  models: {
    sizes: {transformer: {batch: 8, time: 128, rank: 8}, conv: {batch: 16, side: 32, rank: 8}},
    timing: {rounds: 12, budgetMs: 15_000, limitMs: 30_000},
  },
};

export const quick = {
  steps: {
    sizes: [
      {D: 64, T: 32, L: 4, rank: 8},
      {D: 32, T: 64, L: 4, rank: 8},
    ],
    timing: {rounds: 4, budgetMs: 2_000, limitMs: 5_000},
  },
  growth: {
    middle: {D: 32, T: 16, L: 2, rank: 4},
    axes: {D: [16, 32, 64], T: [8, 16, 32], rank: [1, 4, 8], L: [1, 2, 4]},
    timing: {rounds: 3, budgetMs: 1_000, limitMs: 1_000},
  },
  models: {
    sizes: {transformer: {batch: 1, time: 16, rank: 2}, conv: {batch: 2, side: 8, rank: 2}},
    timing: {rounds: 3, budgetMs: 1_000, limitMs: 5_000},
  },
};
