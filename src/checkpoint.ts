import type {Optimizer, Tensor} from '@tensorflow/tfjs-core';
import {keep, scalar, tensor1d} from '@tensorflow/tfjs-core';
import type {InnerState} from './inner.js';
import {plainName} from './targets.js';
import type {Named} from './tensors.js';

export type NamedTensors = Awaited<ReturnType<Optimizer['getWeights']>>;

/** One attachment as it is saved. */
export interface SavedWeight {
  /** What its random numbers go by. */
  name: string;
  /** The variable's name when it was saved; a loaded model may call it otherwise. */
  weight: string;
  shape: readonly number[];
  /** How its parametrization was made, as JSON; null for a weight that is trained as it is. */
  parametrization: unknown;
  /** Names of its factors, in the inner optimizer's order. */
  factors: readonly string[];
  /** The step at which a refresh was due that has not come yet. */
  due: number | null;
  /** Whether it was disposed: it holds nothing but its places in the inner optimizer. */
  gone?: boolean;
  /** Whether its base is no longer the weight before training. */
  refreshed: boolean;
  /** Gradients seen before the start. */
  observed?: number;
  tensors: Named;
}

/** All that a run needs to go on, besides the weights of the model and the options. */
export interface Checkpoint {
  /** Steps applied. */
  steps: number;
  /** Gradients taken since the last step, when several are accumulated. */
  pending: number;
  /** Steps passed over because of a gradient that was not finite. */
  skips: number;
  weights: readonly SavedWeight[];
  inners: readonly (InnerState | null)[];
}

/** Counters and layout as two kept tensors, remade when they change, so that saving leaks nothing. */
export class Header {
  private iter: Tensor | undefined;
  private layout: Tensor | undefined;
  private written = '';

  constructor() {
    this.write(0, null);
  }

  write(steps: number, layout: unknown): [iter: Tensor, layout: Tensor] {
    const text = asciiOf(layout);
    // Another save may still be reading the ones there are.
    const written = this.find(steps, layout);
    if (written) return written;
    this.dispose();
    this.written = `${steps} ${text}`;
    this.iter = keep(scalar(steps, 'int32'));
    this.layout = keep(
      tensor1d(
        Int32Array.from(text, c => c.charCodeAt(0)),
        'int32',
      ),
    );
    return [this.iter, this.layout];
  }

  /** The tensors, where they hold these; else null. */
  find(steps: number, layout: unknown): [iter: Tensor, layout: Tensor] | null {
    const isSame = this.iter && this.layout && this.written === `${steps} ${asciiOf(layout)}`;
    return isSame ? [this.iter!, this.layout!] : null;
  }

  get bytes(): number {
    return 4 * ((this.iter?.size ?? 0) + (this.layout?.size ?? 0));
  }

  dispose(): void {
    this.iter?.dispose();
    this.layout?.dispose();
  }
}

