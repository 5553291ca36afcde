import type {Scalar, TensorContainer, Variable} from '@tensorflow/tfjs-core';
import {dispose, keep, reshape, scalar, Tensor, tidy, variableGrads} from '@tensorflow/tfjs-core';
import {matrixShape} from '../targets.js';
import {isWhole, wholeBlock} from './block.js';
import {
  askedGradients,
  consumerOf,
  FUSED,
  type Fused,
  fusedBehind,
  missingGradients,
  opName,
} from './consumers.js';
import {canTap, type TapeNode, tapeEngine, withMethods} from './engine.js';
import {denseGradient} from './gradient.js';
import type {Attributes, Consumer, Inputs} from './node.js';
import {densePart} from './parts.js';
import {type CapturedHow, type OnGradient, Use} from './use.js';
import {isClone, type View, viewsThrough} from './views.js';
import {gathered, leadingTo, releaseDeltas} from './walk.js';

export {canTap};

export type {CapturedHow, OnGradient};

/**
 * Runs a loss once and hands over the gradient of each weight, as an operator where the op that consumed the weight
 * allows it. dL/dW is not formed there: the tape node of that op gets a scalar token in the place of the weight, so
 * that the tape's own pruning skips the product, and the token's gradient function is where delta arrives. Where the op
 * has no factored form, tfjs forms the gradient there, and it is handed over and released in the same way.
 *
 * @returns the loss. The gradients handed over are valid during the call of `onGradient` alone.
 */
export function tapGradients(f: () => Scalar, weights: readonly Variable[], onGradient: OnGradient): Scalar {
  return pass(f, weights, onGradient, true);
}

