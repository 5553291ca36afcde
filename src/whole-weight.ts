import type {Tensor, Variable} from '@tensorflow/tfjs-core';
import {reshape} from '@tensorflow/tfjs-core';
import {type Attachment, describe, type Holding, newStore, type Projection} from './attachment.js';
import type {CapturedHow} from './capture/tape.js';
import type {Gradient} from './parametrization.js';
import {never} from './schedule.js';
import type {Store, Variables} from './store.js';
import {isEmpty, type Named, sumOfSquares, tidied} from './tensors.js';

/** A weight that the inner optimizer moves as it is: the rule 'train'. Its one factor is the weight. */
export class WholeWeight implements Attachment {
  readonly parametrization = null;
  readonly store: Store;
  refreshed = false;
  captured: CapturedHow | null = null;
  due: number | null = null;
  observed = 0;
  readonly renewing = {refresh: never, moments: 'keep'} as const;
  readonly awaits = false;
  factors: Variables = {};

  constructor(
    readonly weight: Variable,
    readonly name: string,
    private readonly holding: Holding,
  ) {
    this.store = newStore(name);
  }

  project(gradient: Gradient): Projection {
    return tidied(() => {
      const grads = {weight: reshape(gradient.dense(), this.weight.shape)};
      const fresh = isEmpty(this.factors) ? {factors: {}} : null;
      return {fresh, transport: null, grads, norm2: sumOfSquares(grads), gradientNorm2: null};
    });
  }

  commit({fresh}: Projection): void {
    if (!fresh) return;
    this.factors = {weight: this.weight};
    if (this.keepsStart) this.store.put('start', this.factors);
  }

  observe(): Named {
    return {};
  }

  remember(): void {}

  isDead(): boolean {
    return false;
  }

  /** The inner optimizer has moved the weight itself. */
  lift(): void {}

  base(): Tensor {
    const {weight} = this.store.get('start');
    if (weight) return weight.clone();
    throw new Error(
      `${describe(this.weight)} is trained as it is, so its base is known only with keepBase: true`,
    );
  }

  checkRestored(): void {
    this.factors = {weight: this.weight};
    if (this.keepsStart && isEmpty(this.store.get('start'))) this.store.put('start', this.factors);
  }

  private get keepsStart(): boolean {
    return this.holding.keepBase || this.holding.keepStart;
  }
}
