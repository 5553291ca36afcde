import type {Scalar, Tensor, Variable} from '@tensorflow/tfjs-core';
import {
  abs,
  addN,
  dispose,
  div,
  engine,
  max,
  maximum,
  minimum,
  mul,
  Optimizer,
  type serialization,
  sqrt,
  square,
  stack,
  sub,
  sum,
  tidy,
} from '@tensorflow/tfjs-core';
import {
  accumulate,
  type Attachment,
  describe,
  disposeProjection,
  type Projection,
  takeMean,
} from './attachment.js';
import {denseGradient} from './capture/gradient.js';
import {Header, type NamedTensors, pack, unpack} from './checkpoint.js';
import {explain, type Explainable, type Explained, type Printer, weightsOf} from './explain.js';
import {Inners, type InnersConfig, type InnerSource} from './inner.js';
import {areAllFinite, canRead, expectMovable, findNonFinite} from './inspect.js';
import type {Parametrization} from './parametrization.js';
import {fromJson, toJson} from './recipe.js';
import {Roster} from './roster.js';
import {expectRate} from './schedule.js';
import {type ProjectedOptions, readOptions, type Settings} from './settings.js';
import type {Variables} from './store.js';
import {matrixShape, Plan} from './targets.js';
import {clones, mapValues, type Named} from './tensors.js';

