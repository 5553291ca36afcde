import type {Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D, Variable} from '@tensorflow/tfjs-core';
import {
  dispose,
  engine,
  getGradient,
  keep,
  matMul,
  reshape,
  scalar,
  tidy,
  transpose,
  variableGrads,
} from '@tensorflow/tfjs-core';
import {matrixShape} from '../targets.js';
import {type ConvAttributes, conv2dGradient, conv2dInputGradient} from './conv2d.js';
import {factoredGradient, type Term} from './factored.js';
import {gatherGradient} from './gather.js';
import {denseGradient, type Gradient, sumOfGradients} from './gradient.js';
import {columnSums, timesTransposed} from './layout.js';

type Attributes = Record<string, unknown>;
type Inputs = Record<string, Tensor>;
type GradientFunction = (dy: Tensor, saved: Tensor[], attrs: Attributes) => Record<string, () => Tensor>;

/** What the engine of tfjs-core offers to those who look in. */
interface TapeEngine {
  addTapeNode(
    kernelName: string,
    inputs: Inputs,
    outputs: Tensor[],
    gradient: GradientFunction | null,
    saved: Tensor[],
    attrs?: Attributes,
  ): void;
  runKernel(kernelName: string, inputs: Inputs, attrs?: Attributes): unknown;
  gradients(
    f: () => Tensor,
    xs: Tensor[],
    dy: null,
    allowNoGradients: boolean,
  ): {value: Tensor; grads: (Tensor | null)[]};
  state: {activeTape: unknown; gradientDepth: number};
}

/** How the gradient of a weight came, in words. */
export type CapturedHow = {path: 'factored' | 'dense' | 'mixed'; why: string};

/** Called once for each weight that has a gradient, while the backward pass runs or right after it. */
export type OnGradient = (weight: Variable, gradient: Gradient, how: CapturedHow) => void;

/** Whether this tfjs can be listened to; without it gradients come dense. */
export function canTap(): boolean {
  const e = engine() as unknown as Partial<TapeEngine>;
  return [e.addTapeNode, e.runKernel, e.gradients].every(member => typeof member === 'function') && !!e.state;
}

/**
 * Runs a loss once and hands over the gradient of each weight, as an operator where the op that consumed the weight
 * allows it. dL/dW is not formed there: the tape node of that op is recorded with a scalar token in the place of the
 * weight, so that the tape's own pruning skips the product, and the token's gradient function is where delta arrives.
 *
 * @returns the loss. The gradients handed over are valid during the call of `onGradient` alone.
 */
export function tapGradients(f: () => Scalar, weights: readonly Variable[], onGradient: OnGradient): Scalar {
  const tape = new Tape(weights, onGradient);
  try {
    return tape.run(f);
  } finally {
    tape.dispose();
  }
}

/** The same through tfjs's own `variableGrads`: every gradient is formed, then handed over one by one and released. */
export function denseGradients(
  f: () => Scalar,
  weights: readonly Variable[],
  onGradient: OnGradient,
): Scalar {
  const {value, grads} = variableGrads(f, [...weights]);
  try {
    for (const weight of weights) {
      const gradient = grads[weight.name];
      if (!gradient) continue;
      onGradient(weight, denseGradient(gradient, matrixShape(weight.shape)), DENSE);
      gradient.dispose();
    }
    return value;
  } catch (error) {
    value.dispose();
    throw error;
  } finally {
    dispose(grads);
  }
}

const DENSE: CapturedHow = {path: 'dense', why: 'asked for'};

/** A tensor that is a weight in another form: the same matrix, or its transpose. */
interface View {
  readonly use: Use;
  readonly transposed: boolean;
}

/** What the tape knows of one weight. */
interface Use {
  readonly weight: Variable;
  readonly shape: [m: number, n: number];
  /** Nodes that will hand over a part of its gradient. */
  taps: number;
  /** Why a part of it is formed by tfjs; null when none is. */
  dense: string | null;
  /** Parts that have come and wait for the others; their tensors are kept. */
  parts: Part[];
  done: boolean;
}

/** A part of a gradient, as an operator on tensors that may have to be kept. */
interface Part {
  readonly tensors: readonly Tensor[];
  /** A term `x^T delta` where it is one, so that several can be multiplied at once. */
  readonly term?: (tensors: readonly Tensor[]) => Term;
  readonly gradient: (tensors: readonly Tensor[]) => Gradient;
}

class Tape {
  private readonly engine = engine() as unknown as TapeEngine;
  private readonly uses: Use[];
  private readonly views = new Map<number, View>();
  private readonly token = keep(scalar(0));
  /** Attributes of fused kernels by the tensors they were run on: their tape nodes do not carry them. */
  private readonly fused: {name: string; inputs: Inputs; attrs: Attributes}[] = [];

