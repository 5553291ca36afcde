import type {DataId, Tensor, Variable} from '@tensorflow/tfjs-core';
import {keep, tidy} from '@tensorflow/tfjs-core';
import {expectNumber, expectOneOf, expectOptions} from '../options.js';
import {isGone} from '../tensors.js';
import type {Adapter} from './adapter.js';
import {type BaseCheck, bind, type Bound, expectBase} from './bind.js';
import {changeFrom, type Share, withShares} from './effect.js';
import {expectAdapter, expectWeights} from './expect.js';
import {largest, MAX_FLOAT} from './largest.js';
import {expectFinite} from './merge.js';
import type {WeightsOf} from './paths.js';
import {errorOf, visible} from './untrusted.js';

export interface AdapterSetOptions {
  /** `'check'` (default): adapters must have been trained on these weights. `'ignore'`: any of these shapes. */
  readonly base?: BaseCheck;
}

/** Which adapters are in use: one, several with how much of each, or none. */
export type Use = string | Readonly<Record<string, number>> | null;

/** A weight that some adapter is for. */
interface Touched {
  readonly path: string;
  /** W0 */
  readonly base: Tensor;
  /** max |W0| */
  readonly most: number;
  /** What the variable holds by this set's doing. */
  set: DataId;
}

/** A weight of an adapter, and max |Phi(W0) - W0|. */
type Measured = Bound & {readonly most: number};
type MeasuredShare = Share & {readonly most: number};

/**
 * Several adapters by name on one model, switched without loading anything:
 *
 *     const set = new AdapterSet(model);
 *     await set.add('french', french);
 *     await set.add('formal', formal);
 *     set.use('french');                            W = Phi(W0, theta), as trained
 *     set.use({french: 0.7, formal: 0.3});          W = W0 + sum_i w_i (Phi_i(W0) - W0)
 *     set.use(null);                                W = W0, bit for bit
 *
 * Every switch starts at W0: the weights are the same numbers however one got there, and the order of names says nothing.
 * The adapters may be for different weights and of different parametrizations. The sum is of changes, not of factors.
 *
 * Memory on the device: W0 of every weight that an adapter is for, once, however many adapters there are. The adapters
 * stay host data, and are sent to the device at each switch.
 */
export class AdapterSet {
  private readonly adapters = new Map<string, readonly Measured[]>();
  private readonly touched = new Map<Variable, Touched>();
  private readonly base: BaseCheck;
  private current: Use = null;
  private disposed = false;

  /** @param model With the weights that the adapters were trained on: nothing merged. */
  constructor(
    private readonly model: WeightsOf,
    options: AdapterSetOptions = {},
  ) {
    expectOptions('AdapterSet', options, ['base']);
    expectWeights('AdapterSet', model);
    const {base = 'check'} = options;
    expectOneOf('AdapterSet: base', base, ['check', 'ignore']);
    this.base = base;
  }

  /** The names, in the order they were added. */
  get names(): readonly string[] {
    return [...this.adapters.keys()];
  }

  /** What `use` was last given. */
  get active(): Use {
    return typeof this.current === 'object' && this.current ? {...this.current} : this.current;
  }

  /**
   * Makes an adapter known under a name. The model stays as it is.
   *
   * @throws Error when the name is taken or the adapter does not fit the model, as `mergeAdapter`; nothing is added then.
   */
  async add(name: string, adapter: Adapter): Promise<void> {
    this.expectNew(name);
    expectAdapter(`add: '${name}'`, adapter);
    this.expectOwn();
    const bound = bind(this.model, adapter);
    const held = bound.map(({variable, path}) => {
      const {base, set} = this.touched.get(variable) ?? {base: variable, set: variable.dataId};
      return {path, variable, base: keep(base.clone()), set};
    });
    let most: {readonly base: number[]; readonly change: number[]};
    try {
      if (this.base === 'check') await expectBase(bound.map((one, i) => ({...one, base: held[i]!.base})));
      const made: Tensor[] = [];
      try {
        bound.forEach(({entry}, i) =>
          made.push(keep(tidy(() => withShares(held[i]!.base, [{entry, scale: 1}])))),
        );
        await expectFinite(made, i => bound[i]!.path);
      } finally {
        made.forEach(tensor => tensor.dispose());
      }
      most = {
        base: await largest(() => held.map(({base}) => base)),
        change: await largest(() => bound.map(({entry}, i) => changeFrom(held[i]!.base, entry))),
      };
      this.expectNew(name);
      for (const {variable, path, set} of held) {
        if (!this.touched.has(variable) && variable.dataId !== set)
          throw changed(path, `'${name}' was being added`);
      }
    } catch (error) {
      held.forEach(({base}) => base.dispose());
      throw error;
    }
    held.forEach(({variable, path, base, set}, i) => {
      if (this.touched.has(variable)) base.dispose();
      else this.touched.set(variable, {path, base, set, most: most.base[i]!});
    });
    this.adapters.set(
      name,
      bound.map((one, i) => ({...one, most: most.change[i]!})),
    );
  }

