import type {Tensor, Tensor2D, Variable} from '@tensorflow/tfjs-core';
import {add, reshape, sub, Tensor as TensorClass, tidy} from '@tensorflow/tfjs-core';
import {type Attachment, describe, type Holding, newStore, type Projection} from './attachment.js';
import * as calculus from './calculus.js';
import {denseGradient} from './capture/gradient.js';
import type {CapturedHow} from './capture/tape.js';
import type {Fresh, Gradient, Parametrization, Transport} from './parametrization.js';
import {normal, splitSeed} from './random.js';
import {type Renewing, renewing} from './renewal.js';
import type {Store, Variables} from './store.js';
import {matrixShape} from './targets.js';
import {clones, isEmpty, mapValues, type Named, reshaped, sumOfSquares, tidied} from './tensors.js';

/** A weight that moves through the factors of a parametrization. */
export class ParametrizedWeight implements Attachment {
  readonly store: Store;
  refreshed = false;
  captured: CapturedHow | null = null;
  due: number | null = null;
  observed = 0;
  readonly renewing: Renewing;
  private readonly shape: [m: number, n: number];

  constructor(
    readonly weight: Variable,
    readonly name: string,
    readonly parametrization: Parametrization,
    private readonly holding: Holding,
  ) {
    this.store = newStore(name);
    this.shape = matrixShape(weight.shape);
    this.renewing = renewing(parametrization, holding.renewal);
  }

  get factors(): Variables {
    return this.store.get('factors');
  }

  get awaits(): boolean {
    return isEmpty(this.factors) && this.observed + 1 < (this.parametrization.observe?.steps ?? 1);
  }

  observe(gradient: Gradient): Named {
    const {observe, name} = this.parametrization;
    const {shape} = this;
    return tidied(() => {
      const sums = this.store.has('sketch')
        ? this.store.get('sketch')
        : observe!.begin({shape, seed: this.seedOf(0)});
      const more = observe!.add(sums, gradient);
      expectAlike(`${name} on ${describe(this.weight)}: observe.add`, sums, more);
      return clones(more);
    });
  }

  remember(sums: Named | undefined): void {
    this.observed++;
    if (sums) this.store.put('sketch', sums);
  }

  project(gradient: Gradient, due: number | null): Projection {
    const p = this.parametrization;
    const isNew = isEmpty(this.factors);
    return tidied(() => {
      const chosen = isNew ? this.begin(gradient) : this.renew(gradient, due);
      // Clones, because a parametrization may hand back what it was given, or one tensor under two names.
      const fresh = chosen && {factors: clones(chosen.factors), frozen: clones(chosen.frozen ?? {})};
      const state = fresh ? this.stateOf(fresh) : this.state();
      const transport = fresh && !isNew ? this.transport(state) : null;
      const where = `${p.name} on ${describe(this.weight)}`;
      let grads: Named = calculus.pullback(p, state, gradient);
      expectAlike(`${where}: pullback`, state.factors, grads);
      if (p.precondition) {
        grads = p.precondition(state as never, grads, gradient);
        expectAlike(`${where}: precondition`, state.factors, grads);
      }
      return {
        fresh,
        transport,
        grads: clones(grads),
        norm2: sumOfSquares(grads),
        gradientNorm2: isNew ? gradient.norm2() : null,
      };
    });
  }

  isDead({fresh}: Projection): boolean {
    if (!fresh) return false;
    const [m, n] = this.shape;
    const norm2 = tidy(() => {
      const any = denseGradient(normal([m, n], splitSeed(this.holding.seed, this.name, 'any')), [m, n]);
      return sumOfSquares(calculus.pullback(this.parametrization, this.stateOf(fresh), any)).dataSync()[0]!;
    });
    return norm2 === 0;
  }

  commit({fresh}: Projection): void {
    if (!fresh) return;
    const {store, holding} = this;
    this.refreshed = !isEmpty(this.factors);
    this.due = null;
    this.store.drop('sketch');
    tidy(() => {
      // From the first refresh on, the base of the moment is not the weight before training.
      if (holding.keepBase && this.refreshed && !store.get('base')['first']) {
        store.put('base', {first: store.get('base')['last']!});
      }
      if (this.needsBase) store.put('base', {last: this.weight});
      store.put('factors', fresh.factors);
      store.put('frozen', fresh.frozen ?? {});
      if (holding.keepStart) store.put('start', fresh.factors);
    });
  }

  lift(before: Named): void {
    tidy(() => {
      const {parametrization: p, weight} = this;
      const state = this.state();
      if (calculus.isComposed(p)) {
        weight.assign(reshaped(calculus.phi(p, state), weight.shape));
        return;
      }
      // From a base that is kept, W has no rounding of earlier steps in it.
      const from = this.store.get('base')['last'] ?? weight;
      const change = from === weight ? calculus.lift(p, {...state, factors: before}, state) : p.delta(state);
      weight.assign(add(from, reshape(change, weight.shape)));
    });
  }