  constructor(
    weights: readonly Variable[],
    private readonly onGradient: OnGradient,
  ) {
    this.uses = weights.map(weight => ({
      weight,
      shape: matrixShape(weight.shape),
      taps: 0,
      dense: null,
      parts: [],
      done: false,
    }));
    for (const use of this.uses) this.views.set(use.weight.id, {use, transposed: false});
  }

  run(f: () => Scalar): Scalar {
    const {value, grads} = this.engine.gradients(
      () => this.listening(f),
      [...this.uses.map(({weight}) => weight), this.token],
      null,
      true,
    );
    try {
      if (!grads.some(gradient => gradient)) {
        throw new Error('no weight that is trained is connected to the loss');
      }
      if (value.rank !== 0) throw new Error(`the loss must be a scalar, and has the shape [${value.shape}]`);
      this.uses.forEach((use, i) => {
        const gradient = grads[i];
        if (gradient) {
          use.parts.push({tensors: [gradient.clone()], gradient: ([g]) => denseGradient(g!, use.shape)});
          use.dense ??= 'through an op that was not seen';
        }
        if (use.parts.length > 0 && !use.done) this.handOver(use);
      });
      return value as Scalar;
    } catch (error) {
      value.dispose();
      throw error;
    } finally {
      for (const gradient of grads) if (gradient && !gradient.isDisposed) gradient.dispose();
    }
  }

  dispose(): void {
    this.token.dispose();
    for (const use of this.uses) this.release(use);
  }

  /** Runs the forward pass with the engine's tape in view. */
  private listening(f: () => Scalar): Scalar {
    const target = this.engine;
    const own = {
      addTapeNode: Object.getOwnPropertyDescriptor(target, 'addTapeNode'),
      runKernel: Object.getOwnPropertyDescriptor(target, 'runKernel'),
    };
    const {addTapeNode, runKernel} = target;
    target.runKernel = (name, inputs, attrs) => {
      if (name === '_FusedMatMul' || name === 'FusedConv2D')
        this.fused.push({name, inputs, attrs: attrs ?? {}});
      return runKernel.call(target, name, inputs, attrs);
    };
    target.addTapeNode = (name, inputs, outputs, gradient, saved, attrs) => {
      const tapped = this.tap(name, inputs, outputs, saved, attrs ?? {});
      if (tapped) addTapeNode.call(target, TAPPED, tapped.inputs, outputs, tapped.gradient, saved, attrs);
      else addTapeNode.call(target, name, inputs, outputs, gradient, saved, attrs);
    };
    try {
      return f();
    } finally {
      for (const [name, descriptor] of Object.entries(own)) {
        if (descriptor) Object.defineProperty(target, name, descriptor);
        else delete (target as unknown as Record<string, unknown>)[name];
      }
    }
  }

  /** The node to record instead, when it consumes a weight in a way that has a factored gradient. */
  private tap(
    name: string,
    inputs: Inputs,
    outputs: Tensor[],
    saved: Tensor[],
    attrs: Attributes,
  ): {inputs: Inputs; gradient: GradientFunction} | null {
    const keys = Object.keys(inputs).filter(key => inputs[key] && this.views.has(inputs[key].id));
    if (keys.length === 0) return null;
    let tapped: {inputs: Inputs; gradient: GradientFunction} | null = null;
    for (const key of keys) {
      const view = this.views.get(inputs[key]!.id)!;
      // Inside a gradient that the loss takes itself the node must stay what it is.
      if (this.engine.state.gradientDepth === 1 && !tapped) {
        // What the tape clones to save leads nowhere; its node is called like the op around it, or not at all.
        if (isSavedClone(name, inputs, outputs, saved)) continue;
        if (this.passOn(name, view, inputs[key]!, outputs[0]!, attrs)) continue;
        const gradient = this.consumer(name, key, view, inputs, saved, attrs);
        if (gradient) {
          view.use.taps++;
          const {[key]: _, ...others} = inputs;
          tapped = {inputs: {...others, [TAPPED]: this.token}, gradient};
          continue;
        }
      }
      view.use.dense = `${opName(name)} has no factored form`;
    }
    return tapped;
  }

