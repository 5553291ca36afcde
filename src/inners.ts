import type {Optimizer, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, keep} from '@tensorflow/tfjs-core';
import type {Guard} from './guard.js';
import {Inner, type InnerConfig, type InnerState} from './inner.js';
import type {Transport} from './parametrization.js';
import type {Where} from './schedule.js';
import {mapValues, type Named} from './tensors.js';

/** One tf.Optimizer for every factor, or a function that makes one for each. */
export type InnerSource = Optimizer | ((where: Required<Where>) => Optimizer);

/** Inner optimizers as JSON. */
export type InnersConfig = {shared: InnerConfig} | {each: (Required<Where> & InnerConfig)[]};

/** What `Inners.source` was given, for the parameters that have no inner optimizer yet. */
const configOf = new WeakMap<InnerSource, InnersConfig>();

/** The inner optimizers of one run: one that is shared, or one for each parameter. */
export class Inners {
  private readonly shared: Inner | undefined;
  private readonly each: Inner[] = [];
  private readonly of = new Map<Variable, {inner: Inner; where: Where}>();
  /** Saved states of inner optimizers that are not made yet, by position. */
  private readonly saved: InnerState[] = [];
  /** What inner optimizers were when they were saved, for the learning rates of those that are not made yet. */
  private readonly adopted = new Map<string, Required<Where> & InnerConfig>();

  constructor(private readonly source: InnerSource) {
    if (typeof source !== 'function') this.shared = new Inner(source);
  }

  get all(): readonly Inner[] {
    return this.shared ? [this.shared] : this.each;
  }

  /** Gives a parameter its inner optimizer, and its position there. */
  add(parameter: Variable, where: Required<Where>, position: number): void {
    if (this.shared) {
      this.shared.add(parameter, position);
      this.of.set(parameter, {inner: this.shared, where: {}});
      return;
    }
    const inner = new Inner((this.source as Exclude<InnerSource, Optimizer>)(where));
    inner.add(parameter);
    this.each[position] = inner;
    this.of.set(parameter, {inner, where});
    const adopted = this.adopted.get(placeOf(where));
    const rate = adopted && rateIn(adopted);
    if (rate !== undefined) inner.learningRate = rate;
    const saved = this.saved[position];
    if (!saved) return;
    inner.restore(saved);
    this.dropSaved(position);
  }

  /** What they remember, by position; live tensors. */
  states(): (InnerState | null)[] {
    if (this.shared) return [this.shared.state()];
    const count = Math.max(this.each.length, this.saved.length);
    return Array.from({length: count}, (_, i) => this.each[i]?.state() ?? this.saved[i] ?? null);
  }

  /** Takes over what `states` gave; the tensors stay the caller's. */
  restore(states: readonly (InnerState | null)[]): void {
    if (this.shared) {
      if (states[0]) this.shared.restore(states[0]);
      return;
    }
    states.forEach((state, i) => {
      if (state) this.saved[i] = copyOf(state);
    });
  }

  /** Throws when `restore` would, with nothing changed. */
  expect(states: readonly (InnerState | null)[]): void {
    if (this.shared && states[0]) this.shared.expect(states[0]);
  }

  /** Throws when an inner optimizer that is made for one of these places could not take over its state. */
  expectEach(
    states: readonly (InnerState | null)[],
    places: readonly Required<Where>[],
    saved: InnersConfig,
  ): void {
    this.expect(states);
    if (this.shared) return;
    places.forEach((where, i) => {
      const state = states[i];
      if (!state) return;
      const inner = new Inner((this.source as Exclude<InnerSource, Optimizer>)(where));
      try {
        const then = 'each' in saved ? saved.each.find(each => placeOf(each) === placeOf(where)) : undefined;
        if (then) expectSameInner(`inner(${placeOf(where)})`, then, inner.config);
        inner.expect(state);
      } finally {
        inner.dispose();
      }
    });
  }

  /** Takes over the learning rates that were saved: at once, or when the inner optimizer is made. */
  adoptRates(saved: InnersConfig): void {
    if (this.shared) {
      const rate = 'shared' in saved ? rateIn(saved.shared) : undefined;
      if (rate !== undefined) this.shared.learningRate = rate;
    } else if ('each' in saved) {
      for (const each of saved.each) this.adopted.set(placeOf(each), each);
    }
  }

  /** Forgets a parameter that is gone. Its position stays empty. */
  drop(parameter: Variable): void {
    const inner = this.of.get(parameter)?.inner;
    if (!inner) return;
    this.of.delete(parameter);
    if (inner === this.shared) {
      inner.drop(parameter);
      return;
    }
    inner.dispose();
    delete this.each[this.each.indexOf(inner)];
  }

  /** Takes back the inner optimizer that one parameter was given; what it remembers waits for its next. */
  remove(parameter: Variable, position: number): void {
    const inner = this.each[position];
    if (!inner || !this.of.delete(parameter)) return;
    this.saved[position] = copyOf(inner.state());
    inner.dispose();
    delete this.each[position];
  }

  private dropSaved(position: number): void {
    const saved = this.saved[position];
    if (saved) dispose([saved.scalars, saved.slots]);
    delete this.saved[position];
  }

