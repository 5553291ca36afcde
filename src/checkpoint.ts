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
  /** Names of its factors, in the inner optimizer's order. */
  factors: readonly string[];
  /** Whether its base is no longer the weight before training. */
  refreshed: boolean;
  tensors: Named;
}

/** All that a run needs to go on, besides the weights of the model and the options. */
export interface Checkpoint {
  /** Steps applied. */
  steps: number;
  /** Gradients taken since the last step, when several are accumulated. */
  pending: number;
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
    // JSON escaped to ASCII, a character an int32: every backend and file format carries it.
    const text = JSON.stringify(layout).replace(
      /[\u007f-\uffff]/g,
      c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
    // Another save may still be reading the ones there are.
    if (this.iter && this.layout && this.written === `${steps} ${text}`) return [this.iter, this.layout];
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

  get bytes(): number {
    return 4 * ((this.iter?.size ?? 0) + (this.layout?.size ?? 0));
  }

  dispose(): void {
    this.iter?.dispose();
    this.layout?.dispose();
  }
}

const PREFIX = 'tfjs-lora';

/** Live tensors under names of their own, `iter` first as tfjs does it. */
export function pack({steps, pending, weights, inners}: Checkpoint, header: Header): NamedTensors {
  const [iter, layout] = header.write(steps, {
    version: 1,
    pending,
    weights: weights.map(({tensors: _, ...saved}) => saved),
    inners: inners.map(inner => (inner ? {iterations: inner.iterations} : null)),
  });
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
 * For every weight, which saved one it is: by its exact name, by its name without the number that tfjs appends when
 * a model is loaded again, or, when no name is known at all, by order, as tfjs's own optimizers do. By order only
 * with `byOrder`: where some of the saved ones are bound already, a weight of an unknown name is a new one.
 */
export function matchSaved(
  weights: readonly {name: string}[],
  saved: readonly SavedWeight[],
  byOrder: boolean,
): (SavedWeight | undefined)[] {
  const free = new Set(saved);
  const claim = (test: (candidate: SavedWeight) => boolean) => {
    const found = [...free].find(test);
    if (found) free.delete(found);
    return found;
  };
  const ways: ((weight: string, name: string) => boolean)[] = [
    (weight, name) => weight === name,
    (weight, name) => weight === plainName(name),
    (weight, name) => plainName(weight) === plainName(name),
  ];
  const found: (SavedWeight | undefined)[] = weights.map(() => undefined);
  for (const same of ways) {
    weights.forEach(({name}, i) => (found[i] ??= claim(candidate => same(candidate.weight, name))));
  }
  return byOrder && !found.some(match => match) ? weights.map((_, i) => saved[i]) : found;
}
