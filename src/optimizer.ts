import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, Optimizer, type serialization} from '@tensorflow/tfjs-core';
import {type Attachment, describe} from './attachment.js';
import {type HostGradients, trainedGradients, variablesOf} from './capture/dense.js';
import {denseGradient} from './capture/gradient.js';
import {canTap, denseGradients, tapGradients} from './capture/tape.js';
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
import {explain, type Explainable, type Explained, type Printer, weightsOf} from './explain.js';
import {Inners, type InnerSource} from './inners.js';
import type {Parametrization} from './parametrization.js';
import {Roster} from './roster.js';
import {expectMoments, renewing} from './renewal.js';
import {expectRate} from './schedule.js';
import {type ProjectedOptions, readOptions, type Settings} from './settings.js';
import {matrixShape, Plan} from './targets.js';
import type {TelemetryRow} from './telemetry.js';
import {isEmpty, isGone} from './tensors.js';
import {Training} from './training.js';

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
  private readonly training: Training;
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
    this.training = new Training(this.settings, this.roster, this.inners);
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
      this.training.advance(trained, take => (cost = listen(f, trained, take)));
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
    this.training.advance([...dense.keys()], take => {
      for (const [weight, gradient] of dense) {
        take(weight, denseGradient(gradient, matrixShape(weight.shape)), {
          path: 'dense',
          why: 'applyGradients',
        });
      }
    });
  }

  /** Steps taken. */
  override get iterations(): number {
    return this.training.steps;
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
   * is known, also in a checkpoint: see `checked`.
   */
  get skipped(): number {
    return this.training.skipped;
  }

  /**
   * Resolves when it is known of every step so far whether its gradients were finite: at once, but on webgpu, where a
   * step does not wait for a number and what went wrong is known some steps later; such a step undoes itself. Rejects
   * as the next step would, for the first of those that nobody has been told of: with `nonFinite: 'throw'`, or where
   * the inner optimizer made NaN out of sound gradients.
   */
  async checked(): Promise<void> {
    await this.training.checked();
  }

  /** Bytes of all that this optimizer and its inner ones hold now; the model's weights are not theirs. */
  get stateBytes(): number {
    return this.disposed
      ? 0
      : this.roster.bytes + this.inners.bytes + this.header.bytes + (this.training.measurements?.bytes ?? 0);
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
    const {measurements} = this.training;
    if (!measurements) {
      throw new Error(
        'telemetry() has nothing to tell: build the optimizer with the option telemetry: true, which costs a few ' +
          'thin products a step and is off by default',
      );
    }
    return measurements.rows();
  }

  /** The state as tfjs saves it: factors, frozen parts, moments, counters. Live tensors, until the step after next. */
  override async getWeights(): Promise<NamedTensors> {
    this.expectAlive();
    await this.training.settled();
    return pack(this.checkpoint(), this.header);
  }

  /** All that is needed to go on, besides the weights of the model and the options, as it is now: live tensors. */
  checkpoint(): Checkpoint {
    this.expectAlive();
    return {...this.training.counts(), weights: this.roster.saved(), inners: this.inners.states()};
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
      this.training.measurements?.dispose();
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

  private takeOver(checkpoint: Checkpoint): void {
    this.roster.dispose();
    this.training.measurements?.dispose();
    this.inners.forget();
    this.roster.restore(checkpoint.weights);
    this.inners.restore(checkpoint.inners);
    this.training.resume(checkpoint);
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
    this.training.dispose();
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
