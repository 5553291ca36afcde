import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {abs, add, max, memory, mul, reshape, sub, sum, tidy} from '@tensorflow/tfjs-core';
import * as calculus from '../calculus.js';
import {denseGradient} from '../capture/gradient.js';
import type {Fresh, Parametrization} from '../parametrization.js';
import {normal, splitSeed} from '../random.js';
import {clones, mapValues, type Named} from '../tensors.js';

/** The law, and by how much it was missed, relative to the size of what was compared. */
export interface LawResult {
  readonly law: LawName;
  readonly shape: readonly [m: number, n: number];
  readonly residual: number;
  readonly tolerance: number;
  readonly holds: boolean;
  /** What was compared, or what went wrong. */
  readonly note: string;
}

export type LawName =
  'start' | 'adjoint' | 'agreement' | 'lift' | 'continuity' | 'keys and shapes' | 'purity' | 'count';

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

/**
 * Checks a parametrization against the laws of `Parametrization`, on random weights and gradients.
 *
 * Needs no test runner and a tfjs backend with synchronous reads. Returns a result for every law and shape; leaves
 * no tensor behind.
 */
export function checkLaws(p: Parametrization, options: LawOptions = {}): LawResult[] {
  const {shapes = SHAPES, seed = 1, tolerance = 1e-5} = options;
  return shapes.flatMap((shape, i) => {
    const before = memory().numTensors;
    const results = tidy(() => checkShape(p, shape, splitSeed(seed, i), tolerance) as never) as LawResult[];
    return [...results, result('purity', shape, memory().numTensors - before, 0, 'tensors left behind')];
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

function checkShape(
  p: Parametrization,
  shape: readonly [number, number],
  seed: number,
  tolerance: number,
): LawResult[] {
  const weight = normal(shape, splitSeed(seed, 'weight')) as Tensor2D;
  const dense = normal(shape, splitSeed(seed, 'gradient')) as Tensor2D;
  const gradient = denseGradient(dense, shape);
  const results: LawResult[] = [];
  const compare = (law: LawName, got: Tensor, want: Tensor, scale: Tensor | null, note: string, factor = 1) =>
    results.push(result(law, shape, relative(got, want, scale), factor * tolerance, note));
  const held = (fresh: Fresh, base: Tensor2D): calculus.HeldState => ({
    factors: fresh.factors,
    frozen: fresh.frozen ?? {},
    ...(calculus.isComposed(p) && {base}),
  });
  const weightOf = (state: calculus.HeldState, base: Tensor2D) => calculus.weightAt(p, {...state, base});

  const begin = () => p.init({weight, gradient, seed: splitSeed(seed, 'init')});
  const begun = begin();
  const start = held(begun, weight);
  compare('start', weightOf(start, weight), weight, weight, 'Phi at init against the weight');
  if (p.trained) {
    const numbers = Object.values(begun.factors).reduce((total, factor) => total + factor.size, 0);
    results.push(
      result('count', shape, Math.abs(p.trained(shape) - numbers), 0, 'trained() against the factors'),
    );
  }

  // The laws of a state are checked away from the start, where factors that begin at zero would hide mistakes.
  const state = {...start, factors: perturbed(start.factors, splitSeed(seed, 'state'), 0.5)};
  const grads = calculus.pullback(p, state, gradient);
  const misfits = [...differences(state.factors, grads), ...differences(begun.factors, begin().factors)];
  results.push(result('keys and shapes', shape, misfits.length, 0, misfits.join('; ') || 'pullback'));
  if (misfits.length > 0) return results;

  // <G, DPhi v> by central differences, which share no code with the pullback; extrapolated, for float32.
  const direction = mapValues(state.factors, (factor, k) => normal(factor.shape, splitSeed(seed, 'v', k)));
  const slope = (h: number) => {
    const at = (t: number) =>
      calculus.phi(p, {...state, factors: mapValues(state.factors, (x, k) => add(x, mul(direction[k]!, t)))});
    return mul(sub(at(h), at(-h)), 1 / (2 * h));
  };
  const tangent = sub(mul(slope(0.05), 4 / 3), mul(slope(0.1), 1 / 3));
  const left = sum(mul(dense, reshape(tangent, [...shape])));
  const products = Object.entries(grads).map(([k, grad]) => sum(mul(grad, direction[k]!)));
  const right = products.reduce((total, product) => add(total, product));
  const scale = add(sum(abs(mul(dense, reshape(tangent, [...shape])))), 1e-6);
  compare('adjoint', left, right, scale, '<G, DPhi v> against <pullback G, v>', 20);

  const automatic = calculus.automaticPullback(p, state, gradient);
  for (const [k, grad] of Object.entries(grads)) {
    compare('agreement', grad, automatic[k]!, automatic[k]!, `gradient of ${k}, by hand against automatic`);
  }

  const next = {...state, factors: perturbed(state.factors, splitSeed(seed, 'next'), 0.1)};
  const [from, to] = [weightOf(state, weight), weightOf(next, weight)];
  compare('lift', calculus.lift(p, state, next), sub(to, from), to, 'lift against the difference');

  if (p.refresh) {
    const given = {weight: from as Tensor2D, gradient, seed: splitSeed(seed, 'refresh'), step: 3};
    const renewed = p.refresh(state as never, given);
    const wrong = [
      ...differences(state.factors, renewed.factors),
      ...differences(state.frozen, renewed.frozen ?? {}),
    ];
    results.push(result('keys and shapes', shape, wrong.length, 0, wrong.join('; ') || 'refresh'));
    if (wrong.length === 0) {
      const after = weightOf(held(renewed, from as Tensor2D), from as Tensor2D);
      compare('continuity', after, from, from, 'Phi after a refresh against the weight before');
    }
  }

  purity(p, begun, begin(), state, grads, gradient, (got, want, note) =>
    compare('purity', got, want, null, note),
  );
  return results;
}

/** Equal inputs give equal outputs; state and gradient are still what they were. */
function purity(
  p: Parametrization,
  begun: Fresh,
  again: Fresh,
  state: calculus.HeldState,
  grads: Named,
  gradient: ReturnType<typeof denseGradient>,
  same: (got: Tensor, want: Tensor, note: string) => void,
): void {
  for (const [k, factor] of Object.entries(begun.factors))
    same(again.factors[k]!, factor, `init of ${k}, twice`);
  const inputs = clones(state.factors);
  const twice = calculus.pullback(p, state, gradient);
  for (const [k, grad] of Object.entries(grads)) same(twice[k]!, grad, `pullback of ${k}, twice`);
  for (const [k, input] of Object.entries(inputs)) same(state.factors[k]!, input, `${k} after pullback`);
  same(calculus.phi(p, state), calculus.phi(p, state), 'Phi, twice');
}

function perturbed(factors: Named, seed: number, size: number): Record<string, Tensor> {
  return mapValues(factors, (factor, k) =>
    add(factor, normal(factor.shape, splitSeed(seed, k), {std: size})),
  );
}

function differences(want: Named, got: Named): string[] {
  return [...new Set([...Object.keys(want), ...Object.keys(got)])].flatMap(k => {
    if (!got[k]) return [`'${k}' is missing`];
    if (!want[k]) return [`'${k}' is not a factor`];
    const [a, b] = [String(want[k].shape), String(got[k].shape)];
    return a === b ? [] : [`'${k}' is [${b}], not [${a}]`];
  });
}

/** Largest difference over the largest value of `scale`; infinite where something is not finite. */
function relative(got: Tensor, want: Tensor, scale: Tensor | null): number {
  if (String(got.shape) !== String(want.shape)) return Infinity;
  const largest = (tensor: Tensor) => (tensor.size === 0 ? 0 : max(abs(tensor)).dataSync()[0]!);
  const difference = largest(sub(got, want));
  const size = scale ? largest(scale) : 1;
  if (!Number.isFinite(difference) || !Number.isFinite(size)) return Infinity;
  return difference / Math.max(size, 1e-12);
}

function result(
  law: LawName,
  shape: readonly [number, number],
  residual: number,
  tolerance: number,
  note: string,
): LawResult {
  return {law, shape, residual, tolerance, holds: residual <= tolerance, note};
}