  /**
   * Switches the model: to one adapter, to several, each with a factor for its change, or back to the base with null.
   * All weights change or none. At once: no numbers are read.
   *
   * @throws Error when a name is not known, when a factor is so large that a weight might pass what float32 holds, or a
   *     weight was changed by something else since the last switch (a training step, a merge): that would be lost.
   */
  use(which: Use): void {
    this.expectAlive();
    const shares = this.sharesOf(which);
    this.expectOwn();
    const made: [Variable, Tensor][] = [];
    try {
      for (const [variable, {base}] of this.touched) {
        made.push([variable, keep(tidy(() => withShares(base, shares.get(variable) ?? [])))]);
      }
      for (const [variable, tensor] of made) this.assign(variable, tensor);
    } finally {
      made.forEach(([, tensor]) => tensor.dispose());
    }
    this.current = which !== null && typeof which === 'object' ? {...which} : which;
  }

  /** Forgets an adapter, and the bases that no other needs. Throws when it is in use. */
  remove(name: string): void {
    this.expectAlive();
    this.expectKnown(name);
    const {current} = this;
    if (
      current === name ||
      (current !== null && typeof current === 'object' && Object.hasOwn(current, name))
    ) {
      throw errorOf(`'${name}' is in use: use(null) or another adapter first`);
    }
    this.adapters.delete(name);
    const needed = new Set([...this.adapters.values()].flatMap(bound => bound.map(({variable}) => variable)));
    for (const [variable, {base}] of this.touched) {
      if (needed.has(variable)) continue;
      base.dispose();
      this.touched.delete(variable);
    }
  }

  /** Gives the model its base back, and frees what is kept. Weights that something else changed stay as they are. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    for (const [variable, {base, set}] of this.touched) {
      if (!isGone(variable) && variable.dataId === set) variable.assign(base);
      base.dispose();
    }
    this.touched.clear();
    this.adapters.clear();
    this.current = null;
  }

  /** What of each weight is wanted, in the order the adapters were added. */
  private sharesOf(which: Use): Map<Variable, MeasuredShare[]> {
    const scales = typeof which === 'string' ? {[which]: 1} : (which ?? {});
    if (typeof scales !== 'object' || Array.isArray(scales)) {
      throw new TypeError('use: give a name, numbers by name such as {french: 0.7, formal: 0.3}, or null');
    }
    for (const [name, scale] of Object.entries(scales)) {
      this.expectKnown(name);
      expectNumber(`use: ${name}`, scale, 'a finite number', () => true);
    }
    const shares = new Map<Variable, MeasuredShare[]>();
    for (const [name, bound] of this.adapters) {
      if (!Object.hasOwn(scales, name)) continue;
      for (const {variable, entry, most} of bound) {
        shares.set(variable, [...(shares.get(variable) ?? []), {entry, most, scale: scales[name]!}]);
      }
    }
    for (const [variable, own] of shares) this.expectWithin(this.touched.get(variable)!, own, scales);
    return shares;
  }

  /**
   * Throws unless `max |W0| + sum_i |w_i| max |Phi_i(W0) - W0|` is a float32, which then every number on the way to W is.
   * One adapter at its full strength was looked at when it was added.
   */
  private expectWithin(
    {path, base, most}: Touched,
    shares: readonly MeasuredShare[],
    scales: Readonly<Record<string, number>>,
  ): void {
    const counting = shares.filter(({scale}) => scale !== 0);
    if (counting.length === 1 && counting[0]!.scale === 1) return;
    const bound = counting.reduce((sum, share) => sum + Math.abs(share.scale) * share.most, most);
    const isFloat = ({scale}: Share) => Math.abs(scale) <= MAX_FLOAT;
    if (bound <= MAX_FLOAT && counting.every(isFloat)) return;
    throw new RangeError(
      visible(
        `use: with ${JSON.stringify(scales)} the numbers of ${path} [${base.shape}] could be ${bound.toPrecision(2)}, and ` +
          'float32 ends at 3.4e+38. Nothing was changed: give factors near 1',
      ),
    );
  }

  private assign(variable: Variable, tensor: Tensor): void {
    variable.assign(tensor);
    this.touched.get(variable)!.set = variable.dataId;
  }

  private expectOwn(): void {
    for (const [variable, {path, set}] of this.touched) {
      if (isGone(variable)) throw errorOf(`${path} was disposed: dispose the AdapterSet too`);
      if (variable.dataId !== set) throw changed(path, 'this AdapterSet last set it');
    }
  }

  private expectNew(name: string): void {
    this.expectAlive();
    if (typeof name !== 'string' || name === '') throw new TypeError('add: an adapter needs a name');
    if (this.adapters.has(name)) throw errorOf(`there is an adapter '${name}' already: remove it first`);
  }

  private expectKnown(name: string): void {
    if (this.adapters.has(name)) return;
    const names = this.names.map(known => `'${known}'`).join(', ') || 'none';
    throw errorOf(`there is no adapter '${name}'; there are ${names}`);
  }

  private expectAlive(): void {
    if (this.disposed) throw errorOf('this AdapterSet was disposed');
  }
}

function changed(path: string, since: string): Error {
  return errorOf(
    `${path} was changed by something else since ${since} (a training step, a merge), and that would be lost. Dispose ` +
      'the AdapterSet, which leaves such weights as they are, and make another',
  );
}
