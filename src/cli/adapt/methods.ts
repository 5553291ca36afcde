/** What `--method` and `--compare` can name. A new method is one entry of `methods`. */
import type {Optimizer} from '@tensorflow/tfjs';
import {
  additive,
  dora,
  eva,
  every,
  flora,
  full,
  galore,
  gaussian,
  hadamard,
  type Initializer,
  type InnerSource,
  kaiming,
  kronecker,
  type LearningRate,
  lora,
  loraFA,
  loraGA,
  loraOne,
  loraPlus,
  loraPro,
  loraSB,
  loraXS,
  mica,
  olora,
  orthogonal,
  osf,
  type Parametrization,
  pissa,
  type Preconditioner,
  type ProjectedOptions,
  randomProjection,
  restarts,
  riemannian,
  symmetric,
  vera,
} from '../../index.js';

/** What a method is built from. */
export interface Given {
  /** 0 and of no meaning for a method without one; alpha too. */
  rank: number;
  alpha: number;
  steps: number;
  /** The rate of every step, of which the peak is `lr`. */
  rate: LearningRate;
  lr: number;
  /** Makes an inner optimizer of the kind asked for. */
  inner: () => Optimizer;
}

export interface Built {
  parametrization: Parametrization;
  /** Beside `targets`, `seed` and `learningRate`, the last of which it may replace. */
  options?: Omit<ProjectedOptions, 'targets' | 'seed'>;
  /** Default: one of the kind asked for. */
  inner?: InnerSource;
}

export interface Method {
  /** What people call it. */
  title: string;
  /** One line. */
  help: string;
  /** The rank when none is given; null where there is none. */
  rank: number | null;
  /** Alpha as a multiple of the rank when none is given; null where there is none. */
  alpha: number | null;
  /** The inner optimizer it is meant for, which it gets when none is asked for. Default: adam. */
  inner?: string;
  /** A peak rate that suits it with that. */
  defaultRate: number;
  build(given: Given): Built;
}

/** LoRA from another start. */
const loraFrom = (init: Initializer, title: string, help: string, defaultRate = 5e-3): Method => ({
  ...{title, help, rank: 4, alpha: 2, defaultRate},
  build: ({rank, alpha}) => ({parametrization: lora({rank, alpha, init})}),
});

/** LoRA whose gradients are bent. */
const loraBentBy = (
  precondition: Preconditioner,
  title: string,
  help: string,
  defaultRate: number,
): Method => ({
  ...{title, help, rank: 4, alpha: 2, defaultRate},
  build: ({rank, alpha}) => ({parametrization: lora({rank, alpha, precondition})}),
});

/** A weight that is added, as position embeddings are, is given no inputs to start from. */
const evaOrKaiming: Initializer = start => (start.gradient.inputGram ? eva() : kaiming())(start);

/** A new subspace `times` times, evenly over the training; in one too short for that at every step. */
const renewed = (times: number, steps: number) => Math.ceil(steps / (times + 1));

