import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, Optimizer, type serialization} from '@tensorflow/tfjs-core';
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
import {type HostGradients, trainedGradients, variablesOf} from './capture/dense.js';
import {denseGradient} from './capture/gradient.js';
import {canTap, denseGradients, type OnGradient, tapGradients} from './capture/tape.js';
import {
  type Checkpoint,
  expectSound,
  Header,
  isPacked,
  type NamedTensors,
  pack,
  unpack,
} from './checkpoint.js';
import {readConfig, writeConfig} from './config.js';
import {Verdicts} from './guard.js';
import {explain, type Explainable, type Explained, type Printer, weightsOf} from './explain.js';
import {Inners, type InnerSource} from './inners.js';
import {areAllFinite, canRead, expectMovable, findUnusable, type Projected} from './inspect.js';
import type {Parametrization} from './parametrization.js';
import {Roster} from './roster.js';
import {expectMoments, renewing} from './renewal.js';
import {expectRate} from './schedule.js';
import {type ProjectedOptions, readOptions, type Settings} from './settings.js';
import {type FactorGradients, stepFactors} from './step.js';
import {matrixShape, Plan} from './targets.js';
import {Telemetry, type TelemetryRow} from './telemetry.js';
import {clones, isEmpty, isGone, mapValues, type Named} from './tensors.js';

/** A weight that is trained, and what moves it. */
export interface Attached {
  readonly weight: Variable;
  /** The name it had when it was attached, without the number tfjs appends to tell equal names apart. */
  readonly name: string;
  /** Null for a weight that is trained as it is. */
  readonly parametrization: Parametrization | null;
  readonly factors: Readonly<Record<string, Variable>>;
  readonly frozen: Readonly<Record<string, Variable>>;
  /** Whether its base is no longer the weight before training. */
  readonly refreshed: boolean;
}

/**
 * Trains the weights of any TensorFlow.js model through a few factors:
 *
 *     capture   the gradient of each weight, as a linear operator
 *     project   onto the factors: grad theta = DPhi* G       (a refresh that is due comes first, from the same G)
 *     step      the inner optimizer moves theta
 *     lift      W moves as Phi(theta) did
 *
 * Use it wherever a tf.Optimizer goes: `model.compile({optimizer: projected(tf.train.adam(1e-3), lora({rank: 8}))})`.
 */
export class ProjectedOptimizer extends Optimizer {
  static get className(): string {
    return 'ProjectedOptimizer';
  }

  private readonly settings: Settings;
  private readonly plan: Plan;
  private readonly inners: Inners;
  private readonly roster: Roster;
  private readonly header = new Header();
  private readonly measurements: Telemetry | null;
  private readonly verdicts = new Verdicts();
  /** Gradients taken since the last step. */
  private pending = 0;
  private skips = 0;
  private disposed = false;

  /**
   * @param inner A tf.Optimizer for all factors, or a function that makes one for each. Yours no longer: `dispose`
   *     disposes it.
   * @param parametrization How the targets move, e.g. `lora({rank: 8})`.
   */
  constructor(
    inner: InnerSource,
    private readonly parametrization: Parametrization,
    private readonly options: ProjectedOptions = {},
  ) {
    super();
    this.settings = readOptions(parametrization, options);
    const {targets, rest, seed, keepBase, weightDecay, telemetry} = this.settings;
    this.plan = new Plan(parametrization, targets, rest);
    this.inners = new Inners(inner);
    if (weightDecay > 0 && this.inners.all.some(({learningRate}) => !Number.isFinite(learningRate))) {
      throw new Error('weightDecay goes by the learning rate of the inner optimizer, and this one has none');
    }
    const renewal = this.settings;
    for (const {className} of this.inners.all)
      expectMoments(parametrization, renewing(parametrization, renewal), className);
    this.roster = new Roster(this.plan, this.inners, {
      seed,
      keepBase,
      keepStart: weightDecay > 0,
      renewal,
      telemetry,
    });
    this.measurements = telemetry ? new Telemetry() : null;
  }

