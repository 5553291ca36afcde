import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, div, keep, Optimizer, serialization, sub, tidy} from '@tensorflow/tfjs-core';
import type {Guard} from './guard.js';
import {canRead} from './inspect.js';
import {read} from './linalg/read.js';
import {transported, type Unbiased} from './moments.js';
import {flat, isOfTfjs, parts} from './pack.js';
import type {Transport} from './parametrization.js';
import {newVariable, Slots} from './slots.js';
import {isGone, mapValues} from './tensors.js';

type NamedTensors = Exclude<Parameters<Optimizer['applyGradients']>[0], Record<string, Tensor>>;

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
 */
export class Inner {
  readonly parameters: (Variable | undefined)[] = [];
  private readonly kept: Slots;

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
    this.kept = new Slots(optimizer, this.parameters);
    // What it remembers of a training before this one belongs to other variables.
    if (Object.values(this.kept.lists()).some(slots => slots.length > 0)) this.forget();
    // MomentumOptimizer leaves a constant to the surrounding tidy, and model.fit runs every step in one.
    for (const tensor of this.kept.tensors()) keep(tensor);
    // Adam's running products are trainable, and minimize without a list would take them for weights.
    for (const scalar of Object.values(this.kept.scalars())) scalar.trainable = false;
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
    this.kept.unpack();
    while (this.parameters.length <= position) this.parameters.push(undefined);
    this.parameters[position] = parameter;
  }

  /** One step of every parameter that has a gradient. The guard, if any, watches what this one remembers. */
  apply(gradients: ReadonlyMap<Variable, Tensor>, guard: Guard | null = null): void {
    this.kept.arrange(this.parameters.filter((p): p is Variable => p !== undefined && gradients.has(p)));
    const entries = this.kept.entries.map(entry => entry.flatMap(i => this.parameters[i] ?? []));
    // tfjs makes a slot wherever it finds none, and wants the name of a variable for it. A position that waits for
    // a saved parameter lends itself another's name, and gives back the slot that this made.
    const lent = [...gradients.keys()][0]!.name;
    const before = mapValues(this.kept.lists(), slots => [...slots]);
    const isMoving = (entry: readonly Variable[]) => entry.some(parameter => gradients.has(parameter));
    guard?.watch([
      ...Object.values(this.kept.scalars()),
      ...Object.values(before).flatMap(slots =>
        slots.flatMap((slot, at) => (slot && isMoving(entries[at]!) ? slot.variable : [])),
      ),
    ]);
    // What another class remembers cannot be put back, as far as it cannot be seen.
    const isHidden = guard !== null && !isOfTfjs(this.optimizer);
    const gradientOf = (parameter: Variable) => {
      const gradient = gradients.get(parameter);
      return gradient && isHidden ? guard.soundOrZero(gradient) : (gradient ?? null);
    };
    const packs = new Map<number, Variable>();
    try {
      tidy(() => {
        const named = entries.map((entry, at) => {
          const [first] = entry;
          if (entry.length < 2) return {name: first?.name ?? lent, tensor: first ? gradientOf(first) : null};
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
    for (const [key, slots] of Object.entries(this.kept.lists())) {
      entries.forEach((entry, i) => {
        if (entry.length > 0 || before[key]?.[i] || !slots[i]) return;
        slots[i].variable.dispose();
        delete slots[i];
      });
      for (const [at, slot] of slots.entries())
        if (slot && !before[key]?.[at]) guard?.watchMade(slot.variable, this.slotStart);
    }
  }

  /** What tfjs makes a slot with: Adagrad's option, else zero. */
  private get slotStart(): number {
    return (this.optimizer as unknown as {initialAccumulatorValue?: number}).initialAccumulatorValue ?? 0;
  }

  /** Forgets the moments of these parameters; the running scalars too, when these are all there are. */
  reset(parameters: ReadonlySet<Variable>): void {
    const isMeant = (i: number) => this.parameters[i] !== undefined && parameters.has(this.parameters[i]);
    if (this.kept.entries.some(entry => entry.some(isMeant) && !entry.every(isMeant))) this.kept.unpack();
    const meant = this.kept.entries.flatMap((entry, at) => (entry.every(isMeant) ? [at] : []));
    for (const slots of Object.values(this.kept.lists())) {
      for (const at of meant) {
        slots[at]?.variable.dispose();
        delete slots[at]; // tfjs makes a slot it does not find
      }
    }
    if (this.parameters.every((_, i) => isMeant(i))) this.resetScalars();
  }

  /** Takes the moments of a parameter over into new coordinates. */
  transport(parameter: Variable, transport: Transport): void {
    this.kept.unpack();
    const i = this.parameters.indexOf(parameter);
    const lists = Object.entries(this.kept.lists()).filter(([, slots]) => slots[i]);
    tidy(() => {
      const held = Object.fromEntries(lists.map(([field, slots]) => [field, slots[i]!.variable]));
      const moved = transported(this.className, held, transport, this.unbiased());
      for (const [field, variable] of Object.entries(held)) variable.assign(moved[field]!);
    });
  }

  /** What Adam divides its means by: `1 - beta^t`, from the running products `beta^(t+1)` that it keeps. */
  private unbiased(): Unbiased {
    const {beta1 = 0, beta2 = 0} = this.optimizer as unknown as {beta1?: number; beta2?: number};
    const {accBeta1, accBeta2} = this.kept.scalars();
    const factor = (product: Variable | undefined, beta: number) => {
      if (!product || beta <= 0) return 1;
      return canRead() ? 1 - read(product)[0]! / beta : sub(1, div(product, beta));
    };
    return {first: factor(accBeta1, beta1), second: factor(accBeta2, beta2)};
  }

  /** Forgets every parameter and moment. */
  forget(): void {
    this.kept.forget();
    this.parameters.length = 0;
    (this.optimizer as unknown as {iterations_: number}).iterations_ = 0;
    this.resetScalars();
  }

  private resetScalars(): void {
    const scalars = this.kept.scalars();
    if (Object.keys(scalars).length === 0) return;
    const cls = this.optimizer.constructor as typeof Optimizer;
    const fresh = new Inner(cls.fromConfig(cls as never, this.optimizer.getConfig()) as unknown as Optimizer);
    for (const [key, scalar] of Object.entries(fresh.kept.scalars())) scalars[key]?.assign(scalar as never);
    fresh.dispose();
  }

  /** Gives up the position of a parameter that is gone, and its moments. */
  drop(parameter: Variable): void {
    const i = this.parameters.indexOf(parameter);
    if (i < 0) return;
    this.kept.unpack();
    for (const slots of Object.values(this.kept.lists())) {
      slots[i]?.variable.dispose();
      delete slots[i];
    }
    this.parameters[i] = undefined;
  }

  /** Live tensors, until the step after next: copy what you keep. */
  state(): InnerState {
    this.kept.unpack();
    if (this.optimizer.iterations > 0 && this.kept.tensors().length === 0 && this.className !== 'SGD') {
      const own = this.optimizer.getWeights !== Optimizer.prototype.getWeights;
      if (own) {
        throw new Error(
          `a ${this.className} keeps its state where it cannot be read, so it cannot be saved: let its fields hold ` +
            "lists of {originalName, variable}, as tfjs's own optimizers do",
        );
      }
    }
    const slots: Record<string, Tensor> = {};
    for (const [key, list] of Object.entries(this.kept.lists())) {
      list.forEach((slot, i) => (slots[`${key}/${i}`] = slot.variable));
    }
    return {iterations: this.optimizer.iterations, scalars: this.kept.scalars(), slots};
  }

  /** Throws when a state cannot be this optimizer's. */
  expect(state: InnerState): void {
    const [lists, scalars] = [this.kept.lists(), this.kept.scalars()];
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
    const scalars = this.kept.scalars();
    for (const [key, tensor] of Object.entries(state.scalars)) scalars[key]?.assign(tensor as never);
    this.kept.unpack();
    const lists = this.kept.lists();
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
    const at = this.kept.entries.findIndex(entry => entry.includes(i));
    // Every moment is as large as what it is of.
    return Object.values(this.kept.lists()).filter(slots => slots[at]).length * 4 * parameter.size;
  }

  /** Bytes of everything it holds now. */
  get bytes(): number {
    return this.kept.tensors().reduce((sum, tensor) => sum + 4 * tensor.size, 0);
  }

  /** Disposes the optimizer and what tfjs's own dispose leaves behind (tfjs issue 4647). */
  dispose(): void {
    owned.delete(this.optimizer);
    const all = this.kept.tensors();
    // Twice would be once too often: it frees the data of tensors that share it.
    if (!all.some(isGone)) this.optimizer.dispose();
    for (const tensor of all) if (!tensor.isDisposed && !isGone(tensor)) tensor.dispose();
  }
}

/** Optimizers that a wrapper works with. */
const owned = new WeakSet<Optimizer>();
