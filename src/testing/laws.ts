import type {Tensor, Tensor2D, Variable} from '@tensorflow/tfjs-core';
import {
  abs,
  add,
  max,
  maximum,
  memory,
  mul,
  reshape,
  sub,
  sum,
  tensor2d,
  tidy,
  variable,
  zerosLike,
} from '@tensorflow/tfjs-core';
import * as calculus from '../calculus.js';
import {denseGradient} from '../capture/gradient.js';
import {orthonormalRows} from '../linalg/frame.js';
import {through} from '../moments.js';
import type {Fresh, Gradient, Parametrization, Tangent, Transport} from '../parametrization.js';
import {normal, splitSeed} from '../random.js';
import {dimension, expectTangent, projectOn} from '../tangent.js';
import {mapValues, type Named} from '../tensors.js';

export type LawName =
  | 'start'
  | 'movable'
  | 'adjoint'
  | 'agreement'
  | 'lift'
  | 'tangent'
  | 'continuity'
  | 'transport'
  | 'keys and shapes'
  | 'purity'
  | 'precondition'
  | 'count';

/** A law, and by how much it was missed, relative to the size of what was compared. */
export interface LawResult {
  readonly law: LawName;
  readonly shape: readonly [m: number, n: number];
  readonly residual: number;
  readonly tolerance: number;
  readonly holds: boolean;
  /** What was compared, or what went wrong. */
  readonly note: string;
}

export interface LawOptions {
  /** Shapes `[m, n]` to try. Default: wide, tall, square, a row, a column. */
  shapes?: readonly (readonly [m: number, n: number])[];
  /** Default 1. */
  seed?: number;
  /** Largest relative residual for float32; the adjoint law compares with differences and gets 20 times that. */
  tolerance?: number;
}

const SHAPES = [
  [9, 6],
  [6, 9],
  [5, 5],
  [1, 7],
  [7, 1],
] as const;

/** Numbers in a weight up to which the rank of DPhi is found by asking for all of it. */
const SMALL = 64;

/**
 * Checks a parametrization against the laws of `Parametrization`, on random weights and gradients.
 *
 * Needs no test runner, and a tfjs backend with synchronous reads. Returns a result for every law and shape; leaves
 * no tensor behind.
 */
export function checkLaws(p: Parametrization, options: LawOptions = {}): LawResult[] {
  const {shapes = SHAPES, seed = 1, tolerance = 1e-5} = options;
  return shapes.flatMap((shape, i) => {
    const before = memory().numTensors;
    const check = new Check(p, shape, splitSeed(seed, i), tolerance);
    try {
      tidy(() => check.all());
    } finally {
      check.dispose();
    }
    check.report('purity', memory().numTensors - before, 0, 'tensors left behind');
    return check.results;
  });
}

/** Throws an error that lists every law that does not hold. For use in any test runner. */
export function expectLaws(p: Parametrization, options: LawOptions = {}): void {
  const broken = checkLaws(p, options).filter(({holds}) => !holds);
  if (broken.length === 0) return;
  const lines = broken.map(
    ({law, shape, residual, tolerance, note}) =>
      `  ${law} on [${shape}]: ${residual.toPrecision(3)} where ${tolerance.toPrecision(1)} is allowed (${note})`,
  );
  throw new Error(
    `${p.name} breaks ${broken.length} law${broken.length > 1 ? 's' : ''}:\n${lines.join('\n')}`,
  );
}

/** One parametrization on one shape. */
class Check {
  readonly results: LawResult[] = [];
  /** Factors as the library holds them: variables, in which a formula that assigns would be seen. */
  private readonly variables: Variable[] = [];

  constructor(
    private readonly p: Parametrization,
    private readonly shape: readonly [m: number, n: number],
    private readonly seed: number,
    private readonly tolerance: number,
  ) {}