  /**
   * Runs `f` once, and takes a step along the gradient of what it returns.
   *
   * @param f Returns the loss, a scalar.
   * @param returnCost Whether to return the loss.
   * @param varList The weights to look at; default: all trainable variables.
   */
  override minimize(f: () => Scalar, returnCost = false, varList?: Variable[]): Scalar | null {
    this.expectAlive();
    const weights = varList ?? Object.values(engine().registeredVariables).filter(v => v.trainable);
    this.plan.check(weights);
    // What is frozen needs no gradient.
    const trained = [...new Set(weights)].filter(weight => weight.trainable && this.plan.trains(weight));
    if (trained.length === 0) {
      const given = weights.map(describe).join(', ') || 'none';
      throw new Error(`minimize: every weight given is frozen, by the rules or by itself: ${given}`);
    }
    const listen = this.settings.capture === 'auto' && canTap() ? tapGradients : denseGradients;
    let cost: Scalar | undefined;
    try {
      this.advance(trained, take => (cost = listen(f, trained, take)));
    } catch (error) {
      cost?.dispose();
      throw error;
    }
    if (returnCost) return cost!;
    cost!.dispose();
    return null;
  }

  /** Takes a step along gradients by variable name. They stay the caller's. */
  override applyGradients(gradients: HostGradients): void {
    this.expectAlive();
    this.plan.check(variablesOf(gradients));
    const dense = trainedGradients(gradients, this.plan);
    this.advance([...dense.keys()], take => {
      for (const [weight, gradient] of dense) {
        take(weight, denseGradient(gradient, matrixShape(weight.shape)), {
          path: 'dense',
          why: 'applyGradients',
        });
      }
    });
  }

  /** One step, in the order it happens. Until all gradients are projected and found finite, nothing moves. */
  private advance(weights: readonly Variable[], capture: (take: OnGradient) => void): void {
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
    return this.pending === 0 && renewing.refresh(this.iterations) ? this.iterations : null;
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

  private unusable(weights: readonly string[], what: string, step = this.iterations): Error {
    const names = weights.slice(0, 3);
    if (weights.length > 3) names.push(`${weights.length - 3} more`);
    return new Error(
      `the gradient of ${names.join(', ')} ${what} at step ${step}; nothing was moved. Lower the learning ` +
        `rate, set clipNorm, or pass over such steps with nonFinite: 'skip'`,
    );
  }

  /** Throws for a step that was undone when it could not be said yet. */
  private expectDone(): void {
    const [undone] = this.verdicts.undone;
    if (!undone || this.settings.nonFinite === 'skip') return;
    this.verdicts.forget();
    const {step, weights} = undone;
    if (weights.length > 0)
      throw this.unusable(weights, 'held NaN or infinity, or was too large to square,', step);
    throw new Error(
      `the inner optimizer made NaN or infinity out of finite gradients at step ${step}; nothing was moved. The ` +
        'learning rate may be too high',
    );
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
      const ok = stepFactors(gradients, this.inners, this.settings, this.iterations);
      if (ok) this.verdicts.expect(this.iterations, ok, gradients);
      ok?.dispose();
      for (const [attachment, factors] of before) {
        const lift = () => attachment.lift(factors);
        if (this.measurements) this.measurements.lifting(attachment, factors, lift);
        else lift();
        unlifted.delete(attachment);
      }
      for (const {store} of gradients.keys()) store.drop('sums');
      this.pending = 0;
      this.measurements?.finish(this.iterations, [...gradients.keys()]);
      this.incrementIterations();
    } catch (error) {
      // W and its factors belong together: what was not lifted has not moved.
      for (const [{factors}, old] of unlifted) mapValues(old, (tensor, key) => factors[key]!.assign(tensor));
      throw error;
    } finally {
      dispose([...gradients.values(), ...before.values()]);
    }
  }

  /** Learning rate of the inner optimizer; with several, of the first. */
  get learningRate(): number {
    return this.inners.all[0]?.learningRate ?? NaN;
  }

  set learningRate(rate: number) {
    this.setLearningRate(rate);
  }

  /** Sets the learning rate of every inner optimizer. Throws when a schedule sets it. */
  setLearningRate(rate: number): void {
    expectRate('learningRate', rate);
    if (this.settings.learningRate)
      throw new Error('the learningRate option sets the learning rate at every step');
    if (this.inners.all.length === 0) {
      throw new Error(
        'the inner optimizers are made at the first step: the function that makes them sets their rates',
      );
    }
    this.inners.setRate(rate);
  }

