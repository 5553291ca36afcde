/** What `--method` and `--compare` can name. A new method is one entry of `methods`. */
import type {Optimizer} from '@tensorflow/tfjs';
import {
  eva,
  every,
  full,
  gaussian,
  type Initializer,
  type InnerSource,
  type LearningRate,
  lora,
  loraGA,
  loraOne,
  olora,
  orthogonal,
  type Parametrization,
  pissa,
  type ProjectedOptions,
  symmetric,
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
  /** A peak rate that suits it with Adam. */
  defaultRate: number;
  build(given: Given): Built;
}

/** LoRA from another start. */
const loraFrom = (init: Initializer, title: string, help: string, defaultRate = 5e-3): Method => ({
  ...{title, help, rank: 4, alpha: 2, defaultRate},
  build: ({rank, alpha}) => ({parametrization: lora({rank, alpha, init})}),
});

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
  loraGA: loraFrom(loraGA(), 'LoRA-GA', 'LoRA from the first directions of the gradient', 5e-4),
  loraOne: loraFrom(loraOne(), 'LoRA-One', 'LoRA from the gradient, its largest directions longer', 5e-4),
  pissa: loraFrom(pissa(), 'PiSSA', 'LoRA from the largest directions of W0', 1e-3),
  olora: loraFrom(olora(), 'OLoRA', 'LoRA from the QR decomposition of W0', 5e-4),
  eva: loraFrom(eva(), 'EVA', "LoRA; A the largest directions of the layer's inputs"),
  loraPlus: {
    title: 'LoRA+',
    help: 'LoRA; B at 16 times the rate of A',
    rank: 4,
    alpha: 2,
    defaultRate: 1e-3,
    build: ({rank, alpha, rate, inner}) => ({
      parametrization: lora({rank, alpha}),
      inner: () => inner(),
      options: {learningRate: (step, where) => (where.factor === 'b' ? 16 : 1) * rate(step, where)},
    }),
  },
  relora: {
    title: 'ReLoRA',
    help: 'LoRA, merged and begun anew twice',
    rank: 4,
    alpha: 2,
    defaultRate: 5e-3,
    build: ({rank, alpha, steps}) => ({
      parametrization: lora({rank, alpha}),
      options: {refresh: every(Math.ceil(steps / 3)), moments: 'reset'},
    }),
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
export const comparedByDefault = ['lora', 'loraPlus', 'loraSymmetric', 'loraOrthogonal', 'relora', 'full'];