  all(): void {
    const {p, shape, seed} = this;
    if (typeof p.name !== 'string' || p.name === '') this.report('keys and shapes', 1, 0, 'it has no name');
    const weight = this.random(shape, 'weight') as Tensor2D;
    const dense = this.random(shape, 'gradient') as Tensor2D;
    const gradient = denseGradient(dense, shape);
    const begun = p.init({weight, gradient, seed: splitSeed(seed, 'init')});
    const start = this.held(begun, weight);
    // The laws of a state are checked away from the start, where factors that begin at zero would hide mistakes.
    const state = {...start, factors: mapValues(this.moved(start.factors, 'state', 0.5), f => this.hold(f))};
    const inputs: Record<string, Tensor> = {
      weight,
      dense,
      ...prefixed('factor', state.factors),
      ...prefixed('frozen', state.frozen),
    };
    const before = mapValues(inputs, tensor => tensor.dataSync().slice());

    this.start(begun, start, state, weight);
    this.count(begun);
    const grads = calculus.pullback(p, state, gradient);
    const again = p.init({weight, gradient, seed: splitSeed(seed, 'init')});
    const misfits = [...differences(state.factors, grads), ...differences(begun.factors, again.factors)];
    this.report('keys and shapes', misfits.length, 0, misfits.join('; ') || 'init and pullback');
    if (misfits.length > 0) return;

    this.movable(start, gradient);
    this.adjoint(state, grads, dense);
    for (const at of [state, start]) {
      this.agreement(at, gradient);
      this.tangent(at);
    }
    this.lift(state);
    this.precondition(state, grads, dense);
    this.refresh(state, weight, gradient);
    this.repeats(begun, again, state, grads, gradient);
    for (const [name, values] of Object.entries(before)) {
      const now = inputs[name]!.dataSync();
      const changed = values.some(
        (value, i) => value !== now[i] && !(Number.isNaN(value) && Number.isNaN(now[i]!)),
      );
      this.report('purity', changed ? 1 : 0, 0, `${name} is what it was`);
    }
  }

  report(law: LawName, residual: number, tolerance: number, note: string): void {
    this.results.push({law, shape: this.shape, residual, tolerance, holds: residual <= tolerance, note});
  }

  dispose(): void {
    for (const held of this.variables) held.dispose();
  }

  /** Phi at init is the weight; where it is W0 + delta, delta is nothing beside what it will be. */
  private start(begun: Fresh, start: calculus.HeldState, state: calculus.HeldState, weight: Tensor2D): void {
    const {p} = this;
    this.compare('start', this.weightOf(start, weight), weight, weight, 'Phi at init against the weight');
    if (calculus.isComposed(p)) return;
    const delta = p.delta({factors: begun.factors, frozen: begun.frozen ?? {}});
    this.compare('start', delta, zerosLike(delta), calculus.phi(p, state), 'delta at init against none', 0.1);
  }

  private count({factors}: Fresh): void {
    const counted = this.p.trained?.(this.shape);
    if (counted === undefined) return;
    const numbers = Object.values(factors).reduce((total, factor) => total + factor.size, 0);
    this.report('count', Math.abs(counted - numbers), 0, 'trained() against the factors');
  }

  /** Some factor has a gradient at the start: otherwise nothing would ever move. */
  private movable(start: calculus.HeldState, gradient: Gradient): void {
    const moving = Object.values(calculus.pullback(this.p, start, gradient)).some(grad => largest(grad) > 0);
    this.report('movable', moving ? 0 : 1, 0, 'the pullback of a random gradient at the start');
  }

  /** <G, DPhi v> by central differences, which share no code with the pullback. */
  private adjoint(state: calculus.HeldState, grads: Named, dense: Tensor2D): void {
    const direction = this.direction(state);
    const tangent = this.slope(state, direction);
    const products = Object.entries(grads).map(([k, grad]) => sum(mul(grad, direction[k]!)));
    const right = products.reduce((total, product) => add(total, product));
    const scale = add(sum(abs(mul(dense, tangent))), 1e-6);
    this.compare(
      'adjoint',
      sum(mul(dense, tangent)),
      right,
      scale,
      '<G, DPhi v> against <pullback G, v>',
      20,
    );
  }

  /** The declared image of DPhi holds DPhi v for a random v, and has no dimension that the adjoint never sees. */
  private tangent(state: calculus.HeldState): void {
    const {p, shape} = this;
    const declared = calculus.tangentOf(p, state);
    if (!declared) return;
    try {
      expectTangent('tangent', declared, shape);
    } catch (error) {
      this.report('tangent', 1, 0, (error as Error).message);
      return;
    }
    const moved = this.slope(state, this.direction(state));
    this.compare(
      'tangent',
      projectOn(declared, moved),
      moved,
      moved,
      'DPhi v against its part in tangent()',
      20,
    );
    const [m, n] = shape;
    if (m * n > SMALL) return;
    // The rank of DPhi is that of its adjoint: a row for each matrix with a single one.
    const rows = Array.from({length: m * n}, (_, i) => {
      const unit = tensor2d(
        Array.from({length: m * n}, (_, j) => (i === j ? 1 : 0)),
        [m, n],
      );
      const grads = calculus.pullback(p, state, denseGradient(unit, shape));
      return Float64Array.from(Object.values(grads).flatMap(grad => Array.from(grad.dataSync())));
    });
    const least = 1e-6 * Math.max(...rows.map(norm));
    const rank = orthonormalRows(rows.filter(row => norm(row) > least)).rows.length;
    const excess = Math.abs(dimension(declared, shape) - rank);
    this.report('tangent', excess, 0, `dimensions of tangent() against the rank of DPhi, ${rank}`);
  }