  /**
   * Steps that were passed over because of a gradient that was not finite (`nonFinite: 'skip'`). On webgpu as far as it
   * is known: see `checked`.
   */
  get skipped(): number {
    return this.skips + (this.settings.nonFinite === 'skip' ? this.verdicts.undone.length : 0);
  }

  /**
   * Resolves when it is known of every step so far whether its gradients were finite: at once, but on webgpu, where a
   * step does not wait for a number and what went wrong is known some steps later. Nothing is lost by that: such a step
   * undoes itself. Rejects as the step itself would have, or as the next one would, with `nonFinite: 'throw'`.
   */
  async checked(): Promise<void> {
    await this.verdicts.settled();
    this.expectDone();
  }

  /** Bytes of all that this optimizer and its inner ones hold now; the model's weights are not theirs. */
  get stateBytes(): number {
    return this.disposed
      ? 0
      : this.roster.bytes + this.inners.bytes + this.header.bytes + (this.measurements?.bytes ?? 0);
  }

  /** Every weight that is trained, and what moves it: live tensors, so copy what you keep. */
  get attached(): readonly Attached[] {
    const started = this.roster.attachments.filter(({factors}) => !isEmpty(factors));
    return started.map(({weight, name, parametrization, factors, store, refreshed}) => ({
      weight,
      name,
      parametrization,
      factors,
      frozen: store.get('frozen'),
      refreshed,
    }));
  }

  /**
   * Binds what `setWeights` took over to the weights it is of, which would else happen at the next step: `attached`,
   * `factors`, `base` and `explain` know it from now on. Weights without such a state are left alone.
   *
   *     const model = await tf.loadLayersModel(url); // was saved with includeOptimizer
   *     model.optimizer.bind(model);
   *
   * @param of A model, or variables.
   * @throws When a state does not fit the weight of its name; nothing has changed then.
   */
  bind(of: Explainable): void {
    this.expectAlive();
    const trainable = 'trainableWeights' in of ? weightsOf({weights: of.trainableWeights as never}) : null;
    this.roster.bind(weightsOf(of), trainable && new Set(trainable));
  }

  /** Names of the weights whose state was taken over and that were not seen since: see `bind`. */
  get waiting(): readonly string[] {
    return this.roster.waiting.map(({weight}) => weight);
  }

  /** The factors of a weight by name (`a`, `b`, …): live, so copy what you keep. */
  factors(weight: Variable | string): Readonly<Record<string, Variable>> {
    return this.attachmentOf(weight).factors;
  }

  /**
   * The weight as it was before training, a new tensor: bit for bit with `keepBase`; without, to rounding, and not at
   * all after a refresh.
   */
  base(weight: Variable | string): Tensor {
    return this.attachmentOf(weight).base();
  }

  /**
   * Prints a row per weight: what happens to it and why, how many numbers are trained, what the optimizer keeps.
   *
   * @param of A model, or variables; default: the weights trained so far. Works before the first step.
   * @param print Default `console.log`; null prints nothing.
   * @returns The rows.
   */
  explain(of?: Explainable, print: Printer | null = console.log): Explained[] {
    this.expectAlive();
    const weights = of ? weightsOf(of) : this.roster.attachments.map(({weight}) => weight);
    return explain(weights, this.plan, this.roster, this.inners, print);
  }

  /**
   * A row for each weight that the last step moved: how much of its gradient the subspace catches, how far it moved and
   * how that lies to the gradient. Needs the option `telemetry: true`. See docs/telemetry.md for each number.
   *
   *     console.table(optimizer.telemetry())
   *
   * @returns No rows before the first step. Small matrices are read and decomposed here, not during the step.
   */
  telemetry(): TelemetryRow[] {
    this.expectAlive();
    if (!this.measurements) {
      throw new Error(
        'telemetry() has nothing to tell: build the optimizer with the option telemetry: true, which costs a few ' +
          'thin products a step and is off by default',
      );
    }
    return this.measurements.rows();
  }

  /** The state as tfjs saves it: factors, frozen parts, moments, counters. Live tensors, until the step after next. */
  override async getWeights(): Promise<NamedTensors> {
    this.expectAlive();
    await this.checked();
    return pack(this.checkpoint(), this.header);
  }

  /** All that is needed to go on, besides the weights of the model and the options, as it is now: live tensors. */
  checkpoint(): Checkpoint {
    this.expectAlive();
    const {iterations: steps, pending, skipped: skips} = this;
    return {steps, pending, skips, weights: this.roster.saved(), inners: this.inners.states()};
  }

