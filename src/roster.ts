import {dispose, keep, type Variable} from '@tensorflow/tfjs-core';
import {type Attachment, describe, type Holding} from './attachment.js';
import {matchSaved, type SavedWeight} from './checkpoint.js';
import type {Inners} from './inners.js';
import {ParametrizedWeight} from './parametrized-weight.js';
import {toJson} from './recipe.js';
import {expectMoments} from './renewal.js';
import {plainName, type Plan} from './targets.js';
import {isGone, mapValues} from './tensors.js';
import {WholeWeight} from './whole-weight.js';

/**
 * Which weights are attached, in the order that the inner optimizer's moments go by. Weights are known by identity,
 * never by position: freezing, another model or another order of variables changes nothing.
 *
 * Saved weights wait in their places until the weight they belong to is seen.
 */
export class Roster {
  private readonly places: (Attachment | SavedWeight)[] = [];
  private told = false;
  private readonly byWeight = new Map<Variable, Attachment>();

  constructor(
    private readonly plan: Plan,
    private readonly inners: Inners,
    readonly holding: Holding,
  ) {}

  get attachments(): readonly Attachment[] {
    return [...this.byWeight.values()];
  }

  find(weight: Variable): Attachment | undefined {
    return this.byWeight.get(weight);
  }

  /** The attachment of each weight: the one it has, a saved one, or a new one that is not enlisted yet. */
  forWeights(weights: readonly Variable[]): Attachment[] {
    this.prune();
    const unknown = weights.filter(weight => !this.byWeight.has(weight));
    this.bindSaved(unknown);
    const names = new Set(this.places.map(({name}) => name));
    return weights.map(weight => {
      const known = this.byWeight.get(weight);
      if (known) return living(known);
      // tfjs numbers equal names as models come and go; counting within this optimizer repeats from run to run.
      let name = plainName(weight.name);
      for (let i = 1; names.has(name); i++) name = `${plainName(weight.name)}#${i}`;
      names.add(name);
      return this.attachmentFor(weight, name);
    });
  }

  /** Saved states that no weight was found for so far. */
  get waiting(): readonly SavedWeight[] {
    return this.places.filter((entry): entry is SavedWeight => !isAttachment(entry) && !entry.gone);
  }

  /**
   * Binds saved states that wait to those of these weights that they are of, as a step would. All or nothing.
   *
   * @param chosen Those of them that are trained, where their own `trainable` does not tell.
   */
  bind(weights: readonly Variable[], chosen: ReadonlySet<Variable> | null): void {
    const isTrained = (weight: Variable) => weight.trainable && (chosen?.has(weight) ?? true);
    const unknown = weights.filter(
      weight => !isGone(weight) && !this.byWeight.has(weight) && this.plan.trains(weight),
    );
    this.bindSaved(unknown.filter(isTrained));
    // One that is frozen for now keeps its factors, as it would without a save in between.
    const names = new Set(this.waiting.map(({weight}) => plainName(weight)));
    this.bindSaved(unknown.filter(weight => !isTrained(weight) && names.has(plainName(weight.name))));
  }

  /**
   * Gives an attachment its place, and its factors their positions in the inner optimizer. One that was enlisted
   * without factors, because it was to see gradients first, comes to the end.
   */
  enlist(attachment: Attachment): void {
    const before = this.places.indexOf(attachment);
    if (before >= 0) this.places.splice(before, 1);
    this.byWeight.delete(attachment.weight);
    this.place(attachment, this.places.length, Object.keys(attachment.factors));
  }

  /** Everything attached or waiting, as it is saved; live tensors. */
  saved(): SavedWeight[] {
    return this.places.map(entry => {
      if (!isAttachment(entry)) return entry;
      const {name, weight, factors, refreshed, observed, due, store, parametrization} = entry;
      return {
        name,
        weight: weight.name,
        shape: weight.shape,
        parametrization: parametrization && toJson(parametrization),
        due,
        factors: Object.keys(factors),
        refreshed,
        observed,
        tensors: store.all(),
      };
    });
  }

  /** Waits for the weights of these; the tensors stay the caller's. */
  restore(saved: readonly SavedWeight[]): void {
    for (const entry of saved) {
      this.places.push({...entry, tensors: mapValues(entry.tensors, tensor => keep(tensor.clone()))});
    }
  }

  get bytes(): number {
    const tensors = this.saved().flatMap(entry => Object.values(entry.tensors));
    return tensors.reduce((sum, tensor) => sum + 4 * tensor.size, 0);
  }

  dispose(): void {
    for (const entry of this.places) {
      if (isAttachment(entry)) entry.store.dispose();
      else dispose({...entry.tensors});
    }
    this.places.length = 0;
    this.byWeight.clear();
  }

  /** Lets go of weights that were disposed with their model; their places stay, empty. */
  private prune(): void {
    for (const [weight, attachment] of this.byWeight) {
      if (!isGone(weight)) continue;
      const {name, factors, store} = attachment;
      const empty = {name, weight: '', shape: [], parametrization: null, refreshed: false, due: null};
      this.places[this.places.indexOf(attachment)] = {
        ...empty,
        factors: Object.keys(factors),
        gone: true,
        tensors: {},
      };
      for (const factor of Object.values(factors)) this.inners.drop(factor);
      store.dispose();
      this.byWeight.delete(weight);
    }
  }

