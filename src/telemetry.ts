import type {Scalar, Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {
  addN,
  dispose,
  keep,
  mul,
  reshape,
  squaredDifference,
  sub,
  sum,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import type {Attachment} from './attachment.js';
import * as calculus from './calculus.js';
import type {Projected} from './inspect.js';
import {read as readAll} from './linalg/read.js';
import type {Gradient, Parametrization, Tangent} from './parametrization.js';
import {caughtNorm2, drift, expectTangent, within} from './tangent.js';
import {isGone, mapValues, type Named, sumOfSquares, tidied} from './tensors.js';

/** What one step did to one weight. G: its last gradient before the step. */
export interface TelemetryRow {
  /** The variable's name. */
  weight: string;
  /** Its name when it was attached, without the number tfjs appends: what files and seeds go by. */
  name: string;
  /** Name of the parametrization, or 'train' for a weight trained as it is. */
  parametrization: string;
  /** Steps taken before this one. */
  step: number;
  /**
   * `||Pi G||^2 / ||G||^2`, from 0 to 1, with Pi the orthogonal projector on the directions in which the factors can
   * move W. Null where the parametrization has no `tangent`, or G is zero.
   */
  capturedShare: number | null;
  /** `||G||_F` */
  gradientNorm: number;
  /** `||W' - W||_F` */
  updateNorm: number;
  /** Of the angle between `W' - W` and `-G`, to first order in the factors' change; null where either is zero. */
  cosine: number | null;
  /** How far the subspace is from that of the step before, 0 to 1; null where there was none or nothing is left out. */
  drift: number | null;
}

/** A gradient beside the subspace it is projected on. The tensors are the caller's to dispose. */
export interface Measured {
  /** Null: not known. */
  readonly form: Tangent['form'] | null;
  /** dL/dtheta before it is bent by `precondition`. */
  readonly grads: Named;
  /** `norm2`; `left` and `right` of the tangent space, and their products with G. */
  readonly tensors: Named;
}

/** Asks a gradient for all that a row needs of it. G is not formed, unless its `norm2` does. */
export function measure(
  where: string,
  p: Parametrization,
  state: calculus.HeldState,
  gradient: Gradient,
  grads: Named,
): Measured {
  const tangent = calculus.tangentOf(p, state);
  const tensors: Record<string, Tensor> = {norm2: gradient.norm2()};
  if (tangent) expectTangent(`${where}: tangent`, tangent, gradient.shape);
  if (tangent && tangent.form !== 'all') {
    const {form, left, right} = tangent;
    if (left) Object.assign(tensors, {left, leftProduct: gradient.leftMul(left)});
    if (right) tensors['right'] = right;
    if (right && !(left && form === 'product')) {
      tensors['rightProduct'] = gradient.rightMul(transpose(right));
    }
  }
  return {form: tangent?.form ?? null, grads: mapValues(grads, handle), tensors: mapValues(tensors, handle)};
}

/** The same gradient, which does not make a product with the same tensor twice. */
export function remembering(gradient: Gradient): Gradient {
  const remember = (ask: (by: Tensor2D) => Tensor2D) => {
    const known = new Map<number, Tensor2D>();
    return (by: Tensor2D): Tensor2D => {
      const answer = known.get(by.id) ?? ask(by);
      known.set(by.id, answer);
      return handle(answer);
    };
  };
  let norm2: Scalar | undefined;
  return {
    ...gradient,
    leftMul: remember(p => gradient.leftMul(p)),
    rightMul: remember(q => gradient.rightMul(q)),
    norm2: () => handle((norm2 ??= gradient.norm2())),
  };
}

/** What a row is made of, not read yet. */
interface Taken {
  readonly attachment: Attachment;
  readonly step: number;
  readonly form: Tangent['form'] | null;
  readonly gradient: Named;
  readonly moved: Named;
  /** The subspace it last moved in; null when this is the first. */
  readonly before: Named | null;
}

/**
 * What `telemetry()` knows. A step leaves thin matrices and scalars here, which are not read before someone asks, and
 * are replaced by the next step.
 */
export class Telemetry {
  /** Gradients since the last step. */
  private readonly gathered = new Map<Attachment, Measured>();
  /** What the step under way has moved. */
  private readonly moved = new Map<Attachment, Named>();
  /** The subspace in which each weight last moved. */
  private readonly frames = new Map<Attachment, Named>();
  private taken: readonly Taken[] = [];
  private told: readonly TelemetryRow[] | null = null;

  /** Takes note of gradients that are to move something; the last one of each weight counts. */
  gather(projected: Projected): void {
    for (const [attachment, {measured, grads}] of projected) {
      release(this.gathered.get(attachment));
      this.gathered.set(
        attachment,
        tidied(() => {
          const whole = () => ({
            form: 'all' as const,
            grads,
            tensors: {norm2: sumOfSquares(Object.values(grads))},
          });
          const {form, ...found} = measured ?? whole();
          return {form, grads: kept(found.grads), tensors: kept(found.tensors)};
        }),
      );
    }
  }

  /** Runs `lift` and takes note of how W moved by it. `factors` are those before the step. */
  lifting(attachment: Attachment, factors: Named, lift: () => void): void {
    const measured = this.gathered.get(attachment);
    if (!measured) return lift();
    const {weight, parametrization} = attachment;
    // Another handle on the old numbers: a variable is given new ones, the old are not overwritten.
    const old = handle(parametrization ? weight : factors['weight']!);
    try {
      lift();
      release(this.moved.get(attachment));
      const slopes = () =>
        Object.entries(measured.grads).map(([key, grad]) =>
          sum(mul(grad, sub(attachment.factors[key]!, factors[key]!))),
        );
      this.moved.set(
        attachment,
        tidy(() => kept({norm2: sum(squaredDifference(weight, old)), slope: addN(slopes())})),
      );
    } finally {
      old.dispose();
    }
  }

  /** Makes rows of a step that is done. */
  finish(step: number, attachments: readonly Attachment[]): void {
    for (const {gradient, moved, before} of this.taken) release(gradient, moved, before);
    this.taken = attachments.flatMap(attachment => {
      const [measured, moved] = [this.gathered.get(attachment), this.moved.get(attachment)];
      if (!measured || !moved) return [];
      const {form, grads, tensors} = measured;
      release(grads);
      this.gathered.delete(attachment);
      this.moved.delete(attachment);
      const before = this.frames.get(attachment) ?? null;
      const {left, right} = tensors;
      this.frames.set(attachment, kept({...(left && {left}), ...(right && {right})}));
      return [{attachment, step, form, gradient: tensors, moved, before}];
    });
    this.forgetStep();
    for (const [attachment, frames] of this.frames) {
      if (!isGone(attachment.weight)) continue;
      release(frames);
      this.frames.delete(attachment);
    }
    this.told = null;
  }

  rows(): TelemetryRow[] {
    this.told ??= this.taken.map(rowOf);
    return this.told.map(row => ({...row}));
  }

  /** Bytes of what it keeps, data that tensors share once; what they share with the factors included. */
  get bytes(): number {
    const all = [
      ...[...this.gathered.values()].flatMap(({grads, tensors}) => [grads, tensors]),
      ...this.moved.values(),
      ...this.frames.values(),
      ...this.taken.flatMap(({gradient, moved, before}) => [gradient, moved, before ?? {}]),
    ].flatMap(tensors => Object.values(tensors));
    const sizes = new Map(all.map(tensor => [tensor.dataId, tensor.size]));
    return [...sizes.values()].reduce((total, size) => total + 4 * size, 0);
  }

  /** Forgets everything, as before the first step. */
  dispose(): void {
    this.finish(0, []);
    release(...this.frames.values());
    this.frames.clear();
  }

  private forgetStep(): void {
    for (const {grads, tensors} of this.gathered.values()) release(grads, tensors);
    release(...this.moved.values());
    this.gathered.clear();
    this.moved.clear();
  }
}

/** Reads what a row is made of. */
function rowOf({attachment, step, form, gradient, moved, before}: Taken): TelemetryRow {
  const {weight, name, parametrization} = attachment;
  // Rounding may leave less than nothing of a gradient whose parts cancel.
  const norm2 = Math.max(0, read(gradient['norm2']!));
  const [gradientNorm, updateNorm] = [Math.sqrt(norm2), Math.sqrt(read(moved['norm2']!))];
  const sizes = gradientNorm * updateNorm;
  const tangent = form && tangentFrom(form, gradient);
  const products = gradient as {leftProduct?: Tensor2D; rightProduct?: Tensor2D};
  return {
    weight: weight.name,
    name,
    parametrization: parametrization?.name ?? 'train',
    step,
    capturedShare:
      tangent && norm2 > 0 ? within(caughtNorm2({...products, tangent}, norm2) / norm2, 0, 1) : null,
    gradientNorm,
    updateNorm,
    cosine: sizes > 0 ? -read(moved['slope']!) / sizes : null,
    drift: tangent && before ? drift(tangentFrom(form, before), tangent) : null,
  };
}

const tangentFrom = (form: Tangent['form'], tensors: Named): Tangent => ({...tensors, form}) as Tangent;

const read = (scalar: Tensor): number => readAll(scalar, 'telemetry: a number')[0]!;

/** Another handle on the same numbers. Not a clone, which is a copy on wasm. */
const handle = <T extends Tensor>(tensor: T): T => reshape(tensor, tensor.shape) as T;

/** Handles of their own, which no `tidy` disposes. */
const kept = (tensors: Named): Named => mapValues(tensors, tensor => keep(handle(tensor)));

const release = (...all: (Named | Measured | null | undefined)[]): void => dispose(all as never);