/** The same with every gradient formed by tfjs, one by one; all at once where the tape cannot be listened to. */
export function denseGradients(
  f: () => Scalar,
  weights: readonly Variable[],
  onGradient: OnGradient,
): Scalar {
  if (canTap()) return pass(f, weights, onGradient, false);
  const {value, grads} = variableGrads(f, [...weights]);
  try {
    for (const weight of weights) {
      const gradient = grads[weight.name];
      if (!gradient) continue;
      onGradient(weight, denseGradient(gradient, matrixShape(weight.shape)), {path: 'dense', why: ASKED});
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

function pass(
  f: () => Scalar,
  weights: readonly Variable[],
  onGradient: OnGradient,
  factors: boolean,
): Scalar {
  const tape = new Tape(weights, onGradient, factors);
  try {
    return tape.run(f);
  } finally {
    tape.dispose();
  }
}

const ASKED = 'asked for';
/** Key of the token in the inputs of a node. */
const TOKEN = 'tfjs-lora/tap';

interface WeightView extends View {
  readonly use: Use;
  /** The data the weight had, to tell whether it still has it. */
  readonly data: object;
  readonly isCopy: boolean;
}

/** How one input of a node gives a part of a weight's gradient: by a consumer, or formed by tfjs. */
interface Tap {
  readonly key: string;
  readonly view: WeightView;
  readonly why: string;
}

/** A recorded node that uses weights; what it was is put back after the pass. */
interface Tapped {
  readonly node: TapeNode;
  readonly inputs: Inputs;
  readonly gradient: TapeNode['gradient'];
  readonly op: string;
  readonly consumer: {readonly of: Consumer; readonly key: string} | null;
  readonly taps: readonly Tap[];
}

class Tape {
  private readonly engine = tapeEngine();
  private readonly uses: Map<Tensor, Use>;
  private readonly views = new Map<number, WeightView>();
  private readonly tapped: Tapped[] = [];
  /** Attributes of fused kernels by the tensors they were run on: their tape nodes do not carry them. */
  private readonly fused: Fused[] = [];
  private readonly handles: Tensor[] = [];

  constructor(
    weights: readonly Variable[],
    onGradient: OnGradient,
    private readonly factors: boolean,
  ) {
    this.uses = new Map(weights.map(weight => [weight, new Use(weight, this.engine, onGradient)]));
  }

  run(f: () => Scalar): Scalar {
    const {state} = this.engine;
    const isOutermost = state.gradientDepth === 0;
    let loss: Scalar | undefined;
    try {
      const forward = () => {
        loss = this.listening(f);
        if (loss instanceof Tensor) this.plan(loss, isOutermost);
        return loss;
      };
      const {grads} = this.engine.gradients(
        forward,
        [...this.uses.values()].map(({token}) => token),
        null,
        true,
      );
      dispose(grads as unknown as TensorContainer);
      const missed = [...this.uses.values()].find(({isIncomplete}) => isIncomplete);
      if (missed) throw new Error(`a part of the gradient of ${missed.weight.name} did not come`);
      return loss!;
    } catch (error) {
      if (loss instanceof Tensor && !loss.isDisposed) loss.dispose();
      if (isOutermost) {
        for (const {saved} of state.activeTape ?? []) dispose([...saved]);
        state.activeTape = null;
      }
      throw error;
    } finally {
      for (const {node, inputs, gradient} of this.tapped) Object.assign(node, {inputs, gradient});
    }
  }

  dispose(): void {
    this.uses.forEach(use => use.dispose());
    dispose(this.handles);
  }

  /** Runs the forward pass with the engine's tape in view. */
  private listening(f: () => Scalar): Scalar {
    const target = this.engine;
    const {addTapeNode, runKernel} = target;
    const methods: Pick<typeof target, 'addTapeNode' | 'runKernel'> = {
      runKernel: (name, inputs, attrs) => {
        if (FUSED.has(name)) this.fused.push({name, inputs, attrs: attrs ?? {}});
        return runKernel.call(target, name, inputs, attrs);
      },
      addTapeNode: (name, inputs, outputs, gradient, saved, attrs) => {
        addTapeNode.call(target, name, inputs, outputs, gradient, saved, attrs);
        this.note(target.state.activeTape!.at(-1)!, saved, attrs ?? {});
      },
    };
    const watched = [...this.uses.values()].reduce(
      (run, use) => () => withMethods(use.weight, {assign: this.assigning(use)}, run),
      f,
    );
    return withMethods(target, {...methods}, watched);
  }

  /** `assign` of a weight: what the backward pass wants of its value until now is held first. */
  private assigning(use: Use): Variable['assign'] {
    const {weight} = use;
    const assign = weight.assign;
    return value => {
      if (use.slots.length > 0) {
        const old = keep(reshape(weight, weight.shape));
        this.handles.push(old);
        for (const {saved, at} of use.slots) saved[at] = old;
        use.slots = [];
      }
      assign.call(weight, value);
    };
  }

  private viewOf(tensor: Tensor): WeightView | null {
    const use = this.uses.get(tensor);
    if (!use) return this.views.get(tensor.id) ?? null;
    return {use, transposed: false, block: wholeBlock(use.shape), data: tensor.dataId, isCopy: false};
  }

  /** Takes note of what a node does with weights. The node itself stays as it is while the loss runs. */
  private note(node: TapeNode, saved: Tensor[], attrs: Attributes): void {
    const {kernelName: name, inputs, outputs} = node;
    const fused = fusedBehind(name, inputs, this.fused);
    this.share(node, saved);
    const missing = this.factors ? missingGradients(name, inputs, saved, attrs, fused) : null;
    if (missing) node.gradient = ([dy]) => missing(dy!);
    else if (this.factors && fused && node.gradient && !this.viewOf(inputs['1']!)) {
      node.gradient = askedGradients(name, inputs, saved, fused, node.gradient);
    }
    const taps: Tap[] = [];
    let consumer: Tapped['consumer'] = null as Tapped['consumer'];
    for (const [key, input] of Object.entries(inputs)) {
      const view = input && this.viewOf(input);
      if (!view) continue;
      const copied = isClone(name, inputs, outputs, saved);
      const through = copied || !this.factors ? null : viewsThrough(name, view, input, outputs, attrs);
      if (copied || through) {
        outputs.forEach((output, i) =>
          this.views.set(output.id, copied ? {...view, isCopy: true} : {...through![i]!, isCopy: false}),
        );
        return;
      }
      const {transposed, block} = view;
      const shape = [block.rows, block.columns] as const;
      const found: Consumer | string = !this.factors
        ? ASKED
        : consumer
          ? `both sides of one ${opName(name)}`
          : consumerOf(name, {key, inputs, saved, attrs, transposed, shape}, fused);
      if (typeof found !== 'string') consumer = {of: found, key};
      const why = typeof found === 'string' ? found : '';
      taps.push({key, view, why: missing ? `${why}, from slices: tfjs has no gradient for it here` : why});
    }
    if (taps.length === 0) return;
    const op = opName(fused?.name ?? name);
    this.tapped.push({node, inputs, gradient: node.gradient, op, consumer, taps});
  }

  /** Puts a weight itself in the place of the copies of it that a node saves: on wasm they are real copies. */
  private share(node: TapeNode, saved: Tensor[]): void {
    saved.forEach((copy, at) => {
      const view = this.views.get(copy.id);
      if (!view?.isCopy || view.transposed || !isWhole(view.block, view.use.shape)) return;
      const {use, data} = view;
      const {weight} = use;
      if (data !== weight.dataId || node.gradient === undefined || !IS_TFJS.test(node.kernelName)) return;
      if (String(copy.shape) !== String(weight.shape)) {
        // Of the weight's own data: what the op was given may be a copy.
        saved[at] = keep(reshape(weight, copy.shape));
      } else {
        saved[at] = weight;
        use.slots.push({saved, at});
      }
      copy.dispose();
    });
    node.saved = saved.filter(tensor => !this.uses.has(tensor));
  }

  /** Puts taps in the place of weights, where they lead to the loss, before the tape is walked. */
  private plan(loss: Tensor, isOutermost: boolean): void {
    const {state} = this.engine;
    const tape = state.activeTape!;
    const leading = leadingTo(tape, loss);
    const due = this.tapped.filter(({node}) => leading.has(node));
    if (due.length === 0) throw new Error('no weight that is trained is connected to the loss');
    if (loss.rank !== 0) throw new Error(`the loss must be a scalar, and has the shape [${loss.shape}]`);
    // In a pass within another the tape is also the other's.
    if (isOutermost)
      state.activeTape = gathered(
        tape,
        [...this.uses.values()].map(({weight}) => weight),
      );
    due.forEach(tapped => this.tap(tapped));
    if (isOutermost) {
      const born = tidy(() => scalar(0).id);
      releaseDeltas(state.activeTape!, born);
    }
  }

  private tap({node, inputs, gradient, op, consumer, taps}: Tapped): void {
    const others = Object.entries(inputs).filter(([key]) => !taps.some(tap => tap.key === key));
    const tokens = taps.map(({key, view}) => [`${TOKEN}/${key}`, view.use.token] as const);
    node.inputs = Object.fromEntries([...others, ...tokens]);
    for (const {key, view, why} of taps) {
      view.use.taps++;
      if (consumer?.key === key) view.use.ops.add(op);
      else view.use.dense.add(why);
    }
    // Without a gradient of its own, tfjs will say so.
    if (!gradient) return;
    node.gradient = deltas => {
      const own = consumer ? consumer.of.others(deltas[0]!) : gradient(deltas);
      const parts = taps.map(({key, view}) => [
        `${TOKEN}/${key}`,
        () => {
          const part =
            consumer?.key === key
              ? consumer.of.part(deltas[0]!)
              : densePart(op, inputs[key]!, own[key], view);
          return view.use.deliver({...part, block: view.block});
        },
      ]);
      return {...own, ...Object.fromEntries(parts)};
    };
  }
}

/** Names of nodes that tfjs makes: kernels, and its fused ops; not what a customGrad is called after. */
const IS_TFJS = /^(_?[A-Z]\w*|fused\w+)$/;