  /** Makes them all as good as new. */
  forget(): void {
    this.shared?.forget();
    for (const inner of this.each) inner?.dispose();
    this.each.length = 0;
    this.of.clear();
    this.saved.forEach((_, i) => this.dropSaved(i));
    this.adopted.clear();
  }

  /** Class and settings of each, as JSON. */
  config(): InnersConfig {
    if (this.shared) return {shared: this.shared.config};
    const loaded = configOf.get(this.source);
    const each = new Map(loaded && 'each' in loaded ? loaded.each.map(saved => [placeOf(saved), saved]) : []);
    for (const [place, saved] of this.adopted) each.set(place, saved);
    for (const {inner, where} of this.of.values()) {
      each.set(placeOf(where), {...(where as Required<Where>), ...inner.config});
    }
    return {each: [...each.values()]};
  }

  /** What makes the inner optimizers that `config` described. */
  static source(config: InnersConfig): InnerSource {
    if ('shared' in config) return Inner.build(config.shared);
    const source: InnerSource = where => {
      const found = config.each.find(each => placeOf(each) === placeOf(where));
      if (found) return Inner.build(found);
      throw new Error(
        `the inner optimizers were made by a function of yours when this was saved, and none was saved for ` +
          `${placeOf(where)}: build the optimizer with that function again and pass it the saved weights`,
      );
    };
    configOf.set(source, config);
    return source;
  }

  /** Moments that each trained number takes, as far as it is known. */
  get momentsPerNumber(): number {
    const className = this.all.find(inner => inner)?.className ?? '';
    return {Momentum: 1, Adam: 2, Adamax: 2, RMSProp: 2, Adagrad: 1, Adadelta: 2}[className] ?? 0;
  }

  /** Sets every learning rate for the step to come. */
  schedule(rateAt: (where: Where) => number): void {
    const places = this.shared ? [{inner: this.shared, where: {}}] : [...this.of.values()];
    const rates = places.map(({where}) => rateAt(where));
    places.forEach(({inner}, i) => (inner.learningRate = rates[i]!));
  }

  /** Sets every learning rate, also of those that are not made yet and have a saved one. */
  setRate(rate: number): void {
    this.schedule(() => rate);
    for (const [place, saved] of this.adopted) {
      this.adopted.set(place, {...saved, config: {...saved.config, learningRate: rate}});
    }
  }

  rateOf(parameter: Variable): number {
    return this.of.get(parameter)!.inner.learningRate;
  }

  apply(gradients: ReadonlyMap<Variable, Tensor>, guard: Guard | null = null): void {
    // One of its own sees only steps in which its parameter has a gradient, so that its bias correction is right.
    for (const inner of this.all) {
      if (inner && inner.parameters.some(p => p && gradients.has(p))) inner.apply(gradients, guard);
    }
  }

  transport(parameter: Variable, transport: Transport): void {
    this.of.get(parameter)!.inner.transport(parameter, transport);
  }

  /** The class of the inner optimizer of a parameter. */
  classOf(parameter: Variable): string {
    return this.of.get(parameter)!.inner.className;
  }

  reset(parameters: ReadonlySet<Variable>): void {
    for (const inner of this.all) inner?.reset(parameters);
  }

  get bytes(): number {
    const waiting = this.saved.flatMap(({scalars, slots}) => Object.values({...scalars, ...slots}));
    return (
      this.all.reduce((sum, inner) => sum + (inner?.bytes ?? 0), 0) +
      waiting.reduce((sum, tensor) => sum + 4 * tensor.size, 0)
    );
  }

  /** The moments of one parameter, in bytes. */
  bytesOf(parameter: Variable): number {
    return this.of.get(parameter)?.inner.bytesOf(parameter) ?? 0;
  }

  dispose(): void {
    for (const inner of this.all) inner?.dispose();
    this.saved.forEach((_, i) => this.dropSaved(i));
  }
}

/** The learning rate among the settings of an optimizer of tfjs. */
function rateIn({config}: InnerConfig): number | undefined {
  const rate = config['learningRate'];
  return typeof rate === 'number' && Number.isFinite(rate) ? rate : undefined;
}

/** Throws when two inner optimizers are of different classes or settings; the learning rate may have been set by hand. */
export function expectSameInner(where: string, then: InnerConfig, now: InnerConfig): void {
  if (then.className !== now.className) {
    throw new Error(`${where} was a ${then.className} when this was saved, and is a ${now.className} now`);
  }
  for (const key of new Set([...Object.keys(then.config), ...Object.keys(now.config)])) {
    const [was, is] = [then.config[key], now.config[key]].map(value => JSON.stringify(value) ?? 'not set');
    if (key === 'learningRate' || was === is) continue;
    throw new Error(
      `${where}: ${key} of the ${now.className} was ${was} when this was saved, and is ${is} now`,
    );
  }
}

const placeOf = ({weight, factor}: Where) => `${weight}/${factor}`;

function copyOf(state: InnerState): InnerState {
  const keepAll = (tensors: Named) => mapValues(tensors, tensor => keep(tensor.clone()));
  return {...state, scalars: keepAll(state.scalars), slots: keepAll(state.slots)};
}
