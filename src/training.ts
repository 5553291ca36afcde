import type {Variable} from '@tensorflow/tfjs-core';
import {dispose} from '@tensorflow/tfjs-core';
import {
  addToSums,
  type Attachment,
  describe,
  disposeProjection,
  keepNamed,
  keepProjection,
  meanOf,
  type Projection,
} from './attachment.js';
import type {OnGradient} from './capture/tape.js';
import type {Checkpoint} from './checkpoint.js';
import {type Undone, Verdicts} from './guard.js';
import type {Inners} from './inners.js';
import {areAllFinite, canRead, expectMovable, findUnusable, type Projected} from './inspect.js';
import type {Roster} from './roster.js';
import type {Settings} from './settings.js';
import {type FactorGradients, madeUnusable, stepFactors} from './step.js';
import {Telemetry} from './telemetry.js';
import {clones, isEmpty, mapValues, type Named} from './tensors.js';

/** The steps of one run: what is captured, projected, stepped and lifted, in this order, and how often. */
export class Training {
  /** Steps taken. */
  steps = 0;
  readonly measurements: Telemetry | null;
  /** Gradients taken since the last step. */
  private pending = 0;
  private skips = 0;
  private readonly verdicts = new Verdicts();
  /** Steps that were undone, of which nobody has been told yet. */
  private readonly untold: Undone[] = [];

  constructor(
    private readonly settings: Settings,
    private readonly roster: Roster,
    private readonly inners: Inners,
  ) {
    this.measurements = settings.telemetry ? new Telemetry() : null;
  }

  /** One step, in the order it happens. Until all gradients are projected and found finite, nothing moves. */
  advance(weights: readonly Variable[], capture: (take: OnGradient) => void): void {
    this.expectDone();
    const attachments = this.roster.forWeights(weights);
    if (attachments.some(({awaits}) => awaits)) {
      this.observe(attachments, capture);
      return;
    }
    const projected = this.project(attachments, capture);
    try {
      if (!this.mayMove(projected)) return;
      this.attach(projected);
      this.measurements?.gather(projected);
      const due = this.accumulate(projected);
      if (due.size > 0) this.move(due);
    } finally {
      projected.forEach(disposeProjection);
    }
  }

  /** Lets weights see gradients before they start. Until all have seen enough, nothing moves. */
  private observe(attachments: readonly Attachment[], capture: (take: OnGradient) => void): void {
    const awaiting = new Map(attachments.filter(({awaits}) => awaits).map(a => [a.weight, a]));
    const seen = new Map<Attachment, Named>();
    try {
      capture((weight, gradient) => {
        const attachment = awaiting.get(weight);
        if (attachment) seen.set(attachment, keepNamed(attachment.observe(gradient)));
      });
      const {nonFinite} = this.settings;
      const isChecked = nonFinite !== 'ignore' && canRead();
      const bad = isChecked ? [...seen].filter(([, sums]) => !areAllFinite(Object.values(sums))) : [];
      if (bad.length > 0) {
        if (nonFinite === 'skip') this.skips++;
        else
          throw this.unusable(
            bad.map(([{weight}]) => describe(weight)),
            'holds NaN or infinity',
          );
        return;
      }
      for (const attachment of awaiting.values()) {
        attachment.remember(seen.get(attachment));
        if (!this.roster.find(attachment.weight)) this.roster.enlist(attachment);
      }
    } finally {
      seen.forEach(sums => dispose(sums));
    }
  }

  /** Projects each gradient as it arrives; a refresh that is due comes first. In the order of the attachments. */
  private project(attachments: readonly Attachment[], capture: (take: OnGradient) => void): Projected {
    const attachmentOf = new Map(attachments.map(attachment => [attachment.weight, attachment]));
    const arrived = new Map<Attachment, Projection>();
    try {
      capture((weight, gradient, how) => {
        const attachment = attachmentOf.get(weight)!;
        arrived.set(
          attachment,
          keepProjection(attachment.project(gradient, attachment.due ?? this.dueNow(attachment))),
        );
        attachment.captured = how;
      });
    } catch (error) {
      arrived.forEach(disposeProjection);
      throw error;
    }
    return new Map(attachments.flatMap(a => (arrived.has(a) ? [[a, arrived.get(a)!] as const] : [])));
  }

  /** The step, where a refresh of this weight is due at it; not while gradients are being gathered. */
  private dueNow({renewing}: Attachment): number | null {
    return this.pending === 0 && renewing.refresh(this.steps) ? this.steps : null;
  }

  /** Whether these gradients may move anything; throws when they must not and nobody said to skip them. */
  private mayMove(projected: Projected): boolean {
    const {nonFinite} = this.settings;
    if (projected.size === 0) return false;
    if (nonFinite === 'ignore' || !canRead()) return true;
    const bad = findUnusable(projected, this.settings.clipNorm !== undefined);
    if (bad.length === 0) {
      expectMovable(projected);
      return true;
    }
    if (nonFinite === 'skip') {
      this.skips++;
      return false;
    }
    const what = bad.every(({isFinite}) => isFinite) ? 'is too large to square' : 'holds NaN or infinity';
    throw this.unusable(
      bad.map(({weight}) => describe(weight)),
      what,
    );
  }

