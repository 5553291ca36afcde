import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  dispose,
  keep,
  Optimizer,
  serialization,
  Tensor as TensorClass,
  tidy,
  variable,
  Variable as VariableClass,
} from '@tensorflow/tfjs-core';
import type {Guard} from './guard.js';
import {read} from './linalg/read.js';
import {transported} from './moments.js';
import {flat, packsOf, parts} from './pack.js';
import type {Transport} from './parametrization.js';
import {uniqueName} from './store.js';
import {isGone, mapValues, tidied} from './tensors.js';

type NamedTensors = Exclude<Parameters<Optimizer['applyGradients']>[0], Record<string, Tensor>>;

/** What a tfjs optimizer stores per parameter: first moments, second moments, … */
interface Slot {
  originalName: string;
  variable: Variable;
}

/** An inner optimizer's class and settings, as JSON. */
export interface InnerConfig {
  className: string;
  config: serialization.ConfigDict;
}

/** Everything an inner optimizer remembers, as live tensors. */
export interface InnerState {
  iterations: number;
  /** e.g. `accBeta1`. */
  scalars: Record<string, Tensor>;
  /** e.g. `accumulatedFirstMoment/3`: the slot of the parameter at position 3. */
  slots: Record<string, Tensor>;
}

/**
 * One tf.Optimizer and the parameters it moves.
 *
 * tfjs's optimizers keep their moments by position in the call. So a parameter gets a position once, for good, and
 * every call lists all of them in the same order, with null for those that have no gradient this time.
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
export class Inner {
  readonly parameters: (Variable | undefined)[] = [];
  /** The entries of the slot lists while some parameters are packed. */
  private packed: readonly Entry[] | null = null;
  /** The parameters that moved in the last step, unless something came in between. */
  private moved: readonly Variable[] = [];

  constructor(readonly optimizer: Optimizer) {
    if (!(typeof optimizer?.applyGradients === 'function' && typeof optimizer.minimize === 'function')) {
      throw new TypeError(
        `the inner optimizer must be a tf.Optimizer such as tf.train.adam(1e-3), not ${String(optimizer)}`,
      );
    }
    if ('learningRate' in optimizer && !Number.isFinite(this.learningRate)) {
      throw new TypeError(
        `the inner optimizer ${this.className} has the learning rate ${String(this.learningRate)}: give it a number`,
      );
    }
    if (owned.has(optimizer)) {
      throw new Error(
        `the inner optimizer ${this.className} already belongs to another wrapper: its moments go by position, ` +
          'so give each a tf.Optimizer of its own',
      );
    }
    owned.add(optimizer);
    // What it remembers of a training before this one belongs to other variables.
    if (Object.values(this.slotLists()).some(slots => slots.length > 0)) this.forget();
    // MomentumOptimizer leaves a constant to the surrounding tidy, and model.fit runs every step in one.
    for (const tensor of this.tensors()) keep(tensor);
    // Adam's running products are trainable, and minimize without a list would take them for weights.
    for (const scalar of Object.values(this.scalars())) scalar.trainable = false;
  }

  get className(): string {
    return this.optimizer.getClassName();
  }

  get config(): InnerConfig {
    return {className: this.className, config: this.optimizer.getConfig()};
  }

  /** The same optimizer, newly built from its class name and settings. Its class must be registered with tfjs. */
  static build({className, config}: InnerConfig): Optimizer {
    const known = serialization.SerializationMap.getMap().classNameMap[className];
    if (!known) {
      throw new Error(
        `the saved inner optimizer is a ${className}, which is not registered: ` +
          `call tf.serialization.registerClass(${className}) before loading`,
      );
    }
    const [cls, fromConfig] = known;
    return fromConfig(cls, config) as unknown as Optimizer;
  }

  get learningRate(): number {
    return (this.optimizer as unknown as {learningRate: number}).learningRate;
  }

  set learningRate(rate: number) {
    // SGD and Momentum keep a tensor that only their setter renews; the other five read the field.
    const target = this.optimizer as unknown as {learningRate: number; setLearningRate?(rate: number): void};
    if (target.setLearningRate) target.setLearningRate(rate);
    else target.learningRate = rate;
  }

  /** Gives a parameter its position: the one it had before, when it is restored. */
  add(parameter: Variable, position = this.parameters.length): void {
    this.unpack();
    while (this.parameters.length <= position) this.parameters.push(undefined);
    this.parameters[position] = parameter;
  }

  /** One step of every parameter that has a gradient. The guard, if any, watches what this one remembers. */
  apply(gradients: ReadonlyMap<Variable, Tensor>, guard: Guard | null = null): void {
    this.arrange(this.parameters.filter((p): p is Variable => p !== undefined && gradients.has(p)));
    const entries = this.entries.map(entry => entry.flatMap(i => this.parameters[i] ?? []));
    // tfjs makes a slot wherever it finds none, and wants the name of a variable for it. A position that waits for
    // a saved parameter lends itself another's name, and gives back the slot that this made.
    const lent = [...gradients.keys()][0]!.name;
    const before = mapValues(this.slotLists(), slots => [...slots]);
    const isMoving = (entry: readonly Variable[]) => entry.some(parameter => gradients.has(parameter));
    guard?.watch([
      ...Object.values(this.scalars()),
      ...Object.values(before).flatMap(slots =>
        slots.flatMap((slot, at) => (slot && isMoving(entries[at]!) ? slot.variable : [])),
      ),
    ]);
    const packs = new Map<number, Variable>();
    try {
      tidy(() => {
        const named = entries.map((entry, at) => {
          const [first] = entry;
          if (entry.length < 2)
            return {name: first?.name ?? lent, tensor: (first && gradients.get(first)) ?? null};
          const pack = newVariable(flat(entry));
          packs.set(at, pack);
          return {name: pack.name, tensor: flat(entry.map(parameter => gradients.get(parameter)!))};
        });
        this.optimizer.applyGradients(named as unknown as NamedTensors);
        for (const [at, pack] of packs) {
          parts(pack, entries[at]!).forEach((part, i) => entries[at]![i]!.assign(part));
        }
      });
    } finally {
      dispose([...packs.values()]);
    }
    for (const [key, slots] of Object.entries(this.slotLists())) {
      entries.forEach((entry, i) => {
        if (entry.length > 0 || before[key]?.[i] || !slots[i]) return;
        slots[i].variable.dispose();
        delete slots[i];
      });
      for (const slot of slots) if (slot) guard?.watchMade(slot.variable, this.slotStart);
    }
  }

  /** What tfjs makes a slot with: Adagrad's option, else zero. */
  private get slotStart(): number {
    return (this.optimizer as unknown as {initialAccumulatorValue?: number}).initialAccumulatorValue ?? 0;
  }

  /** Forgets the moments of these parameters; the running scalars too, when these are all there are. */
  reset(parameters: ReadonlySet<Variable>): void {
    const isMeant = (i: number) => this.parameters[i] !== undefined && parameters.has(this.parameters[i]);
    if (this.packed?.some(entry => entry.some(isMeant) && !entry.every(isMeant))) this.unpack();
    const meant = this.entries.flatMap((entry, at) => (entry.every(isMeant) ? [at] : []));
    for (const slots of Object.values(this.slotLists())) {
      for (const at of meant) {
        slots[at]?.variable.dispose();
        delete slots[at]; // tfjs makes a slot it does not find
      }
    }
    if (this.parameters.every((_, i) => isMeant(i))) this.resetScalars();
  }

  /** Takes the moments of a parameter over into new coordinates. */
  transport(parameter: Variable, transport: Transport): void {
    this.unpack();
    const i = this.parameters.indexOf(parameter);
    const lists = Object.entries(this.slotLists()).filter(([, slots]) => slots[i]);
    tidy(() => {
      const held = Object.fromEntries(lists.map(([field, slots]) => [field, slots[i]!.variable]));
      const moved = transported(this.className, held, transport, this.unbiased());
      for (const [field, variable] of Object.entries(held)) variable.assign(moved[field]!);
    });
  }

  /** What Adam divides its means by: `1 - beta^t`, from the running products `beta^(t+1)` that it keeps. */
  private unbiased(): {first: number; second: number} {
    const {beta1 = 0, beta2 = 0} = this.optimizer as unknown as {beta1?: number; beta2?: number};
    const {accBeta1, accBeta2} = this.scalars();
    const factor = (product: Variable | undefined, beta: number) =>
      product && beta > 0 ? 1 - read(product, "the running product of Adam's beta")[0]! / beta : 1;
    return {first: factor(accBeta1, beta1), second: factor(accBeta2, beta2)};
  }

  /** Forgets every parameter and moment. */
  forget(): void {
    for (const slots of Object.values(this.slotLists())) {
      for (const slot of slots) slot?.variable.dispose();
      slots.length = 0;
    }
    this.parameters.length = 0;
    this.packed = null;
    this.moved = [];
    (this.optimizer as unknown as {iterations_: number}).iterations_ = 0;
    this.resetScalars();
  }

  private resetScalars(): void {
    const scalars = this.scalars();
    if (Object.keys(scalars).length === 0) return;
    const cls = this.optimizer.constructor as typeof Optimizer;
    const fresh = new Inner(cls.fromConfig(cls as never, this.optimizer.getConfig()) as unknown as Optimizer);
    for (const [key, scalar] of Object.entries(fresh.scalars())) scalars[key]?.assign(scalar as never);
    fresh.dispose();
  }

  /** Gives up the position of a parameter that is gone, and its moments. */
  drop(parameter: Variable): void {
    const i = this.parameters.indexOf(parameter);
    if (i < 0) return;
    this.unpack();
    for (const slots of Object.values(this.slotLists())) {
      slots[i]?.variable.dispose();
      delete slots[i];
    }
    this.parameters[i] = undefined;
  }

  /** Live tensors, until the step after next: copy what you keep. */
  state(): InnerState {
    this.unpack();
    if (this.optimizer.iterations > 0 && this.tensors().length === 0 && this.className !== 'SGD') {
      const own = this.optimizer.getWeights !== Optimizer.prototype.getWeights;
      if (own) {
        throw new Error(
          `a ${this.className} keeps its state where it cannot be read, so it cannot be saved: let its fields hold ` +
            "lists of {originalName, variable}, as tfjs's own optimizers do",
        );
      }
    }
    const slots: Record<string, Tensor> = {};
    for (const [key, list] of Object.entries(this.slotLists())) {
      list.forEach((slot, i) => (slots[`${key}/${i}`] = slot.variable));
    }
    return {iterations: this.optimizer.iterations, scalars: this.scalars(), slots};
  }

  /** Throws when a state cannot be this optimizer's. */
  expect(state: InnerState): void {
    const [lists, scalars] = [this.slotLists(), this.scalars()];
    const wrong = [
      ...Object.keys(state.slots).filter(key => !lists[key.split('/')[0]!]),
      ...Object.keys(state.scalars).filter(key => !scalars[key]),
    ];
    if (wrong.length > 0) {
      throw new Error(
        `the saved state has ${wrong[0]!.split('/')[0]}, which a ${this.className} does not keep`,
      );
    }
  }

  /** Takes over a state; the tensors stay the caller's. */
  restore(state: InnerState): void {
    this.expect(state);
    (this.optimizer as unknown as {iterations_: number}).iterations_ = state.iterations;
    const scalars = this.scalars();
    for (const [key, tensor] of Object.entries(state.scalars)) scalars[key]?.assign(tensor as never);
    this.unpack();
    const lists = this.slotLists();
    for (const [key, tensor] of Object.entries(state.slots)) {
      const [list, position] = key.split('/') as [string, string];
      const slots = lists[list]!;
      slots[Number(position)]?.variable.dispose();
      slots[Number(position)] = {originalName: key, variable: newVariable(tensor)};
    }
  }

  /** Bytes of the moments of one parameter. */
  bytesOf(parameter: Variable): number {
    const i = this.parameters.indexOf(parameter);
    const at = this.entries.findIndex(entry => entry.includes(i));
    // Every moment is as large as what it is of.
    return Object.values(this.slotLists()).filter(slots => slots[at]).length * 4 * parameter.size;
  }

  /** Bytes of everything it holds now. */
  get bytes(): number {
    return this.tensors().reduce((sum, tensor) => sum + 4 * tensor.size, 0);
  }

  /** Disposes the optimizer and what tfjs's own dispose leaves behind (tfjs issue 4647). */
  dispose(): void {
    owned.delete(this.optimizer);
    const all = this.tensors();
    // Twice would be once too often: it frees the data of tensors that share it.
    if (!all.some(isGone)) this.optimizer.dispose();
    for (const tensor of all) if (!tensor.isDisposed && !isGone(tensor)) tensor.dispose();
  }

  /** The positions that each entry of the slot lists is for: one, or several that are packed. */
  private get entries(): readonly Entry[] {
    return this.packed ?? Array.from(this.parameters, (_, i) => [i]);
  }

  /** Packs what moved together in the last step too, or has no moments yet. */
  private arrange(moving: readonly Variable[]): void {
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
    const lists = Object.values(this.slotLists());
    return this.entries.every(
      (entry, at) => !lists.some(slots => slots[at]) || !entry.some(i => all.has(this.parameters[i])),
    );
  }

  private pack(packs: readonly Entry[]): void {
    const lists = Object.values(this.slotLists());
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
  private unpack(): void {
    this.moved = [];
    const {packed} = this;
    if (!packed) return;
    this.rewrite(slots => {
      const own: (Slot | Tensor | undefined)[] = Array.from(this.parameters, () => undefined);
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

  /** Writes all slot lists anew: of slots there are, and of tensors that become slots. All or nothing. */
  private rewrite(change: (slots: readonly Slot[]) => readonly (Slot | Tensor | undefined)[]): void {
    const lists = this.slotLists();
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

  private slotLists(): Record<string, Slot[]> {
    return this.fields((value): value is Slot[] => Array.isArray(value) && value.every(isSlot));
  }

  private scalars(): Record<string, Variable> {
    return this.fields((value): value is Variable => value instanceof VariableClass);
  }

  private tensors(): Tensor[] {
    return [
      ...Object.values(this.fields((value): value is Tensor => value instanceof TensorClass)),
      ...Object.values(this.slotLists()).flatMap(list => list.flatMap(slot => (slot ? [slot.variable] : []))),
    ];
  }

  private fields<T>(accepts: (value: unknown) => value is T): Record<string, T> {
    return Object.fromEntries(
      Object.entries(this.optimizer).filter((entry): entry is [string, T] => accepts(entry[1])),
    );
  }
}

/** Positions that share an entry of the slot lists. */
type Entry = readonly number[];

/** Named by us, so that the names tfjs counts for others do not depend on what is packed when. */
const newVariable = (tensor: Tensor) => variable(tensor, false, uniqueName('tfjs-lora/inner'));

const areSame = (a: readonly unknown[], b: readonly unknown[]) =>
  a.length === b.length && a.every((value, i) => value === b[i]);

/** Optimizers that a wrapper works with. */
const owned = new WeakSet<Optimizer>();

function isSlot(value: unknown): value is Slot {
  return typeof value === 'object' && value !== null && (value as Slot).variable instanceof VariableClass;
}