type Gradients = Parameters<Optimizer['applyGradients']>[0];
type Captured = readonly [weight: Variable, gradient: Tensor];
type Projected = Map<Attachment, Projection>;
type FactorGradients = ReadonlyMap<Attachment, Named>;

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
    const {targets, rest, seed, keepBase, weightDecay} = this.settings;
    this.plan = new Plan(parametrization, targets, rest);
    this.inners = new Inners(inner);
    this.roster = new Roster(this.plan, this.inners, {seed, keepBase, keepStart: weightDecay > 0});
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
    const weights = [
      ...new Set(varList ?? Object.values(engine().registeredVariables).filter(v => v.trainable)),
    ];
    this.plan.check(weights);
    // What is frozen needs no gradient.
    const trained = weights.filter(weight => this.plan.trains(weight));
    const {value, grads} = this.computeGradients(f, trained);
    try {
      this.take(
        trained.flatMap(w => (grads[w.name] ? [[w, grads[w.name]!] as const] : [])),
        true,
      );
    } catch (error) {
      value.dispose();
      throw error;
    } finally {
      dispose(grads);
    }
    if (returnCost) return value;
    value.dispose();
    return null;
  }

  /** Takes a step along gradients by variable name. They stay the caller's. */
  override applyGradients(gradients: Gradients): void {
    this.expectAlive();
    const named = Array.isArray(gradients)
      ? gradients
      : Object.entries(gradients).map(([name, tensor]) => ({name, tensor}));
    const weights = named.map(({name}) => variableNamed(name));
    this.plan.check(weights);
    const captured = new Map<Variable, Tensor>();
    named.forEach(({tensor}, i) => {
      const weight = weights[i]!;
      if (!tensor || !this.plan.trains(weight)) return;
      if (captured.has(weight)) throw new Error(`applyGradients: two gradients for ${describe(weight)}`);
      if (String(tensor.shape) !== String(weight.shape)) {
        throw new Error(
          `applyGradients: the gradient of ${describe(weight)} has the shape [${tensor.shape}]`,
        );
      }
      captured.set(weight, tensor);
    });
    this.take([...captured], false);
  }

  private take(captured: readonly Captured[], owned: boolean): void {
    const projected = this.project(captured, owned);
    try {
      if (!this.passes(projected)) return;
      this.commit(projected);
      const grads = this.accumulated(projected);
      if (grads.size > 0) this.move(grads);
    } finally {
      projected.forEach(disposeProjection);
    }
  }

  /** Projects weight by weight; an owned gradient is released before the next one is looked at. */
  private project(captured: readonly Captured[], owned: boolean): Projected {
    const refreshAt = this.pending === 0 && this.settings.refresh(this.iterations) ? this.iterations : null;
    const attachments = this.roster.forWeights(captured.map(([weight]) => weight));
    const projected: Projected = new Map();
    try {
      captured.forEach(([weight, gradient], i) => {
        const operator = denseGradient(gradient, matrixShape(weight.shape));
        projected.set(attachments[i]!, attachments[i]!.project(operator, refreshAt));
        if (owned) gradient.dispose();
      });
      return projected;
    } catch (error) {
      projected.forEach(disposeProjection);
      throw error;
    }
  }

  /** Whether these gradients may move anything. */
  private passes(projected: Projected): boolean {
    const {nonFinite} = this.settings;
    if (projected.size === 0) return false;
    if (nonFinite === 'ignore' || !canRead()) return true;
    const bad = findNonFinite(projected);
    if (bad.length === 0) {
      expectMovable(projected);
      return true;
    }
    if (nonFinite === 'skip') {
      this.skips++;
      return false;
    }
    throw new Error(
      `the gradient of ${bad.map(({weight}) => describe(weight)).join(', ')} holds NaN or infinity at step ` +
        `${this.iterations}; nothing was moved. Lower the learning rate, set clipNorm, or pass over such steps ` +
        `with nonFinite: 'skip'`,
    );
  }

  private commit(projected: Projected): void {
    const refreshed = new Set<Variable>();
    projected.forEach((projection, attachment) => {
      const isNew = !this.roster.find(attachment.weight);
      if (!isNew && projection.fresh)
        Object.values(attachment.factors).forEach(factor => refreshed.add(factor));
      attachment.commit(projection);
      if (isNew) this.roster.enlist(attachment);
    });
    if (refreshed.size > 0 && this.settings.moments === 'reset') this.inners.reset(refreshed);
  }

  /** The gradients to step along: the mean of the last `accumulate`, or none while they are being gathered. */
  private accumulated(projected: Projected): FactorGradients {
    const {accumulate: k} = this.settings;
    if (k === 1) return new Map([...projected].map(([attachment, {grads}]) => [attachment, clones(grads)]));
    projected.forEach(({grads}, attachment) => accumulate(attachment, grads));
    this.pending = (this.pending + 1) % k;
    if (this.pending > 0) return new Map();
    const gathered = this.roster.attachments.filter(({store}) => store.has('sums'));
    return new Map(gathered.map(attachment => [attachment, takeMean(attachment, k)]));
  }

  /** The verbs `step` and `lift`. Takes the gradients over. */
  private move(grads: FactorGradients): void {
    const before = new Map([...grads.keys()].map(attachment => [attachment, clones(attachment.factors)]));
    const unlifted = new Set(before.keys());
    try {
      this.step(grads);
      for (const [attachment, factors] of before) {
        attachment.lift(factors);
        unlifted.delete(attachment);
      }
      this.incrementIterations();
    } catch (error) {
      // W and its factors belong together: what was not lifted did not move.
      for (const attachment of unlifted) {
        mapValues(before.get(attachment)!, (tensor, key) => attachment.factors[key]!.assign(tensor));
      }
      throw error;
    } finally {
      dispose([...grads.values(), ...before.values()]);
    }
  }

  private step(grads: FactorGradients): void {
    const {learningRate, clipNorm, weightDecay} = this.settings;
    if (learningRate) {
      this.inners.schedule(where => {
        const rate: unknown = learningRate(this.iterations, where);
        expectRate(`learningRate at step ${this.iterations}`, rate);
        return rate;
      });
    }
    tidy(() => {
      const byFactor = new Map<Variable, Tensor>();
      grads.forEach((named, {factors}) =>
        Object.entries(named).forEach(([key, grad]) => byFactor.set(factors[key]!, grad)),
      );
      if (clipNorm !== undefined) clip(byFactor, clipNorm);
      if (weightDecay > 0) for (const attachment of grads.keys()) this.decay(attachment, weightDecay);
      this.inners.apply(byFactor);
    });
    const factors = [...grads.keys()].flatMap(attachment => Object.values(attachment.factors));
    if (this.settings.nonFinite !== 'ignore' && canRead() && !areAllFinite(factors)) {
      this.inners.reset(new Set(factors));
      throw new Error(
        `the inner optimizer turned finite gradients into NaN or infinity at step ${this.iterations}; no weight was ` +
          'moved and its moments were reset. The learning rate may be too high; a centered RMSProp does this ' +
          'wherever a gradient is exactly zero',
      );
    }
  }

  /** theta <- theta - rate * decay * (theta - start): towards the base, and never through the gradient. */
  private decay({factors, store}: Attachment, decay: number): void {
    for (const [key, start] of Object.entries(store.get('start'))) {
      const factor = factors[key]!;
      factor.assign(sub(factor, mul(sub(factor, start), this.inners.rateOf(factor) * decay)));
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
    this.inners.schedule(() => rate);
  }

  /** Steps that were passed over because of a gradient that was not finite (`nonFinite: 'skip'`). */
  get skipped(): number {
    return this.skips;
  }

  /** Bytes of all that this optimizer and its inner ones hold now; the model's weights are not theirs. */
  get stateBytes(): number {
    return this.roster.bytes + this.inners.bytes + this.header.bytes;
  }

  /** The factors of a weight by name (`a`, `b`, …): live, so copy what you keep. */
  factors(weight: Variable | string): Variables {
    return this.attachmentOf(weight).factors;
  }

  /** The weight as it was before training, a new tensor: bit for bit with `keepBase`, else to rounding. */
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

  /** The state as tfjs saves it: factors, frozen parts, moments, counters. The tensors are live. */
  override async getWeights(): Promise<NamedTensors> {
    this.expectAlive();
    const {iterations: steps, pending} = this;
    return pack({steps, pending, weights: this.roster.saved(), inners: this.inners.states()}, this.header);
  }

  /**
   * Takes over what `getWeights` gave, of this or another optimizer with the same options. The weights of the model
   * are bound to it at the next step: by name, or by order when the model names all its weights otherwise.
   */
  override async setWeights(weights: NamedTensors): Promise<void> {
    this.expectAlive();
    const {steps, pending, weights: saved, inners} = await unpack(weights);
    this.roster.dispose();
    this.inners.forget();
    this.roster.restore(saved);
    this.inners.restore(inners);
    this.iterations_ = steps;
    this.pending = pending;
  }

  /** JSON in a string called `name`: tfjs mangles all other strings and keys when it loads a model. */
  override getConfig(): serialization.ConfigDict {
    const {parametrization, options} = this;
    return {
      name: JSON.stringify({inner: this.inners.config(), ...(toJson({parametrization, options}) as object)}),
    };
  }

  static override fromConfig<T extends serialization.Serializable>(
    cls: serialization.SerializableConstructor<T>,
    config: serialization.ConfigDict,
  ): T {
    const json = JSON.parse(String(config['name'])) as {
      inner: InnersConfig;
      parametrization: unknown;
      options: object;
    };
    const options = Object.entries(json.options).map(([key, option]) => [key, fromJson(option, key)]);
    return new cls(
      Inners.source(json.inner),
      fromJson(json.parametrization, 'parametrization'),
      Object.fromEntries(options),
    );
  }

  /** Disposes all state, and the inner optimizers. The model keeps its weights, as they are. */
  override dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.roster.dispose();
    this.inners.dispose();
    this.header.dispose();
  }

  private attachmentOf(weight: Variable | string): Attachment {
    const attachment = this.roster.attachments.find(a =>
      typeof weight === 'string' ? a.weight.name === weight : a.weight === weight,
    );
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

/** Scales all gradients so that their joint norm is at most `clipNorm`; safe where its square would overflow. */
function clip(gradients: Map<Variable, Tensor>, clipNorm: number): void {
  const all = [...gradients.values()];
  const largest = maximum(max(stack(all.map(gradient => max(abs(gradient))))), 1e-30);
  const norm = mul(largest, sqrt(addN(all.map(gradient => sum(square(div(gradient, largest)))))));
  const scale = minimum(1, div(clipNorm, norm));
  for (const [factor, gradient] of gradients) gradients.set(factor, mul(gradient, scale));
}

function variableNamed(name: string): Variable {
  const found = engine().registeredVariables[name];
  if (found) return found;
  throw new Error(`applyGradients: there is no variable called ${name}; was it disposed?`);
}