  /** Whether the node only shows the weight in another form, which is remembered. */
  private passOn(
    name: string,
    {use, transposed}: View,
    from: Tensor,
    to: Tensor,
    attrs: Attributes,
  ): boolean {
    const rows = transposed ? use.shape[1] : use.shape[0];
    const columns = transposed ? use.shape[0] : use.shape[1];
    if (name === 'Identity' || name === 'Reshape') {
      if (to.size !== rows * columns || (to.shape.at(-1) ?? 1) !== columns) return false;
      this.views.set(to.id, {use, transposed});
      return true;
    }
    if (name !== 'Transpose') return false;
    const perm = attrs['perm'] as number[];
    if (perm.every((axis, i) => axis === i)) {
      this.views.set(to.id, {use, transposed});
      return true;
    }
    if (from.rank !== 2) return false;
    this.views.set(to.id, {use, transposed: !transposed});
    return true;
  }

  /** The gradient function of a node that consumes a weight, for ops with a factored gradient. */
  private consumer(
    name: string,
    key: string,
    view: View,
    inputs: Inputs,
    saved: Tensor[],
    attrs: Attributes,
  ): GradientFunction | null {
    if (name === 'BatchMatMul')
      return this.matMul(view, key as 'a' | 'b', inputs['a']!, inputs['b']!, saved, attrs);
    if (name === 'GatherV2' && key === 'x') return this.gather(view, inputs, saved, attrs);
    if (name === 'Conv2D' && key === 'filter') {
      return this.conv2d(view, inputs['x']!, inputs['filter']!, saved, attrs, 'x', null);
    }
    const run = this.fused.findLast(({inputs: ran}) => isRunOn(ran, inputs));
    if (!run || attrsActivation(run.attrs) !== 'linear') return null;
    const bias = inputs['2'] ?? null;
    if (run.name === '_FusedMatMul' && (key === '0' || key === '1')) {
      return this.matMul(
        view,
        key === '0' ? 'a' : 'b',
        inputs['0']!,
        inputs['1']!,
        saved,
        run.attrs,
        ['0', '1'],
        bias,
      );
    }
    if (run.name === 'FusedConv2D' && key === '1') {
      return this.conv2d(view, inputs['0']!, inputs['1']!, saved, run.attrs, '0', bias);
    }
    return null;
  }

  private matMul(
    view: View,
    side: 'a' | 'b',
    a: Tensor,
    b: Tensor,
    saved: Tensor[],
    {transposeA, transposeB}: Attributes,
    [keyA, keyB]: [string, string] = ['a', 'b'],
    bias: Tensor | null = null,
  ): GradientFunction | null {
    // With the weight on the left y = W b is y^T = b^T W^T: the same rule with both sides turned.
    const other = side === 'b' ? a : b;
    const turned = side === 'a';
    const weightTurned = Boolean(side === 'b' ? transposeB : transposeA) !== turned;
    const otherTurned = Boolean(side === 'b' ? transposeA : transposeB) !== turned;
    const [keptA, keptB] = saved;
    if (!keptA || !keptB || !sameShape(keptA, a) || !sameShape(keptB, b)) return null;
    const [keptWeight, kept] = side === 'b' ? [keptB, keptA] : [keptA, keptB];
    if ((turned || otherTurned) && other.size !== matrixSize(other)) {
      return null;
    }
    const asRows = (tensor: Tensor, isTurned: boolean) => {
      const columns = tensor.shape.at(-1)!;
      const rows = reshape(tensor, [-1, columns]) as Tensor2D;
      return isTurned ? (transpose(rows) as Tensor2D) : rows;
    };
    const flipped = weightTurned !== view.transposed;
    return dy => {
      const delta = asRows(dy, turned);
      return {
        [side === 'b' ? keyA : keyB]: () => {
          // dx = delta op(W)^T
          const matrix = reshape(keptWeight, keptWeight.shape.slice(-2) as [number, number]) as Tensor2D;
          const dx = weightTurned ? matMul(delta, matrix) : timesTransposed(delta, matrix);
          return reshape(otherTurned ? transpose(dx) : dx, other.shape);
        },
        ...(bias && {'2': () => reshape(columnSums(asRows(dy, false)), bias.shape)}),
        [TAPPED]: () => {
          const term = ([x, d]: readonly Tensor[]): Term =>
            flipped ? {x: d as Tensor2D, delta: x as Tensor2D} : {x: x as Tensor2D, delta: d as Tensor2D};
          return this.deliver(view.use, {
            tensors: [asRows(kept, otherTurned), delta],
            term,
            gradient: tensors => factoredGradient([term(tensors)], view.use.shape),
          });
        },
      };
    };
  }

