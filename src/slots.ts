import type {Optimizer, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, Tensor as TensorClass, variable, Variable as VariableClass} from '@tensorflow/tfjs-core';
import {flat, packsOf, parts} from './pack.js';
import {uniqueName} from './store.js';
import {isGone, mapValues, tidied} from './tensors.js';

/** What a tfjs optimizer stores per parameter: first moments, second moments, … */
export interface Slot {
  originalName: string;
  variable: Variable;
}

/**
 * What a tfjs optimizer keeps of the parameters it moves.
 *
 * When the same parameters move in two steps in a row, small ones are packed: the optimizer is shown one variable that
 * holds all their numbers, and keeps one moment for it. That is nobody else's business: whatever is not a step
 * unpacks first, so that everyone else sees a slot for each position.
 *
 * Their state is read from the instance: an own property that holds a list of `{originalName, variable}` is a list
 * of slots, one that holds a Variable is a running scalar. That is how all seven of tfjs's optimizers store it, and
 * the only way that also serves Adamax (whose getWeights throws) and Adam's running products bit for bit
 * (whose setWeights computes them anew).
 */
export class Slots {
  /** The entries of the slot lists while some parameters are packed. */
  private packed: readonly Entry[] | null = null;
  /** The parameters that moved in the last step, unless something came in between. */
  private moved: readonly Variable[] = [];

  constructor(
    private readonly optimizer: Optimizer,
    private readonly parameters: readonly (Variable | undefined)[],
  ) {}

  /** The positions that each entry of the slot lists is for: one, or several that are packed. */
  get entries(): readonly Entry[] {
    if (this.packed) return this.packed;
    // Behind the parameters there are, slots may wait for some that are bound later.
    const count = Math.max(this.parameters.length, ...Object.values(this.lists()).map(({length}) => length));
    return Array.from({length: count}, (_, i) => [i]);
  }

  /** Packs what moved together in the last step too, or has no moments yet. */
  arrange(moving: readonly Variable[]): void {
    const positions = new Map(this.parameters.map((parameter, i) => [parameter, i]));
    const isDue = areSame(moving, this.moved) || this.areNew(moving);
    const packs = isDue ? packsOf(this.optimizer, moving) : [];
    const wanted = packs.map(pack => pack.map(parameter => positions.get(parameter)!));
    const isPacked = ({length}: Entry) => length > 1;
    if (!areSame(wanted.map(String), (this.packed ?? []).filter(isPacked).map(String))) {
      this.unpack();
      this.pack(wanted);
    }
    this.moved = moving;
  }

  private areNew(parameters: readonly Variable[]): boolean {
    const all = new Set<Variable | undefined>(parameters);
    const lists = Object.values(this.lists());
    return this.entries.every(
      (entry, at) => !lists.some(slots => slots[at]) || !entry.some(i => all.has(this.parameters[i])),
    );
  }

  private pack(packs: readonly Entry[]): void {
    const lists = Object.values(this.lists());
    // A pack has all its moments or none: where a few are missing, tfjs makes them first, one by one.
    const isEven = (pack: Entry) =>
      lists.every(slots => pack.every(i => slots[i]) || !pack.some(i => slots[i]));
    if (packs.length === 0 || !packs.every(isEven)) return;
    const packed = new Set(packs.flat());
    const others = this.entries.filter(([i]) => !packed.has(i!));
    const layout = [...packs, ...others];
    this.rewrite(slots =>
      layout.map(([i, ...more]) => {
        const slot = slots[i!];
        return slot && more.length > 0 ? flat([i!, ...more].map(j => slots[j]!.variable)) : slot;
      }),
    );
    this.packed = layout;
  }

  /** Gives each position its own slot again. */
  unpack(): void {
    this.moved = [];
    const {packed} = this;
    if (!packed) return;
    this.rewrite(slots => {
      const own: (Slot | Tensor | undefined)[] = [];
      packed.forEach((entry, at) => {
        const slot = slots[at];
        if (entry.length === 1) own[entry[0]!] = slot;
        else if (slot && !isGone(slot.variable)) {
          parts(
            slot.variable,
            entry.map(i => this.parameters[i]!),
          ).forEach((part, j) => (own[entry[j]!] = part));
        }
      });
      return own;
    });
    this.packed = null;
  }

  /** Forgets all moments. */
  forget(): void {
    for (const slots of Object.values(this.lists())) {
      for (const slot of slots) slot?.variable.dispose();
      slots.length = 0;
    }
    this.packed = null;
    this.moved = [];
  }

  /** Writes all slot lists anew: of slots there are, and of tensors that become slots. All or nothing. */
  private rewrite(change: (slots: readonly Slot[]) => readonly (Slot | Tensor | undefined)[]): void {
    const lists = this.lists();
    const made: Variable[] = [];
    const slotOf = (tensor: Tensor, key: string, at: number): Slot => {
      made.push(newVariable(tensor));
      return {originalName: `${key}/${at}`, variable: made.at(-1)!};
    };
    try {
      const next = tidied(() =>
        mapValues(lists, (slots, key) =>
          change(slots).map((entry, at) => (entry instanceof TensorClass ? slotOf(entry, key, at) : entry)),
        ),
      );
      for (const [key, slots] of Object.entries(lists)) {
        const [before, after] = [[...slots], next[key]!];
        slots.length = 0;
        after.forEach((slot, at) => slot && (slots[at] = slot)); // a hole is a slot that tfjs makes
        for (const slot of before) if (slot && !after.includes(slot)) slot.variable.dispose();
      }
    } catch (error) {
      dispose(made);
      throw error;
    }
  }

  /** Slots by the field that lists them, e.g. `accumulatedFirstMoment`. */
  lists(): Record<string, Slot[]> {
    return this.fields((value): value is Slot[] => Array.isArray(value) && value.every(isSlot));
  }

  /** Running scalars by field, e.g. `accBeta1`. */
  scalars(): Record<string, Variable> {
    return this.fields((value): value is Variable => value instanceof VariableClass);
  }

  /** Every tensor it holds. */
  tensors(): Tensor[] {
    return [
      ...Object.values(this.fields((value): value is Tensor => value instanceof TensorClass)),
      ...Object.values(this.lists()).flatMap(list => list.flatMap(slot => (slot ? [slot.variable] : []))),
    ];
  }

  private fields<T>(accepts: (value: unknown) => value is T): Record<string, T> {
    return Object.fromEntries(
      Object.entries(this.optimizer).filter((entry): entry is [string, T] => accepts(entry[1])),
    );
  }
}

/** Positions that share an entry of the slot lists. */
export type Entry = readonly number[];

/** Named by us, so that the names tfjs counts for others do not depend on what is packed when. */
export const newVariable = (tensor: Tensor) => variable(tensor, false, uniqueName('tfjs-lora/inner'));

const areSame = (a: readonly unknown[], b: readonly unknown[]) =>
  a.length === b.length && a.every((value, i) => value === b[i]);

function isSlot(value: unknown): value is Slot {
  return typeof value === 'object' && value !== null && (value as Slot).variable instanceof VariableClass;
}