/** JSON escaped to ASCII, a character an int32: every backend and file format carries it. */
const asciiOf = (layout: unknown): string =>
  JSON.stringify(layout).replace(
    /[\u007f-\uffff]/g,
    c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

const PREFIX = 'tfjs-lora';

/** Live tensors under names of their own, `iter` first as tfjs does it. */
export function pack(checkpoint: Checkpoint, header: Header): NamedTensors {
  return listed(checkpoint, header.write(checkpoint.steps, layoutOf(checkpoint)));
}

/** Whether these are the very tensors that `pack` gave, and what they hold is still so. */
export function isPacked(list: NamedTensors, checkpoint: Checkpoint, header: Header): boolean {
  const written = header.find(checkpoint.steps, layoutOf(checkpoint));
  if (!written) return false;
  const now = new Map(listed(checkpoint, written).map(({name, tensor}) => [name, tensor]));
  return now.size === list.length && list.every(({name, tensor}) => now.get(name) === tensor);
}

function layoutOf({pending, skips, weights, inners}: Checkpoint): object {
  return {
    version: 1,
    pending,
    skips,
    weights: weights.map(({tensors: _, ...saved}) => saved),
    inners: inners.map(inner => (inner ? {iterations: inner.iterations} : null)),
  };
}

function listed({weights, inners}: Checkpoint, [iter, layout]: readonly [Tensor, Tensor]): NamedTensors {
  const list: NamedTensors = [
    {name: 'iter', tensor: iter},
    {name: `${PREFIX}/layout`, tensor: layout},
  ];
  const push = (prefix: string, tensors: Named) => {
    for (const [key, tensor] of Object.entries(tensors)) list.push({name: `${prefix}/${key}`, tensor});
  };
  weights.forEach(({tensors}, i) => push(`${PREFIX}/weight/${i}`, tensors));
  inners.forEach((inner, i) => {
    push(`${PREFIX}/inner/${i}/scalar`, inner?.scalars ?? {});
    push(`${PREFIX}/inner/${i}/slot`, inner?.slots ?? {});
  });
  return list;
}

/** What `pack` wrote. The tensors stay the caller's. */
export async function unpack(list: NamedTensors): Promise<Checkpoint> {
  const byName = new Map(list.map(({name, tensor}) => [name, tensor]));
  const iter = byName.get('iter');
  const codes = byName.get(`${PREFIX}/layout`);
  if (!iter || !codes) {
    throw new Error(
      `setWeights: these are not the weights of a ProjectedOptimizer (no 'iter' and '${PREFIX}/layout' among ` +
        `${list.length} tensors)`,
    );
  }
  const steps = (await iter.data())[0]!;
  const layout = JSON.parse(Array.from(await codes.data(), c => String.fromCharCode(c)).join('')) as {
    version: number;
    pending: number;
    skips?: number;
    weights: Omit<SavedWeight, 'tensors'>[];
    inners: ({iterations: number} | null)[];
  };
  if (layout.version !== 1) {
    throw new Error(`setWeights: saved by a newer tfjs-lora (layout ${layout.version}, this one reads 1)`);
  }
  const under = (prefix: string): Named =>
    Object.fromEntries(
      list
        .filter(({name}) => name.startsWith(`${prefix}/`))
        .map(({name, tensor}) => [name.slice(prefix.length + 1), tensor]),
    );
  return {
    steps,
    pending: layout.pending,
    skips: layout.skips ?? 0,
    weights: layout.weights.map((saved, i) => ({...saved, tensors: under(`${PREFIX}/weight/${i}`)})),
    inners: layout.inners.map(
      (inner, i) =>
        inner && {
          ...inner,
          scalars: under(`${PREFIX}/inner/${i}/scalar`),
          slots: under(`${PREFIX}/inner/${i}/slot`),
        },
    ),
  };
}

/**
 * Throws when the parts of a checkpoint do not belong together, as those of a file that was tampered with: every moment
 * is as large as the factor at its position.
 */
export function expectSound({steps, pending, weights, inners}: Checkpoint): void {
  for (const [name, count] of Object.entries({steps, pending})) {
    if (!Number.isSafeInteger(count) || count < 0) throw new Error(`the saved state has ${count} ${name}`);
  }
  const shapes = weights.flatMap(({gone, parametrization, factors, shape, tensors}) =>
    factors.map(factor => {
      if (gone) return null;
      return parametrization ? tensors[`factors/${factor}`]?.shape : shape;
    }),
  );
  inners.forEach((inner, i) => {
    for (const [key, slot] of Object.entries(inner?.slots ?? {})) {
      const position = Number(key.split('/')[1]);
      const shape = shapes[inners.length === 1 ? position : i];
      if (shape && String(shape) === String(slot.shape)) continue;
      throw new Error(`the saved state has a moment ${key} of [${slot.shape}], which is of no factor`);
    }
  });
  for (const {weight, tensors} of weights) {
    for (const [key, tensor] of Object.entries(tensors)) {
      const [section, name] = key.split('/') as [string, string];
      const factor = tensors[`factors/${name}`];
      if (!['sums', 'start'].includes(section) || !factor || String(factor.shape) === String(tensor.shape))
        continue;
      throw new Error(
        `the saved state of ${weight} has ${key} of [${tensor.shape}] for a factor of [${factor.shape}]`,
      );
    }
  }
}

/**
 * For every weight, which saved one it is.
 *
 * tfjs appends a number to a name that is taken, so a name says less than it seems: it depends on what else the
 * program has loaded. Names count as they are, or without that number, where that explains all of the weights or all
 * that was saved. Otherwise weights whose names differ in the number alone are matched in their order; so are unnamed
 * variables (tfjs calls them '12', '13', …) and, with `byOrder`, weights of which no name is known at all.
 */
export function matchSaved(
  weights: readonly {name: string}[],
  saved: readonly SavedWeight[],
  byOrder: boolean,
): (SavedWeight | undefined)[] {
  for (const nameOf of [(name: string) => name, plainName]) {
    const found = weights.map(({name}) => saved.find(({weight}) => weight === nameOf(name)));
    const known = found.filter(entry => entry);
    const isOneToOne = new Set(known).size === known.length;
    if (isOneToOne && known.length === Math.min(weights.length, saved.length)) return found;
  }
  const groupOf = (name: string) => (/^\d+$/.test(name) ? '' : plainName(name));
  const free = new Map<string, SavedWeight[]>();
  for (const entry of saved) {
    const group = groupOf(entry.weight);
    free.set(group, [...(free.get(group) ?? []), entry]);
  }
  const found = weights.map(({name}) => free.get(groupOf(name))?.shift());
  return byOrder && !found.some(entry => entry) ? weights.map((_, i) => saved[i]) : found;
}