  private gather(
    view: View,
    {x, indices}: Inputs,
    saved: Tensor[],
    attrs: Attributes,
  ): GradientFunction | null {
    const kept = saved[1];
    if (
      view.transposed ||
      attrs['axis'] !== 0 ||
      attrs['batchDims'] ||
      x!.rank !== 2 ||
      !kept ||
      !sameShape(kept, indices!)
    )
      return null;
    return dy => ({
      indices: () => kept,
      [TAPPED]: () =>
        this.deliver(view.use, {
          tensors: [reshape(kept, [-1]), reshape(dy, [-1, view.use.shape[1]])],
          gradient: ([rows, delta]) => gatherGradient(rows as Tensor1D, delta as Tensor2D, view.use.shape),
        }),
    });
  }

  private conv2d(
    view: View,
    x: Tensor,
    filter: Tensor,
    saved: Tensor[],
    attrs: Attributes,
    keyOfX: string,
    bias: Tensor | null,
  ): GradientFunction | null {
    const attributes = attrs as unknown as ConvAttributes;
    // Conv2D saves [x, filter], the fused one [filter, x, y, bias].
    const [kept, keptFilter] = keyOfX === 'x' ? saved : [saved[1], saved[0]];
    if (view.transposed || attributes.dataFormat === 'NCHW' || !kept || !keptFilter) return null;
    if (!sameShape(kept, x) || !sameShape(keptFilter, filter)) return null;
    const shape = filter.shape as [number, number, number, number];
    return dy => ({
      [keyOfX]: () =>
        conv2dInputGradient(x.shape as never, dy as Tensor4D, keptFilter as Tensor4D, attributes),
      ...(bias && {'2': () => reshape(columnSums(reshape(dy, [-1, shape[3]]) as Tensor2D), bias.shape)}),
      [TAPPED]: () =>
        this.deliver(view.use, {
          tensors: [kept, dy],
          gradient: ([input, delta]) =>
            conv2dGradient(input as Tensor4D, delta as Tensor4D, shape, attributes),
        }),
    });
  }

  /** Hands a gradient over as soon as all its parts are there; keeps this part until then. */
  private deliver(use: Use, part: Part): Scalar {
    if (use.taps === 1 && use.dense === null) {
      use.parts.push(part);
      this.handOver(use);
      use.parts.length = 0;
    } else {
      use.parts.push({...part, tensors: part.tensors.map(tensor => keep(tensor.clone()))});
      if (use.parts.length === use.taps && use.dense === null) {
        this.handOver(use);
        this.release(use);
      }
    }
    return scalar(0);
  }

  private handOver(use: Use): void {
    use.done = true;
    const {state} = this.engine;
    // A gradient taken inside (an automatic pullback) would end the tape that is being walked.
    const {activeTape} = state;
    try {
      tidy(() => {
        const {parts, dense, weight, shape} = use;
        const terms = parts.flatMap(({term, tensors}) => (term ? [term(tensors)] : []));
        const others = parts.filter(({term}) => !term).map(({gradient, tensors}) => gradient(tensors));
        const factored = terms.length > 0 ? [factoredGradient(terms, shape)] : [];
        const path = dense === null ? 'factored' : use.taps > 0 ? 'mixed' : 'dense';
        this.onGradient(weight, sumOfGradients([...factored, ...others]), {path, why: dense ?? ''});
      });
    } finally {
      state.activeTape = activeTape;
    }
  }

  private release(use: Use): void {
    for (const {tensors} of use.parts) for (const tensor of tensors) if (!tensor.isDisposed) tensor.dispose();
    use.parts.length = 0;
  }
}

/** Kernel name of the nodes we record; no gradient is registered under it, so tfjs takes ours. */
const TAPPED = 'tfjs-lora/tap';

/** Whether a node is the engine's own clone of a tensor that a gradient function will want. */
function isSavedClone(name: string, inputs: Inputs, outputs: Tensor[], saved: Tensor[]): boolean {
  const keys = Object.keys(inputs);
  if (keys.length !== 1 || keys[0] !== 'x' || saved.length > 0 || getGradient(name)) return false;
  return String(outputs[0]!.shape) === String(inputs['x']!.shape);
}

/** A kernel's name, or that of the op around a fused kernel, as people know it. */
const opName = (name: string) => name.replace(/_*(op)?$/, '') || 'an op';

const sameShape = (a: Tensor, b: Tensor) => String(a.shape) === String(b.shape);

const matrixSize = ({shape}: Tensor) => shape.slice(-2).reduce((product, axis) => product * axis, 1);

const attrsActivation = (attrs: Attributes) => attrs['activation'] ?? 'linear';

/** Whether a fused kernel ran on the tensors of this node. */
function isRunOn({a, b, x, filter}: Inputs, {0: left, 1: right}: Inputs): boolean {
  return (a ?? x)?.id === left?.id && (b ?? filter)?.id === right?.id;
}