  /**
   * Takes over what `getWeights` gave, of this or another optimizer with the same options. The weights of the model
   * are bound to it by `bind` or at the next step: by name, or by order when the model names all its weights otherwise.
   *
   * The tensors stay the caller's, and what is no such state changes nothing. Those that this optimizer handed out
   * itself are its own: they end when it takes over another state.
   */
  override async setWeights(weights: NamedTensors): Promise<void> {
    this.expectAlive();
    if (isPacked(weights, this.checkpoint(), this.header)) {
      this.measurements?.dispose();
      return;
    }
    const ended = weights.find(({tensor}) => tensor.isDisposed || isGone(tensor));
    if (ended) {
      throw new Error(
        `setWeights: ${ended.name} was disposed. getWeights hands out live tensors, which end with the state they are ` +
          'of: clone what is to outlive it',
      );
    }
    // Handles of our own: the tensors may be this optimizer's, and are disposed below then.
    const own = weights.map(({name, tensor}) => ({name, tensor: tensor.clone()}));
    try {
      const checkpoint = await unpack(own);
      expectSound(checkpoint);
      this.inners.expect(checkpoint.inners);
      this.takeOver(checkpoint);
    } finally {
      dispose(own.map(({tensor}) => tensor));
    }
  }

  /**
   * Takes over a checkpoint whose weights have the names of `weights`, and the learning rates there were. Throws where
   * anything does not fit, also what `setWeights` would leave to the next step; nothing has changed then.
   *
   * @param config What `getConfig` gave beside it.
   */
  resume(checkpoint: Checkpoint, config: serialization.ConfigDict, weights: readonly Variable[]): void {
    this.expectAlive();
    const {inner} = readConfig(String(config['name']));
    expectSound(checkpoint);
    this.roster.expect(checkpoint.weights, weights);
    const places = checkpoint.weights.flatMap(({name, factors}) =>
      factors.map(factor => ({weight: name, factor})),
    );
    this.inners.expectEach(checkpoint.inners, places, inner);
    this.takeOver(checkpoint);
    this.inners.adoptRates(inner);
  }

  private takeOver({steps, pending, skips, weights, inners}: Checkpoint): void {
    this.roster.dispose();
    this.measurements?.dispose();
    this.inners.forget();
    this.roster.restore(weights);
    this.inners.restore(inners);
    this.iterations_ = steps;
    this.pending = pending;
    this.skips = skips;
    this.verdicts.forget();
  }

  /** JSON in a string called `name`: tfjs mangles all other strings and keys when it loads a model. */
  override getConfig(): serialization.ConfigDict {
    const {parametrization, options} = this;
    return {name: writeConfig({inner: this.inners.config(), parametrization, options})};
  }

  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    const {inner, parametrization, options} = readConfig(String(config['name']));
    return new cls(Inners.source(inner), parametrization, options);
  }

  /** Disposes all state, and the inner optimizers. The model keeps its weights, as they are. */
  override dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.roster.dispose();
    this.measurements?.dispose();
    this.inners.dispose();
    this.header.dispose();
  }

  private attachmentOf(weight: Variable | string): Attachment {
    this.expectAlive();
    const attachments = this.roster.attachments;
    const attachment =
      attachments.find(a => a.weight === weight || a.weight.name === weight) ??
      attachments.find(a => a.name === weight);
    if (attachment) return attachment;
    const known =
      this.roster.attachments.map(a => a.weight.name).join(', ') || 'none; weights attach at the first step';
    throw new Error(
      `${typeof weight === 'string' ? weight : weight.name} is not attached. Attached are: ${known}`,
    );
  }

  private expectAlive(): void {
    if (this.disposed) throw new Error('this ProjectedOptimizer was disposed; build a new one');
  }
}

/**
 * Wraps any tf.Optimizer so that it trains through a parametrization.
 *
 *     projected(tf.train.adam(1e-3), lora({rank: 8}), {targets: /kernel$/, rest: 'train'})
 */
export function projected(
  inner: InnerSource,
  parametrization: Parametrization,
  options: ProjectedOptions = {},
): ProjectedOptimizer {
  return new ProjectedOptimizer(inner, parametrization, options);
}
