import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {add, dispose, keep, mul, tidy} from '@tensorflow/tfjs-core';
import type {CapturedHow} from './capture/tape.js';
import type {Fresh, Gradient, Parametrization, Transport} from './parametrization.js';
import type {Renewing} from './renewal.js';
import type {ProjectedOptions} from './settings.js';
import {Store, type Variables} from './store.js';
import {isEmpty, mapValues, type Named, tidied} from './tensors.js';

/** How the weights of one optimizer are held. */
export interface Holding {
  readonly seed: number;
  /** Keep W0 bit for bit. */
  readonly keepBase: boolean;
  /** Keep where the factors started: decoupled weight decay pulls them back there. */
  readonly keepStart: boolean;
  /** When subspaces are renewed, and what becomes of moments, where the options say. */
  readonly renewal: Pick<ProjectedOptions, 'refresh' | 'moments'>;
}

/** What one gradient asks of one weight. Nothing has moved; the tensors are the caller's to dispose. */
export interface Projection {
  /** Factors and frozen part chosen anew: at the first gradient and at a refresh. */
  readonly fresh: Fresh | null;
  /** How moments follow a refresh, by factor name; null where they do not. */
  readonly transport: Readonly<Record<string, Transport>> | null;
  /** dL/dtheta by factor name. */
  readonly grads: Named;
  /** Sum of the squares of `grads`. */
  readonly norm2: Scalar;
  /** `||G||_F^2`, asked for at the first gradient only. */
  readonly gradientNorm2: Scalar | null;
}

/** One weight bound to the way it is trained: its variables, and the rules by which they move. */
export interface Attachment {
  readonly weight: Variable;
  /** The name it had when it was attached: what seeds and files go by. */
  readonly name: string;
  /** Null for a weight that is trained as it is. */
  readonly parametrization: Parametrization | null;
  /** What the inner optimizer moves; empty until the first commit. */
  readonly factors: Variables;
  readonly store: Store;
  /** Whether its subspace was chosen anew since the beginning. */
  refreshed: boolean;
  /** How its last gradient came. */
  captured: CapturedHow | null;
  /** The step at which a refresh became due that has not been made yet. */
  due: number | null;
  /** Gradients seen before the start. */
  observed: number;
  /** When its subspace is renewed. */
  readonly renewing: Renewing;
  /** Whether it wants to see this gradient and others before it starts. */
  readonly awaits: boolean;

  /** What it has seen with this gradient; it is taken over by `remember`. */
  observe(gradient: Gradient): Named;
  /** Counts one observation more, and takes over what was seen; nothing where no gradient came. */
  remember(sums: Named | undefined): void;

  /** Projects a gradient; chooses a new subspace first where one is due since step `due`. Nothing moves. */
  project(gradient: Gradient, due: number | null): Projection;
  /** Whether a gradient that is not zero would not move it either. */
  isDead(projection: Projection): boolean;
  /** Takes over what a projection chose anew. */
  commit(projection: Projection): void;
  /** Moves W as the factors have moved since `before`. */
  lift(before: Named): void;
  /** The weight before training, a new tensor: bit for bit with `keepBase`; without, to rounding until a refresh. */
  base(): Tensor;
  /** Throws when what was put into the store cannot belong to this weight. */
  checkRestored(): void;
}

let count = 0;
/** A place for the variables of one weight. */
export const newStore = (name: string) => new Store(`tfjs-lora/${++count}/${name}`);

/** Adds gradients to the sums an attachment keeps between steps. */
export function addToSums({store}: Attachment, grads: Named): void {
  const sums = store.get('sums');
  if (isEmpty(sums)) store.put('sums', grads);
  else
    tidy(() =>
      store.put(
        'sums',
        mapValues(grads, (grad, key) => add(sums[key]!, grad)),
      ),
    );
}

/** The mean of `k` gradients: of the sums so far and the last ones, either of which may be missing. New tensors. */
export function meanOf({store}: Attachment, last: Named | undefined, k: number): Named {
  const sums = store.get('sums');
  return tidied(() => {
    const total = isEmpty(sums) ? last! : last ? mapValues(sums, (sum, key) => add(sum, last[key]!)) : sums;
    return mapValues(total, gradient => mul(gradient, 1 / k));
  });
}

/** Makes tensors outlive the scope they were made in. */
export function keepNamed(tensors: Named): Named {
  for (const tensor of Object.values(tensors)) keep(tensor);
  return tensors;
}

/** Makes a projection outlive the scope it was made in. */
export function keepProjection(projection: Projection): Projection {
  for (const tensor of tensorsOf(projection)) keep(tensor);
  return projection;
}

export function disposeProjection(projection: Projection): void {
  dispose(tensorsOf(projection));
}

function tensorsOf({fresh, transport, grads, norm2, gradientNorm2}: Projection): Tensor[] {
  const maps = Object.values(transport ?? {}).map(({left, right}) => ({
    ...(left && {left}),
    ...(right && {right}),
  }));
  const named = [fresh?.factors ?? {}, fresh?.frozen ?? {}, ...maps, grads].flatMap(tensors =>
    Object.values(tensors),
  );
  return [...named, norm2, ...(gradientNorm2 ? [gradientNorm2] : [])];
}

/** A weight as error messages name it. */
export function describe(weight: Variable): string {
  return `${weight.name} [${weight.shape}]`;
}