export const methods: Readonly<Record<string, Method>> = {
  lora: {
    title: 'LoRA',
    help: 'W0 + alpha/rank A B; A uniform, B zero',
    rank: 4,
    alpha: 2,
    defaultRate: 5e-3,
    build: ({rank, alpha}) => ({parametrization: lora({rank, alpha})}),
  },
  loraGaussian: loraFrom(gaussian(), 'LoRA, gaussian', 'LoRA; A normal with deviation 1/rank'),
  loraSymmetric: loraFrom(symmetric(), 'LoRA, symmetric', 'LoRA; A and B both away from zero'),
  loraOrthogonal: loraFrom(orthogonal(), 'LoRA, orthogonal', 'LoRA; A with orthonormal columns'),
  loraGA: loraFrom(loraGA(), 'LoRA-GA', 'LoRA from the first directions of the gradient', 1.5e-3),
  loraOne: loraFrom(loraOne(), 'LoRA-One', 'LoRA from the gradient, large directions longer', 1.5e-3),
  pissa: loraFrom(pissa(), 'PiSSA', 'LoRA from the largest directions of W0', 3e-3),
  olora: loraFrom(olora(), 'OLoRA', 'LoRA from the QR decomposition of W0', 1.5e-3),
  eva: loraFrom(evaOrKaiming, 'EVA', 'LoRA; A the largest directions of the inputs'),
  loraPlus: {
    title: 'LoRA+',
    help: 'LoRA; B at 16 times the rate of A',
    rank: 4,
    alpha: 2,
    defaultRate: 1e-3,
    build: ({rank, alpha, rate, inner}) => ({
      parametrization: lora({rank, alpha}),
      inner: () => inner(),
      options: {learningRate: loraPlus(rate, {ratio: 16})},
    }),
  },
  riemannian: loraBentBy(riemannian(), 'LoRA, Riemannian', 'LoRA; gradients in the metric of A B', 5e-3),
  loraPro: loraBentBy(loraPro(), 'LoRA-Pro', 'LoRA; A B follows the gradient as near as it can', 5e-3),
  relora: {
    title: 'ReLoRA',
    help: 'LoRA, merged and begun anew 3 times',
    rank: 4,
    alpha: 2,
    defaultRate: 5e-3,
    build: ({rank, alpha, steps, lr}) => {
      const n = renewed(3, steps);
      const ramps = {warmup: Math.min(10, steps - 1), rewarm: Math.min(5, n)};
      return {
        parametrization: lora({rank, alpha}),
        options: {
          refresh: every(n),
          moments: 'reset',
          learningRate: restarts(lr, {steps, every: n, ...ramps, floor: lr / 10}),
        },
      };
    },
  },
  loraFA: {
    title: 'LoRA-FA',
    help: 'LoRA; A stays as it was drawn',
    rank: 8,
    alpha: 1,
    defaultRate: 2e-2,
    build: ({rank, alpha}) => ({parametrization: loraFA({rank, alpha})}),
  },
  mica: {
    title: 'MiCA',
    help: 'W0 + A B; B the smallest directions of W0, fixed',
    rank: 8,
    alpha: 2,
    defaultRate: 1e-2,
    build: ({rank, alpha}) => ({parametrization: mica({rank, alpha})}),
  },
  loraXS: {
    title: 'LoRA-XS',
    help: 'W0 + A R B; A, B large directions of W0, fixed',
    rank: 32,
    alpha: 1,
    defaultRate: 2e-2,
    build: ({rank, alpha}) => ({parametrization: loraXS({rank, alpha})}),
  },
  loraSB: {
    title: 'LoRA-SB',
    help: 'W0 + U R V; U, V from the first gradient, fixed',
    rank: 32,
    alpha: 1,
    defaultRate: 1.5e-2,
    build: ({rank, alpha}) => ({parametrization: loraSB({rank, alpha})}),
  },
  vera: {
    title: 'VeRA',
    help: 'W0 + A diag(d) B diag(b); A, B random and fixed',
    rank: 64,
    alpha: null,
    defaultRate: 0.1,
    build: ({rank}) => ({parametrization: vera({rank})}),
  },
  dora: {
    title: 'DoRA',
    help: 'LoRA, and apart from it the length of columns',
    rank: 4,
    alpha: 2,
    defaultRate: 5e-3,
    build: ({rank, alpha}) => ({parametrization: dora({rank, alpha})}),
  },
  osf: {
    title: 'OSF',
    help: 'LoRA that leaves the 16 largest directions of W0',
    rank: 4,
    alpha: 2,
    defaultRate: 5e-3,
    build: ({rank, alpha}) => ({parametrization: osf({rank, alpha, protect: 16})}),
  },
  hadamard: {
    title: 'LoHa',
    help: 'W0 + (A1 B1) o (A2 B2), number by number',
    rank: 2,
    alpha: 2,
    defaultRate: 2e-2,
    build: ({rank, alpha}) => ({parametrization: hadamard({rank, alpha})}),
  },
  kronecker: {
    title: 'LoKr',
    help: 'W0 + kron(C, D1 D2)',
    rank: 4,
    alpha: 2,
    defaultRate: 3e-2,
    build: ({rank, alpha}) => ({parametrization: kronecker({rank, alpha})}),
  },
  additive: {
    title: 'additive',
    help: 'W0 + tiles of blocks repeated across, and down',
    rank: 4,
    alpha: null,
    defaultRate: 3e-3,
    build: ({rank}) => ({parametrization: additive({rank})}),
  },
  galore: {
    title: 'GaLore',
    help: "Adam in the gradient's first directions, renewed",
    rank: 8,
    alpha: null,
    defaultRate: 1e-2,
    build: ({rank, steps}) => ({
      parametrization: galore({rank}),
      options: {refresh: every(renewed(5, steps))},
    }),
  },
  flora: {
    title: 'Flora',
    help: 'as galore, in random directions',
    rank: 8,
    alpha: null,
    defaultRate: 1e-2,
    build: ({rank, steps}) => ({
      parametrization: flora({rank}),
      options: {refresh: every(renewed(3, steps))},
    }),
  },
  randomProjection: {
    title: 'random projection',
    help: 'SGD in random directions, others at every step',
    rank: 4,
    alpha: null,
    inner: 'sgd',
    defaultRate: 0.1,
    build: ({rank}) => ({parametrization: randomProjection({rank})}),
  },
  full: {
    title: 'full',
    help: 'all numbers of the matrices, nothing saved',
    rank: null,
    alpha: null,
    defaultRate: 1e-3,
    build: () => ({parametrization: full()}),
  },
};

/** What `--compare` runs when it is given no list. */
export const comparedByDefault = ['lora', 'loraGA', 'dora', 'loraFA', 'galore', 'full'];
