import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, getGradient, keep, scalar, tidy, variableGrads} from '@tensorflow/tfjs-core';
import {matrixShape} from '../targets.js';
import {type Block, blockOfSlice, blockWithin, isWhole, wholeBlock} from './block.js';
import {conv2dConsumer} from './conv2d.js';
import {depthwiseGradients, SMALL} from './depthwise.js';
import {gatherConsumer} from './gather.js';
import {denseGradient, type Gradient} from './gradient.js';
import {matMulConsumer} from './matmul.js';
import type {Attributes, Consumer, ConsumingNode, Inputs} from './node.js';
import {gradientOfParts, type PlacedPart} from './parts.js';

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

/** A tensor that is a weight in another form: a block of its matrix (mostly all of it), or that block's transpose. */
interface View {
  readonly use: Use;
  readonly transposed: boolean;
  readonly block: Block;
}

/** A node to record in the place of tfjs's own. */
interface Substitute {
  readonly inputs: Inputs;
  readonly gradient: GradientFunction;
}

/** A fused kernel that ran. */
interface Fused {
  readonly name: string;
  readonly inputs: Inputs;
  readonly attrs: Attributes;
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
  parts: PlacedPart[];
  done: boolean;
}

class Tape {
  private readonly engine = engine() as unknown as TapeEngine;
  private readonly uses: Use[];
  private readonly views = new Map<number, View>();
  private readonly token = keep(scalar(0));
  /** Attributes of fused kernels by the tensors they were run on: their tape nodes do not carry them. */
  private readonly fused: Fused[] = [];

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
    for (const use of this.uses) {
      this.views.set(use.weight.id, {use, transposed: false, block: wholeBlock(use.shape)});
    }
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
          const {shape} = use;
          use.parts.push({
            tensors: [gradient.clone()],
            gradient: ([g]) => denseGradient(g!, shape),
            block: wholeBlock(shape),
          });
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
      if (FUSED.has(name)) this.fused.push({name, inputs, attrs: attrs ?? {}});
      return runKernel.call(target, name, inputs, attrs);
    };
    target.addTapeNode = (name, inputs, outputs, gradient, saved, attrs) => {
      const depthwise = this.depthwise(name, inputs, saved, attrs ?? {});
      const own =
        this.tap(name, inputs, outputs, saved, attrs ?? {}, depthwise?.why) ?? depthwise?.substitute ?? null;
      if (own) addTapeNode.call(target, TAPPED, own.inputs, outputs, own.gradient, saved, attrs);
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
    whyDense = `${opName(name)} has no factored form`,
  ): Substitute | null {
    const keys = Object.keys(inputs).filter(key => inputs[key] && this.views.has(inputs[key].id));
    if (keys.length === 0) return null;
    let tapped: Substitute | null = null;
    for (const key of keys) {
      const view = this.views.get(inputs[key]!.id)!;
      // Inside a gradient that the loss takes itself the node must stay what it is.
      if (this.engine.state.gradientDepth === 1 && !tapped) {
        // What the tape clones to save leads nowhere; its node is called like the op around it, or not at all.
        if (isSavedClone(name, inputs, outputs, saved)) continue;
        if (this.passOn(name, view, inputs[key]!, outputs, attrs)) continue;
        const {use, transposed, block} = view;
        const weight = isWhole(block, use.shape) ? use.weight : null;
        const shape = [block.rows, block.columns] as const;
        const consumer = this.consumer(name, {key, inputs, saved, attrs, weight, transposed, shape});
        if (consumer) {
          use.taps++;
          for (const tensor of consumer.unneeded) tensor.dispose();
          const {[key]: _, ...others} = inputs;
          const gradient = (dy: Tensor) => ({
            ...consumer.others(dy),
            [TAPPED]: () => this.deliver(use, {...consumer.part(dy), block}),
          });
          tapped = {inputs: {...others, [TAPPED]: this.token}, gradient};
          continue;
        }
      }
      view.use.dense = whyDense;
    }
    return tapped;
  }

  /** Whether the node only shows the weight, or blocks of it, in another form, which is remembered. */
  private passOn(
    name: string,
    {use, transposed, block}: View,
    from: Tensor,
    outputs: readonly Tensor[],
    attrs: Attributes,
  ): boolean {
    const to = outputs[0]!;
    if (name === 'Identity' || name === 'Reshape' || name === 'ExpandDims') {
      const columns = transposed ? block.rows : block.columns;
      if ((to.shape.at(-1) ?? 1) !== columns) return false;
      this.views.set(to.id, {use, transposed, block});
      return true;
    }
    if (name === 'Transpose') {
      const isPlain = (attrs['perm'] as number[]).every((axis, i) => axis === i);
      if (!isPlain && from.rank !== 2) return false;
      this.views.set(to.id, {use, transposed: isPlain ? transposed : !transposed, block});
      return true;
    }
    const blocks = blocksOf(name, from.shape, outputs, attrs);
    if (!blocks) return false;
    outputs.forEach((output, i) => {
      this.views.set(output.id, {use, transposed, block: blockWithin(block, blocks[i]!, transposed)});
    });
    return true;
  }

  /** What is known of a depthwise convolution; its gradients, where tfjs has none on this backend. */
  private depthwise(
    name: string,
    inputs: Inputs,
    saved: readonly Tensor[],
    attrs: Attributes,
  ): {why: string; substitute: Substitute | null} | null {
    const fused = this.fusedBehind(name, inputs);
    const isFused = fused?.name === 'FusedDepthwiseConv2D';
    if (name !== 'DepthwiseConv2dNative' && !isFused) return null;
    const gradient =
      this.engine.state.gradientDepth !== 1
        ? null
        : isFused
          ? depthwiseGradients(inputs, saved, fused.attrs, {x: '0', filter: '1', bias: '2'})
          : depthwiseGradients(inputs, saved, attrs, {x: 'x', filter: 'filter'});
    return gradient
      ? {why: `${SMALL}, from slices: tfjs has no gradient for it here`, substitute: {inputs, gradient}}
      : {why: SMALL, substitute: null};
  }

  /** The linear fused kernel behind the node of a fused op; null for other nodes. */
  private fusedBehind(name: string, inputs: Inputs): Fused | null {
    if (!FUSED_OP.test(name)) return null;
    const fused = this.fused.findLast(({inputs: ran}) => isRunOn(ran, inputs));
    return fused && (fused.attrs['activation'] ?? 'linear') === 'linear' ? fused : null;
  }

  /** What takes the place of the gradient function of an op that has a factored gradient. */
  private consumer(name: string, node: ConsumingNode): Consumer | null {
    const {key, inputs} = node;
    if (name === 'BatchMatMul') return matMulConsumer(node, key as 'a' | 'b', {a: 'a', b: 'b'});
    if (name === 'GatherV2' && key === 'x') return gatherConsumer(node);
    if (name === 'Conv2D' && key === 'filter') return conv2dConsumer(node, {x: 'x', filter: 'filter'});
    // tfjs fuses while it records only where nothing follows the product but a bias.
    const fused = this.fusedBehind(name, inputs);
    if (!fused) return null;
    const ran = {...node, attrs: fused.attrs};
    if (fused.name === '_FusedMatMul' && (key === '0' || key === '1')) {
      return matMulConsumer(ran, key === '0' ? 'a' : 'b', {a: '0', b: '1'}, '2');
    }
    if (fused.name === 'FusedConv2D' && key === '1') {
      return conv2dConsumer(ran, {x: '0', filter: '1', bias: '2'});
    }
    return null;
  }

  /** Hands a gradient over as soon as all its parts are there; keeps this part until then. */
  private deliver(use: Use, part: PlacedPart): Scalar {
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
        const path = dense === null ? 'factored' : use.taps > 0 ? 'mixed' : 'dense';
        this.onGradient(weight, gradientOfParts(parts, shape), {path, why: dense ?? ''});
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

const FUSED: ReadonlySet<string> = new Set(['_FusedMatMul', 'FusedConv2D', 'FusedDepthwiseConv2D']);
/** Their nodes are called like the op around them. */
const FUSED_OP = /^fused(MatMul|Conv2d|DepthwiseConv2d)_/;

/** The blocks that Slice, Split and Unstack cut from a tensor, one for each output; null where one is none. */
function blocksOf(
  name: string,
  shape: readonly number[],
  outputs: readonly Tensor[],
  attrs: Attributes,
): readonly Block[] | null {
  const starts = shape.map(() => 0);
  let cuts: {begin: readonly number[]; size: readonly number[]}[];
  if (name === 'Slice') {
    const begin = [attrs['begin'] as number | number[]].flat();
    cuts = [{begin: starts.map((_, axis) => begin[axis] ?? 0), size: outputs[0]!.shape}];
  } else if (name === 'SplitV' || name === 'Unpack') {
    const given = attrs['axis'] as number;
    const axis = given < 0 ? given + shape.length : given;
    // Unstacked along the last axis, a column would be a tensor with the rows as its last axis.
    if (name === 'Unpack' && axis === shape.length - 1) return null;
    let next = 0;
    cuts = outputs.map(output => {
      const length = name === 'SplitV' ? output.shape[axis]! : 1;
      const begin = starts.with(axis, next);
      next += length;
      return {begin, size: shape.with(axis, length)};
    });
  } else {
    return null;
  }
  const blocks = cuts.map(({begin, size}) => blockOfSlice(shape, begin, size));
  return blocks.every(block => block !== null) ? blocks : null;
}

/** Whether a node is the engine's own clone of a tensor that a gradient function will want. */
function isSavedClone(name: string, inputs: Inputs, outputs: Tensor[], saved: Tensor[]): boolean {
  const keys = Object.keys(inputs);
  if (keys.length !== 1 || keys[0] !== 'x' || saved.length > 0 || getGradient(name)) return false;
  return String(outputs[0]!.shape) === String(inputs['x']!.shape);
}

/** A kernel's name, or that of the op around a fused kernel, as people know it. */
const opName = (name: string) => name.replace(/_*(op)?$/, '') || 'an op';

/** Whether a fused kernel ran on the tensors of this node. */
function isRunOn({a, b, x, filter}: Inputs, {0: left, 1: right}: Inputs): boolean {
  return (a ?? x)?.id === left?.id && (b ?? filter)?.id === right?.id;
}