  private unusable(weights: readonly string[], what: string, step = this.steps): Error {
    const names = weights.slice(0, 3);
    if (weights.length > 3) names.push(`${weights.length - 3} more`);
    return new Error(
      `the gradient of ${names.join(', ')} ${what} at step ${step}; nothing was moved. Lower the learning ` +
        `rate, set clipNorm, or pass over such steps with nonFinite: 'skip'`,
    );
  }

  /** Throws for the first step that was undone when it could not be said yet. */
  private expectDone(): void {
    this.hear();
    const undone = this.untold.shift();
    if (!undone) return;
    const {step, weights} = undone;
    if (weights.length > 0)
      throw this.unusable(weights, 'held NaN or infinity, or was too large to square,', step);
    this.inners.reset(new Set(this.roster.attachments.flatMap(({factors}) => Object.values(factors))));
    throw madeUnusable(step);
  }

  /** Takes note of the steps of which it has become known that they were undone. */
  private hear(): void {
    for (const undone of this.verdicts.take()) {
      if (this.settings.nonFinite === 'skip' && undone.weights.length > 0) this.skips++;
      else this.untold.push(undone);
    }
  }

  /** Makes new attachments and refreshes real. */
  private attach(projected: Projected): void {
    const reset = new Set<Variable>();
    // A weight that has no gradient this time is refreshed when it has one.
    for (const attachment of this.roster.attachments)
      attachment.due = this.dueNow(attachment) ?? attachment.due;
    for (const [attachment, projection] of projected) {
      const isNew = isEmpty(attachment.factors);
      attachment.commit(projection);
      if (isNew) this.roster.enlist(attachment);
      else if (projection.fresh) {
        const {factors, renewing} = attachment;
        if (renewing.moments === 'reset') Object.values(factors).forEach(factor => reset.add(factor));
        for (const [key, map] of Object.entries(projection.transport ?? {}))
          this.inners.transport(factors[key]!, map);
      }
    }
    if (reset.size > 0) this.inners.reset(reset);
  }

  /** The gradients to step along: the mean of the last few, or none while they are being gathered. */
  private accumulate(projected: Projected): FactorGradients {
    const {accumulate: k} = this.settings;
    if (k === 1) return new Map([...projected].map(([attachment, {grads}]) => [attachment, grads]));
    if (this.pending + 1 < k) {
      projected.forEach(({grads}, attachment) => addToSums(attachment, grads));
      this.pending++;
      return new Map();
    }
    const due = this.roster.attachments.filter(a => projected.has(a) || a.store.has('sums'));
    return new Map(
      due.map(attachment => [attachment, meanOf(attachment, projected.get(attachment)?.grads, k)]),
    );
  }

  /** Steps the factors and lifts their change into W. The gradients are used up. */
  private move(gradients: FactorGradients): void {
    const before = new Map([...gradients.keys()].map(attachment => [attachment, clones(attachment.factors)]));
    const unlifted = new Map(before);
    try {
      const settled = stepFactors(gradients, this.inners, this.settings, this.steps);
      if (settled) {
        const names = [...gradients.keys()].map(({weight}) => describe(weight));
        this.verdicts.expect(this.steps, settled, names);
      }
      for (const [attachment, factors] of before) {
        const lift = () => attachment.lift(factors);
        if (this.measurements) this.measurements.lifting(attachment, factors, lift);
        else lift();
        unlifted.delete(attachment);
      }
      for (const {store} of gradients.keys()) store.drop('sums');
      this.pending = 0;
      this.measurements?.finish(this.steps, [...gradients.keys()]);
      this.steps++;
    } catch (error) {
      // W and its factors belong together: what was not lifted has not moved.
      for (const [{factors}, old] of unlifted) mapValues(old, (tensor, key) => factors[key]!.assign(tensor));
      throw error;
    } finally {
      dispose([...gradients.values(), ...before.values()]);
    }
  }

  /** Steps that were passed over, as far as it is known. */
  get skipped(): number {
    this.hear();
    return this.skips;
  }

  /** Resolves when it is known of every step whether it was undone; throws as the next step would. */
  async checked(): Promise<void> {
    await this.settled();
    this.expectDone();
  }

  /** Resolves when it is known of every step so far whether it was undone. */
  async settled(): Promise<void> {
    await this.verdicts.settled();
  }

  /** How far it has come. */
  counts(): Pick<Checkpoint, 'steps' | 'pending' | 'skips'> {
    const {steps, pending, skipped: skips} = this;
    return {steps, pending, skips};
  }

  /** Goes on from where another has come. */
  resume({steps, pending, skips}: Pick<Checkpoint, 'steps' | 'pending' | 'skips'>): void {
    this.steps = steps;
    this.pending = pending;
    this.skips = skips;
    this.verdicts.forget();
    this.untold.length = 0;
  }

  dispose(): void {
    this.measurements?.dispose();
    this.verdicts.dispose();
  }
}