  private bindSaved(weights: readonly Variable[]): void {
    const {waiting} = this;
    if (waiting.length === 0 || weights.length === 0) return;
    const matches = matchSaved(weights, waiting, this.byWeight.size === 0);
    this.warnOfLeftovers(weights, waiting, matches);
    const found: {attachment: Attachment; saved: SavedWeight}[] = [];
    try {
      weights.forEach((weight, i) => {
        const saved = matches[i];
        if (saved) found.push({attachment: this.restored(weight, saved), saved});
      });
    } catch (error) {
      for (const {attachment} of found) attachment.store.dispose();
      throw error;
    }
    while (found.length > 0) {
      const {attachment, saved} = found.shift()!;
      try {
        this.place(attachment, this.places.indexOf(saved), saved.factors);
      } catch (error) {
        for (const other of found) other.attachment.store.dispose();
        throw error;
      }
      dispose({...saved.tensors});
    }
  }

  /**
   * Throws where a saved weight could not be bound to the weight of its name, or that is not among these; nothing has
   * changed then or else. A saved one whose name is none of these will wait.
   */
  expect(saved: readonly SavedWeight[], weights: readonly Variable[]): void {
    for (const weight of weights) {
      const entry = saved.find(({weight: name, gone}) => name === weight.name && !gone);
      if (!entry) continue;
      if (!this.plan.trains(weight)) {
        throw new Error(
          `there is a saved state of ${describe(weight)}, and the rules freeze it: build the optimizer with its targets`,
        );
      }
      this.restored(weight, entry).store.dispose();
    }
  }

  /** The attachment that was saved, with no place yet. */
  private restored(weight: Variable, saved: SavedWeight): Attachment {
    if (String(saved.shape) !== String(weight.shape)) {
      throw new Error(
        `the saved state of ${saved.weight} is for the shape [${saved.shape}], and ${describe(weight)} takes its place`,
      );
    }
    const attachment = this.attachmentFor(weight, saved.name);
    const [then, now] = [saved.parametrization, attachment.parametrization].map(p =>
      JSON.stringify(p && toJson(p)),
    );
    if (then !== now) {
      throw new Error(
        `the saved state of ${describe(weight)} is of ${madeBy(then)}, and now it is ${madeBy(now)}: build the ` +
          'optimizer with the targets and options it was saved with',
      );
    }
    try {
      attachment.store.restore(saved.tensors);
      attachment.refreshed = saved.refreshed;
      attachment.due = saved.due;
      attachment.observed = saved.observed ?? 0;
      attachment.checkRestored();
    } catch (error) {
      attachment.store.dispose();
      throw error;
    }
    return attachment;
  }

  /** A weight that starts anew beside a saved one that finds no weight was probably renamed. */
  private warnOfLeftovers(
    weights: readonly Variable[],
    waiting: readonly SavedWeight[],
    matches: readonly (SavedWeight | undefined)[],
  ): void {
    const anew = weights.filter((_, i) => !matches[i]).map(describe);
    const left = waiting
      .filter(entry => !matches.includes(entry))
      .map(entry => `${entry.weight} [${entry.shape}]`);
    if (this.told || anew.length === 0 || left.length === 0) return;
    this.told = true;
    console.warn(
      `tfjs-lora: ${anew.join(', ')} start anew, while the saved state of ${left.join(', ')} waits for weights of ` +
        'these names. Were layers renamed?',
    );
  }

  private place(attachment: Attachment, index: number, factors: readonly string[]): void {
    const first = this.places.slice(0, index).reduce((sum, entry) => sum + factorNames(entry).length, 0);
    const {name: weight} = attachment;
    try {
      factors.forEach((factor, i) =>
        this.inners.add(attachment.factors[factor]!, {weight, factor}, first + i),
      );
      if (attachment.parametrization && factors.length > 0) {
        const className = this.inners.classOf(attachment.factors[factors[0]!]!);
        expectMoments(attachment.parametrization, attachment.renewing, className);
      }
    } catch (error) {
      // A function that makes inner optimizers failed: the weight stays as unknown, or as saved, as it was.
      factors.forEach((factor, i) => this.inners.remove(attachment.factors[factor]!, first + i));
      attachment.store.dispose();
      throw error;
    }
    this.places[index] = attachment;
    this.byWeight.set(attachment.weight, attachment);
  }

  private attachmentFor(weight: Variable, name: string): Attachment {
    const {treatment} = this.plan.decide(weight);
    return typeof treatment === 'string'
      ? new WholeWeight(weight, name, this.holding)
      : new ParametrizedWeight(weight, name, treatment, this.holding);
  }
}

/** A recipe's JSON as people write it: `lora({"rank":2})`. */
function madeBy(json: string | undefined): string {
  const made = JSON.parse(json ?? 'null') as {$recipe?: string; args?: unknown[]; name?: string} | null;
  if (!made) return 'a weight trained as it is';
  return made.$recipe
    ? `${made.$recipe}(${(made.args ?? []).map(arg => JSON.stringify(arg)).join(', ')})`
    : `${made.name}`;
}

function isAttachment(entry: Attachment | SavedWeight): entry is Attachment {
  return 'store' in entry;
}

const factorNames = (entry: Attachment | SavedWeight): readonly string[] =>
  isAttachment(entry) ? Object.keys(entry.factors) : entry.factors;

function living(attachment: Attachment): Attachment {
  if (Object.values(attachment.factors).some(isGone)) {
    throw new Error(
      `the factors of ${describe(attachment.weight)} were disposed (by tf.disposeVariables()?): build the optimizer anew`,
    );
  }
  return attachment;
}