  private agreement(state: calculus.HeldState, gradient: Gradient): void {
    const [byHand, automatic] = [calculus.pullback, calculus.automaticPullback].map(f =>
      f(this.p, state, gradient),
    );
    for (const [k, grad] of Object.entries(automatic!)) {
      this.compare('agreement', byHand![k]!, grad, grad, `gradient of ${k}, by hand against automatic`);
    }
  }

  private lift(state: calculus.HeldState): void {
    const next = {...state, factors: this.moved(state.factors, 'next', 0.1)};
    const [from, to] = [calculus.phi(this.p, state), calculus.phi(this.p, next)];
    const scale = maximum(abs(from), abs(to));
    this.compare(
      'lift',
      calculus.lift(this.p, state, next),
      sub(to, from),
      scale,
      'lift against the difference',
    );
  }

  /** It names every factor, and is linear in the gradient. */
  private precondition(state: calculus.HeldState, grads: Named, dense: Tensor2D): void {
    const {p, shape} = this;
    if (!p.precondition) return;
    const bend = (g: Named, G: Tensor) => p.precondition!(state as never, g, denseGradient(G, shape));
    const once = bend(grads, dense);
    const misfits = differences(state.factors, once);
    this.report('keys and shapes', misfits.length, 0, misfits.join('; ') || 'precondition');
    if (misfits.length > 0) return;
    const other = this.random(shape, 'other gradient');
    const others = calculus.pullback(p, state, denseGradient(other, shape));
    const both = bend(
      mapValues(grads, (grad, k) => sub(grad, mul(others[k]!, 2))),
      sub(dense, mul(other, 2)),
    );
    const apart = bend(others, other);
    for (const [k, bent] of Object.entries(both)) {
      const want = sub(once[k]!, mul(apart[k]!, 2));
      this.compare(
        'precondition',
        bent,
        want,
        maximum(abs(once[k]!), abs(want)),
        `${k} is linear in the gradient`,
        10,
      );
    }
  }

  /** After a refresh Phi is still the weight, and the factors keep their shapes. */
  private refresh(state: calculus.HeldState, weight: Tensor2D, gradient: Gradient): void {
    const {p} = this;
    if (!p.refresh) return;
    const current = this.weightOf(state, weight) as Tensor2D;
    const given = {weight: current, gradient, seed: splitSeed(this.seed, 'refresh'), step: 3};
    const [renewed, again] = [p.refresh(state as never, given), p.refresh(state as never, given)];
    const wrong = [
      ...differences(state.factors, renewed.factors),
      ...differences(state.frozen, renewed.frozen ?? {}),
    ];
    this.report('keys and shapes', wrong.length, 0, wrong.join('; ') || 'refresh');
    if (wrong.length > 0) return;
    for (const [k, factor] of Object.entries(renewed.factors))
      this.same(again.factors[k]!, factor, `refresh of ${k}, twice`);
    const after = this.weightOf(this.held(renewed, current), current);
    this.compare('continuity', after, current, current, 'Phi after a refresh against the weight before');
    this.transport(state, this.held(renewed, current));
  }

  /** Moments go where DPhi of the old state and DPhi* of the new take them, up to one number for all factors. */
  private transport(state: calculus.HeldState, next: calculus.HeldState): void {
    const {p, shape} = this;
    if (!p.transport) return;
    const moments = mapValues(state.factors, (factor, k) => this.random(factor.shape, 'moment', k));
    const inW = this.slope(state, moments) as Tensor2D;
    const want = calculus.pullback(p, next, denseGradient(inW, shape));
    const maps = p.transport(state as never, next as never) as Record<string, Transport>;
    const got = mapValues(moments, (moment, k) => through(maps[k] ?? {}, moment));
    const dot = (x: Named, y: Named) =>
      Object.keys(x).reduce((total, k) => total + sum(mul(x[k]!, y[k]!)).dataSync()[0]!, 0);
    const ratio = dot(got, want) / Math.max(dot(want, want), 1e-30);
    for (const [k, moment] of Object.entries(got)) {
      const note = `moment of ${k} against DPhi* DPhi`;
      this.compare('transport', moment, mul(want[k]!, ratio), moment, note, 20);
    }
  }

