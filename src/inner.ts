import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  keep,
  Optimizer,
  serialization,
  Tensor as TensorClass,
  tidy,
  variable,
  Variable as VariableClass,
} from '@tensorflow/tfjs-core';
import {transported} from './moments.js';
import type {Transport} from './parametrization.js';
import {isGone, mapValues} from './tensors.js';

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
 * Their state is read from the instance: an own property that holds a list of `{originalName, variable}` is a list
 * of slots, one that holds a Variable is a running scalar. That is how all seven of tfjs's optimizers store it, and
 * the only way that also serves Adamax (whose getWeights throws) and Adam's running products bit for bit
 * (whose setWeights computes them anew).
 */
export class Inner {
  readonly parameters: (Variable | undefined)[] = [];

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
    while (this.parameters.length <= position) this.parameters.push(undefined);
    this.parameters[position] = parameter;
  }

  /** One step of every parameter that has a gradient. */
  apply(gradients: ReadonlyMap<Variable, Tensor>): void {
    // tfjs makes a slot wherever it finds none, and wants the name of a variable for it. A position that waits for
    // a saved parameter lends itself another's name, and gives back the slot that this made.
    const lent = [...gradients.keys()][0]!.name;
    const named = Array.from(this.parameters, parameter => ({
      name: parameter?.name ?? lent,
      tensor: (parameter && gradients.get(parameter)) ?? null,
    }));
    const before = mapValues(this.slotLists(), slots => [...slots]);
    this.optimizer.applyGradients(named as unknown as NamedTensors);
    for (const [key, slots] of Object.entries(this.slotLists())) {
      this.parameters.forEach((parameter, i) => {
        if (parameter || before[key]?.[i] || !slots[i]) return;
        slots[i].variable.dispose();
        delete slots[i];
      });
    }
  }

  /** Forgets the moments of these parameters; the running scalars too, when these are all there are. */
  reset(parameters: ReadonlySet<Variable>): void {
    const positions = this.parameters.flatMap((p, i) => (p && parameters.has(p) ? [i] : []));
    for (const slots of Object.values(this.slotLists())) {
      for (const i of positions) {
        slots[i]?.variable.dispose();
        delete slots[i]; // tfjs makes a slot it does not find
      }
    }
    if (positions.length === this.parameters.length) this.resetScalars();
  }

  /** Takes the moments of a parameter over into new coordinates. */
  transport(parameter: Variable, transport: Transport): void {
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
      product && beta > 0 ? 1 - product.dataSync()[0]! / beta : 1;
    return {first: factor(accBeta1, beta1), second: factor(accBeta2, beta2)};
  }

  /** Forgets every parameter and moment. */
  forget(): void {
    for (const slots of Object.values(this.slotLists())) {
      for (const slot of slots) slot?.variable.dispose();
      slots.length = 0;
    }
    this.parameters.length = 0;
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
    for (const slots of Object.values(this.slotLists())) {
      slots[i]?.variable.dispose();
      delete slots[i];
    }
    this.parameters[i] = undefined;
  }

  /** Live tensors: copy what you keep. */
  state(): InnerState {
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
    (this.optimizer as unknown as {iterations_: number}).iterations_ = state.iterations;
    const scalars = this.scalars();
    for (const [key, tensor] of Object.entries(state.scalars)) scalars[key]?.assign(tensor as never);
    this.expect(state);
    const lists = this.slotLists();
    for (const [key, tensor] of Object.entries(state.slots)) {
      const [list, position] = key.split('/') as [string, string];
      const slots = lists[list]!;
      slots[Number(position)]?.variable.dispose();
      slots[Number(position)] = {originalName: key, variable: variable(tensor, false)};
    }
  }

  /** Bytes of the moments of one parameter. */
  bytesOf(parameter: Variable): number {
    const i = this.parameters.indexOf(parameter);
    return Object.values(this.slotLists()).reduce(
      (sum, slots) => sum + 4 * (slots[i]?.variable.size ?? 0),
      0,
    );
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

/** Optimizers that a wrapper works with. */
const owned = new WeakSet<Optimizer>();

function isSlot(value: unknown): value is Slot {
  return typeof value === 'object' && value !== null && (value as Slot).variable instanceof VariableClass;
}
