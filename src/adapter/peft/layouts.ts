import type {HostTensor} from '../adapter.js';
import {type HostArray, permuted, product} from '../host.js';
import type {LayerKind} from '../layers.js';

/** How weights and factors lie in PEFT's files and here: two tables, each read in both directions. */

/** `[..., in, k]` here is `[k, in, ...]` there. */
const lastTwoFirst = (axes: number): number[] => [axes - 1, axes - 2, ...Array(axes - 2).keys()];
const inverse = (order: readonly number[]): number[] => order.map((_, axis) => order.indexOf(axis));

/** Of a tensor with these axes here; axis i there is axis `order[i]` here. */
const thither = (tensor: HostArray, order: readonly number[]) => permuted(tensor, order);
const hither = (tensor: HostArray, order: readonly number[]) => permuted(tensor, inverse(order));

/** What the factors of one weight measure: `[…window, ins, outs]` is the weight, a dense one has no window. */
export interface Sizes {
  readonly window: readonly number[];
  readonly ins: number;
  readonly outs: number;
  readonly rank: number;
}

interface FactorLayout {
  readonly factor: 'a' | 'b' | 'magnitude';
  /** What it is called after its module: of an embedding, and of all else. */
  readonly names: {readonly embedding: string; readonly weight: string};
  /** Its axes here, before the first ones are taken as one. */
  here(sizes: Sizes): number[];
  /** Which of these axes come first there. */
  order(axes: number): number[];
  /** Its shape there, where axes of 1 may have been added. */
  there(sizes: Sizes): number[];
}

const ones = ({window}: Sizes) => window.map(() => 1);

/** `s A B` here is `s B^T A^T` there. */
const FACTORS: readonly FactorLayout[] = [
  {
    factor: 'a',
    names: {embedding: 'lora_embedding_A', weight: 'lora_A.weight'},
    here: ({window, ins, rank}) => [...window, ins, rank],
    order: lastTwoFirst,
    there: ({window, ins, rank}) => [rank, ins, ...window],
  },
  {
    factor: 'b',
    names: {embedding: 'lora_embedding_B', weight: 'lora_B.weight'},
    here: ({rank, outs}) => [rank, outs],
    order: lastTwoFirst,
    there: sizes => [sizes.outs, sizes.rank, ...ones(sizes)],
  },
  {
    factor: 'magnitude',
    names: {embedding: 'lora_magnitude_vector', weight: 'lora_magnitude_vector'},
    here: ({outs}) => [outs],
    order: () => [0],
    there: sizes => (sizes.window.length > 0 ? [1, sizes.outs, ...ones(sizes)] : [sizes.outs]),
  },
];

/** Every name a factor may have there. */
export const FACTOR_NAMES = [
  ...new Set(FACTORS.flatMap(({names}) => Object.values(names))),
  // Of newer versions, where it is a module of its own.
  'lora_magnitude_vector.weight',
];

/** A factor's name as a part of its module: without `.weight`. */
export const factorPart = (name: string): string => name.replace(/\.weight$/, '');

/** What A, B and the magnitude are called, as parts. */
export const factorParts = (isEmbedding: boolean): readonly [a: string, b: string, magnitude: string] =>
  FACTORS.map(({names}) => factorPart(isEmbedding ? names.embedding : names.weight)) as [
    string,
    string,
    string,
  ];

type Factors<T extends HostArray> = {readonly a: T; readonly b: T; readonly magnitude?: T | undefined};

/** The factors of a weight as tensors of the file, by their names there. */
export function factorsThere(
  isEmbedding: boolean,
  sizes: Sizes,
  factors: Factors<HostArray>,
): Record<string, HostArray> {
  const entries = FACTORS.flatMap(({factor, names, here, order, there}) => {
    const tensor = factors[factor];
    if (!tensor) return [];
    const shape = here(sizes);
    const {values} = thither({shape, values: tensor.values}, order(shape.length));
    return [[isEmbedding ? names.embedding : names.weight, {shape: there(sizes), values}] as const];
  });
  return Object.fromEntries(entries);
}

/** The factors of a weight from tensors of the file. */
export function factorsHere(sizes: Sizes, tensors: Factors<HostTensor>): Record<string, HostTensor> {
  const entries = FACTORS.flatMap(({factor, here, order}) => {
    const tensor = tensors[factor];
    if (!tensor) return [];
    const shape = here(sizes);
    const axes = order(shape.length);
    const {values} = hither({shape: axes.map(axis => shape[axis]!), values: tensor.values}, axes);
    const matrix = shape.length > 1 ? [product(shape.slice(0, -1)), shape.at(-1)!] : shape;
    return [[factor, {shape: matrix, values}] as const];
  });
  return Object.fromEntries(entries);
}

/** A weight trained whole. */
interface WholeLayout {
  there(tensor: HostTensor): HostTensor;
  /** @param wanted The model's shape, where it is known. Null where no such weight lies so there. */
  here(tensor: HostTensor, wanted: readonly number[] | null): HostTensor | null;
}

/** `[n]`, `[vocab, dim]`: the same on both sides. */
const AS_IT_IS: WholeLayout = {there: tensor => tensor, here: tensor => tensor};

/** `[in, out]` and `[…window, in, out]` here, `[out, in, …window]` there. */
const TURNED: WholeLayout = {
  there: tensor => thither(tensor, lastTwoFirst(tensor.shape.length)),
  here: tensor => hither(tensor, lastTwoFirst(tensor.shape.length)),
};

/** `[kh, kw, in, times]` here, `[in times, 1, kh, kw]` there. */
const DEPTHWISE: WholeLayout = {
  there(tensor) {
    const [kh, kw, ins, times] = tensor.shape as [number, number, number, number];
    return {shape: [ins * times, 1, kh, kw], values: thither(tensor, [2, 3, 0, 1]).values};
  },
  here({shape, values}, wanted) {
    const [outs, one, kh, kw] = shape as [number, number, number, number];
    const [ins, times] = wanted ? [wanted[2]!, wanted[3]!] : [outs, 1];
    if (shape.length !== 4 || one !== 1 || ins * times !== outs) return null;
    return hither({shape: [ins, times, kh, kw], values}, [2, 3, 0, 1]);
  },
};

const WHOLE: Readonly<Record<LayerKind, WholeLayout>> = {
  vector: AS_IT_IS,
  embedding: AS_IT_IS,
  dense: TURNED,
  conv: TURNED,
  'transposed convolution': TURNED,
  recurrent: TURNED,
  depthwise: DEPTHWISE,
};

/** @param isConv1D Whether it is GPT-2's, which holds its matrix as `[in, out]`. */
export const wholeLayout = (kind: LayerKind, isConv1D: boolean): WholeLayout =>
  isConv1D && kind === 'dense' ? AS_IT_IS : WHOLE[kind];