  /** Equal inputs give equal outputs, whatever other weights were met in between. */
  private repeats(
    begun: Fresh,
    again: Fresh,
    state: calculus.HeldState,
    grads: Named,
    gradient: Gradient,
  ): void {
    const {p, shape} = this;
    const [m, n] = [shape[0] + 1, shape[1] + 2];
    const other = this.random([m, n], 'another weight') as Tensor2D;
    p.init({weight: other, gradient: denseGradient(other, [m, n]), seed: splitSeed(this.seed, 'another')});
    for (const [k, factor] of Object.entries(begun.factors))
      this.same(again.factors[k]!, factor, `init of ${k}, twice`);
    const twice = calculus.pullback(p, state, gradient);
    for (const [k, grad] of Object.entries(grads)) this.same(twice[k]!, grad, `pullback of ${k}, twice`);
    this.same(calculus.phi(p, state), calculus.phi(p, state), 'Phi, twice');
    const [once, more] = [calculus.tangentOf(p, state), calculus.tangentOf(p, state)].map(sidesOf);
    for (const [side, tensor] of Object.entries(once!))
      this.same(more![side]!, tensor, `tangent ${side}, twice`);
  }

  private compare(law: LawName, got: Tensor, want: Tensor, scale: Tensor, note: string, factor = 1): void {
    this.report(law, relative(got, want, scale), factor * this.tolerance, note);
  }

  private same(got: Tensor, want: Tensor, note: string): void {
    this.report('purity', relative(got, want, null), 0, note);
  }

  private held(fresh: Fresh, base: Tensor2D): calculus.HeldState {
    const frozen = mapValues(fresh.frozen ?? {}, tensor => tensor.clone());
    return {factors: fresh.factors, frozen, ...(calculus.isComposed(this.p) && {base})};
  }

  private direction(state: calculus.HeldState): Named {
    return mapValues(state.factors, (factor, k) => this.random(factor.shape, 'v', k));
  }

  /** DPhi v by central differences, extrapolated for float32. */
  private slope(state: calculus.HeldState, direction: Named): Tensor2D {
    const at = (t: number) =>
      calculus.phi(this.p, {
        ...state,
        factors: mapValues(state.factors, (x, k) => add(x, mul(direction[k]!, t))),
      });
    const over = (h: number) => mul(sub(at(h), at(-h)), 1 / (2 * h));
    return reshape(sub(mul(over(0.02), 4 / 3), mul(over(0.04), 1 / 3)), [...this.shape]);
  }

  private weightOf(state: calculus.HeldState, base: Tensor2D): Tensor {
    return calculus.weightAt(this.p, {...state, base});
  }

  private moved(factors: Named, label: string, size: number): Record<string, Tensor> {
    return mapValues(factors, (factor, k) => add(factor, mul(this.random(factor.shape, label, k), size)));
  }

  private random(shape: readonly number[], ...labels: string[]): Tensor {
    return normal(shape, splitSeed(this.seed, ...labels));
  }

  private hold(tensor: Tensor): Variable {
    const held = variable(tensor, false);
    this.variables.push(held);
    return held;
  }
}

const prefixed = (prefix: string, tensors: Named): Record<string, Tensor> =>
  Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [`${prefix} ${key}`, tensor]));

function differences(want: Named, got: Named): string[] {
  return [...new Set([...Object.keys(want), ...Object.keys(got)])].flatMap(k => {
    if (!got[k]) return [`'${k}' is missing`];
    if (!want[k]) return [`'${k}' is not a factor`];
    const [a, b] = [String(want[k].shape), String(got[k].shape)];
    return a === b ? [] : [`'${k}' is [${b}], not [${a}]`];
  });
}

/** The tensors of a tangent space. */
function sidesOf(tangent: Tangent | null): Named {
  if (!tangent || tangent.form === 'all') return {};
  const {left, right} = tangent;
  return {...(left && {left}), ...(right && {right})};
}

const norm = (row: Float64Array): number => Math.hypot(...row);

const largest = (tensor: Tensor): number => (tensor.size === 0 ? 0 : max(abs(tensor)).dataSync()[0]!);

/** Largest difference over the largest value of `scale`; infinite where something is not finite. */
function relative(got: Tensor, want: Tensor, scale: Tensor | null): number {
  if (String(got.shape) !== String(want.shape)) return Infinity;
  const difference = largest(sub(got, want));
  const size = scale ? largest(scale) : 1;
  if (!Number.isFinite(difference) || !Number.isFinite(size)) return Infinity;
  return difference === 0 ? 0 : difference / Math.max(size, 1e-30);
}
