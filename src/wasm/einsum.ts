/**
 * `tf.einsum` as one matrix product, and its gradient. Labels of an equation such as 'bqd,bkd->bqk' are
 * - batch (b): in both operands and the result,
 * - inner (d): in both operands and not in the result,
 * - left (q), right (k): in one operand and the result,
 * - lone: in one operand only; these are summed first.
 */
import {
  Einsum,
  type EinsumAttrs,
  type GradConfig,
  type NamedAttrMap,
  type Tensor,
  broadcastTo,
  clone,
  matMul,
  mul,
  reshape,
  sum,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import {kernel, requireFloat32} from './backend.js';
import {installer} from './register.js';

/** The labels of each operand and of the result, in the order of their axes. */
interface Equation {
  operands: string[][];
  result: string[];
}

/** @throws Error, quoting the equation, if it is none for `operands` of these shapes */
function parse(equation: string, operands: readonly Tensor[]): Equation {
  const fail = (why: string) => new Error(`einsum '${equation}': ${why}`);
  const sides = equation.replace(/\s/g, '').split('->');
  if (sides.length !== 2) throw fail('there must be exactly one arrow');
  const terms = sides[0]!.split(',').map(term => [...term]);
  const result = [...sides[1]!];
  if (![...terms, result].flat().every(label => /[a-z]/i.test(label))) throw fail('labels are letters');
  if (terms.length !== operands.length || terms.length > 2) {
    throw fail(`${operands.length} operands given; one or two can be taken, as many as it has terms`);
  }
  for (const term of [...terms, result]) {
    if (new Set(term).size !== term.length) throw fail(`a label occurs twice in ${term.join('')}`);
  }
  const extents = new Map<string, number>();
  terms.forEach((term, i) => {
    const {shape} = operands[i]!;
    if (term.length !== shape.length) throw fail(`${term.join('')} does not fit shape [${shape}]`);
    term.forEach((label, axis) => {
      const extent = extents.get(label) ?? shape[axis]!;
      if (extent !== shape[axis]) throw fail(`${label} is both ${extent} and ${shape[axis]}`);
      extents.set(label, extent);
    });
  });
  const unknown = result.find(label => !extents.has(label));
  if (unknown !== undefined) throw fail(`${unknown} of the result is in no operand`);
  return {operands: terms, result};
}

/** A tensor whose axes have labels. */
interface Labelled {
  tensor: Tensor;
  labels: string[];
}

/** Sums over every axis whose label is not among `kept`. */
function sumLone({tensor, labels}: Labelled, kept: readonly string[]): Labelled {
  const axes = labels.flatMap((label, axis) => (kept.includes(label) ? [] : [axis]));
  if (axes.length === 0) return {tensor, labels};
  return {tensor: sum(tensor, axes), labels: labels.filter(label => kept.includes(label))};
}

/** Axes in the order of `labels`, which holds the same labels. */
function ordered(from: Labelled, labels: readonly string[]): Tensor {
  if (String(from.labels) === String(labels)) return from.tensor;
  return transpose(
    from.tensor,
    labels.map(label => from.labels.indexOf(label)),
  );
}

/** The product of two operands, summed over the labels they share that are not in the result. */
function contract(a: Labelled, b: Labelled, result: readonly string[]): Labelled {
  const inA = new Set(a.labels);
  const inB = new Set(b.labels);
  const batch = result.filter(label => inA.has(label) && inB.has(label));
  const left = result.filter(label => !inB.has(label));
  const right = result.filter(label => !inA.has(label));
  const inner = a.labels.filter(label => inB.has(label) && !result.includes(label));
  const extent = (label: string) =>
    inA.has(label) ? a.tensor.shape[a.labels.indexOf(label)]! : b.tensor.shape[b.labels.indexOf(label)]!;
  const size = (labels: string[]) => labels.reduce((product, label) => product * extent(label), 1);
  const [batches, rows, depth, columns] = [batch, left, inner, right].map(size) as [
    number,
    number,
    number,
    number,
  ];
  const lefts = reshape(ordered(a, [...batch, ...left, ...inner]), [batches, rows, depth]);
  const rights = reshape(ordered(b, [...batch, ...inner, ...right]), [batches, depth, columns]);
  const labels = [...batch, ...left, ...right];
  // Without an inner label every product has depth 1, which multiplication does at once for all batches.
  const product = inner.length === 0 ? mul(lefts, rights) : matMul(lefts, rights);
  const tensor = reshape(product, labels.map(extent));
  // A reshape shares its data, and the backend's fused matMul refuses a bias whose data was made as a matrix.
  return {tensor: labels.length === 1 ? mul(tensor, 1) : tensor, labels};
}

/** One or two operands as the equation `operands -> result` combines them; never an operand itself. */
function combine(operands: readonly Labelled[], result: readonly string[]): Tensor {
  const summed = operands.map((operand, i) => {
    const others = operands.filter((_, other) => other !== i).flatMap(({labels}) => labels);
    return sumLone(operand, [...result, ...others]);
  });
  const [a, b] = summed as [Labelled, Labelled?];
  const tensor = ordered(b === undefined ? a : contract(a, b, result), result);
  return operands.some(operand => operand.tensor === tensor) ? clone(tensor) : tensor;
}

function labelled({operands}: Equation, tensors: readonly Tensor[]): Labelled[] {
  return operands.map((labels, i) => ({tensor: tensors[i]!, labels}));
}

/**
 * The gradient of one operand: `dy` times the other operand, summed over what the operand does not have; its lone
 * labels were summed, so the same numbers go to all their places. Made of tfjs ops, so it has a gradient in turn.
 */
function operandGradient(dy: Tensor, equation: Equation, tensors: readonly Tensor[], which: number): Tensor {
  const own = equation.operands[which]!;
  const {shape} = tensors[which]!;
  const others = labelled(equation, tensors).filter((_, i) => i !== which);
  const factors = [{tensor: dy, labels: equation.result}, ...others];
  const known = own.filter(label => factors.some(({labels}) => labels.includes(label)));
  const part = combine(factors, known);
  if (known.length === own.length) return part;
  const withLone = own.map((label, axis) => (known.includes(label) ? shape[axis]! : 1));
  return broadcastTo(reshape(part, withLone), shape);
}

/** The gradient of Einsum, for one or two operands, on every backend that has the kernel. */
export const einsumGradient: GradConfig = {
  kernelName: Einsum,
  saveAllInputs: true,
  gradFunc: (dy, saved, attrs: NamedAttrMap) => {
    const equation = parse((attrs as unknown as EinsumAttrs).equation, saved);
    return Object.fromEntries(
      saved.map((_, i) => [i, () => operandGradient(dy as Tensor, equation, saved, i)]),
    );
  },
};

/** Installs Einsum, which the wasm backend lacks, and its gradient, which tfjs lacks; see {@link installer}. */
export const installEinsum = installer(
  {
    [Einsum]: () =>
      kernel<Tensor[], EinsumAttrs>(({inputs, attrs}) => {
        const tensors = Object.values(inputs);
        requireFloat32('einsum', ...tensors);
        const equation = parse(attrs.equation, tensors);
        return tidy(() => combine(labelled(equation, tensors), equation.result));
      }),
  },
  [einsumGradient],
);