  base(): Tensor {
    const {first, last} = this.store.get('base');
    if (this.refreshed && !first) {
      throw new Error(
        `${describe(this.weight)} was refreshed, so its first base is known only with keepBase: true`,
      );
    }
    return tidy(() => {
      const kept = first ?? last;
      if (kept) return kept.clone();
      return sub(this.weight, reshape(calculus.phi(this.parametrization, this.state()), this.weight.shape));
    });
  }

  checkRestored(): void {
    if (this.observed > 0 && isEmpty(this.factors)) return;
    if (isEmpty(this.factors)) throw new Error(`the saved state of ${describe(this.weight)} has no factors`);
    if (this.needsBase && !this.store.get('base')['last']) {
      throw new Error(
        `the saved state of ${describe(this.weight)} has no base: it was saved without keepBase`,
      );
    }
    if (this.holding.keepStart && isEmpty(this.store.get('start'))) this.store.put('start', this.factors);
    const moved = tidy(() => calculus.phi(this.parametrization, this.state()).shape);
    if (moved.length !== 2 || moved.some((axis, i) => axis !== this.shape[i])) {
      throw new Error(
        `the saved state is for a weight of [${moved}], and ${describe(this.weight)} is [${this.shape}] as a matrix`,
      );
    }
  }

  private get needsBase(): boolean {
    return this.holding.keepBase || calculus.isComposed(this.parametrization);
  }

  private begin(gradient: Gradient): Fresh {
    const {init, observe} = this.parametrization;
    const sketch = observe && observe.steps > 1 ? this.observe(gradient) : undefined;
    const fresh = init({weight: this.matrix(), gradient, seed: this.seedOf(0), ...(sketch && {sketch})});
    return expectTensors(`${this.parametrization.name} on ${describe(this.weight)}: init`, fresh);
  }

  /** A refresh that is due; not while gradients of the subspace there is are being gathered. */
  private renew(gradient: Gradient, step: number | null): Fresh | null {
    const {parametrization: p, store} = this;
    if (step === null || store.has('sums') || !p.refresh) return null;
    const where = `${p.name} on ${describe(this.weight)}: refresh`;
    const given = {weight: this.matrix(), gradient, seed: this.seedOf(step), step};
    const fresh = expectTensors(where, p.refresh(this.state() as never, given));
    expectAlike(where, this.factors, fresh.factors);
    expectAlike(`${where}, frozen part`, store.get('frozen'), fresh.frozen ?? {});
    return fresh;
  }

  /** How the moments get to a state chosen anew, where they are to. */
  private transport(next: calculus.HeldState): Record<string, Transport> | null {
    const {parametrization: p, renewing} = this;
    if (renewing.moments !== 'transport' || !p.transport) return null;
    const maps: Record<string, Transport> = p.transport(this.state() as never, next as never);
    // Handles of their own: two factors may share a map.
    return mapValues(maps, ({left, right}) => ({
      ...(left && {left: left.clone()}),
      ...(right && {right: right.clone()}),
    }));
  }

  private seedOf(step: number): number {
    return splitSeed(this.holding.seed, this.name, step);
  }

  private stateOf({factors, frozen = {}}: Fresh): calculus.HeldState {
    return {factors, frozen, ...(this.needsBase && {base: this.matrix()})};
  }

  private state(): calculus.HeldState {
    const base = this.store.get('base')['last'];
    const state = {factors: this.factors, frozen: this.store.get('frozen')};
    return base ? {...state, base: reshape(base, this.shape) as Tensor2D} : state;
  }

  private matrix(): Tensor2D {
    return reshape(this.weight, this.shape);
  }
}

function expectTensors(where: string, fresh: Fresh): Fresh {
  if (!fresh || typeof fresh !== 'object' || !fresh.factors) {
    throw new TypeError(`${where} must return {factors, frozen?}, not ${String(fresh)}`);
  }
  if (isEmpty(fresh.factors)) throw new TypeError(`${where} returned no factors`);
  for (const [key, value] of Object.entries<unknown>({...fresh.frozen, ...fresh.factors})) {
    if (!(value instanceof TensorClass))
      throw new TypeError(`${where} returned '${key}', which is no tensor`);
    if (key in fresh.factors && value.dtype !== 'float32') {
      throw new TypeError(`${where} returned the factor '${key}' as ${value.dtype}; it must be float32`);
    }
  }
  return fresh;
}

function expectAlike(where: string, expected: Named, given: Named): void {
  for (const key of new Set([...Object.keys(expected), ...Object.keys(given)])) {
    const [want, got] = [expected[key]?.shape, given[key]?.shape];
    if (!want) throw new Error(`${where} returned '${key}', which is not there; there are ${keys(expected)}`);
    if (!got) throw new Error(`${where} did not return '${key}'`);
    if (String(want) !== String(got)) {
      throw new Error(`${where} returned '${key}' of shape [${got}] where [${want}] is needed`);
    }
  }
}

const keys = (record: Named) =>
  Object.keys(record)
    .map(key => `'${key}'`)
    .join(', ') || 'none';
