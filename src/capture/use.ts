import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {add, dispose, keep, reshape, scalar, tidy} from '@tensorflow/tfjs-core';
import {matrixShape} from '../targets.js';
import type {TapeEngine} from './engine.js';
import type {Gradient} from './gradient.js';
import {gradientOfParts, type PlacedPart} from './parts.js';

/** How the gradient of a weight came, in words. */
export type CapturedHow = {path: 'factored' | 'dense' | 'mixed'; why: string};

/** Called once for each weight that has a gradient, while the backward pass runs or right after it. */
export type OnGradient = (weight: Variable, gradient: Gradient, how: CapturedHow) => void;

/** A place where the tape reads a weight's value during the backward pass. */
interface Slot {
  readonly saved: Tensor[];
  readonly at: number;
}

/** What one pass uses a weight for: the parts of its gradient, until all are there and are handed over. */
export class Use {
  readonly shape: readonly [m: number, n: number];
  /** Takes the weight's place among the inputs of the nodes that use it; its gradient function is the tap. */
  readonly token: Scalar = keep(scalar(0));
  /** The ops whose part is an operator, and why others are formed by tfjs. */
  readonly ops = new Set<string>();
  readonly dense = new Set<string>();
  /** Where the weight itself stands for a copy of it, until it is assigned another value. */
  slots: Slot[] = [];
  /** Parts that will come, and that have come. */
  taps = 0;
  private arrived = 0;
  /** Parts that wait for the others; their tensors are kept. */
  private readonly parts: PlacedPart[] = [];

  constructor(
    readonly weight: Variable,
    private readonly engine: TapeEngine,
    private readonly onGradient: OnGradient,
  ) {
    this.shape = matrixShape(weight.shape);
  }

  get isIncomplete(): boolean {
    return this.arrived < this.taps;
  }

  /** Hands the gradient over as soon as all its parts are there; keeps this part until then. */
  deliver(part: PlacedPart): Scalar {
    this.arrived++;
    if (this.taps === 1) {
      this.handOver([part]);
    } else {
      this.hold(part);
      if (!this.isIncomplete) {
        this.handOver(this.parts);
        this.release();
      }
    }
    return scalar(0);
  }

  dispose(): void {
    this.token.dispose();
    this.release();
  }

  private hold(part: PlacedPart): void {
    const at = part.isDense
      ? this.parts.findIndex(
          ({isDense, block}) => isDense && String(Object.values(block)) === String(Object.values(part.block)),
        )
      : -1;
    const before = this.parts[at];
    if (before) {
      this.parts[at] = {...before, tensors: [keep(add(before.tensors[0]!, part.tensors[0]!))]};
      dispose([...before.tensors]);
    } else {
      // A reshape shares the data, where a clone may copy it.
      this.parts.push({...part, tensors: part.tensors.map(tensor => keep(reshape(tensor, tensor.shape)))});
    }
  }

  private handOver(parts: readonly PlacedPart[]): void {
    const {state} = this.engine;
    // A gradient taken inside (an automatic pullback) would end the tape that is being walked.
    const {activeTape} = state;
    try {
      tidy(() => {
        const {ops, dense, weight, shape} = this;
        const path = dense.size === 0 ? 'factored' : ops.size > 0 ? 'mixed' : 'dense';
        const why = path === 'factored' ? [...ops].join(', ') : [...dense].join('; ');
        this.onGradient(weight, gradientOfParts(parts, shape), {path, why});
      });
    } finally {
      state.activeTape = activeTape;
    }
  }

  private release(): void {
    for (const {tensors} of this.parts) dispose([...tensors]);
    this.parts.length = 0;
  }
}
