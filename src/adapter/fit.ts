import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import {engine, tensor, zeros} from '@tensorflow/tfjs-core';
import * as calculus from '../calculus.js';
import type {Gradient, Parametrization} from '../parametrization.js';
import {matrixShape} from '../targets.js';
import {mapValues, tidied} from '../tensors.js';
import type {AdapterWeight, HostTensor} from './adapter.js';
import {errorOf, oneLine} from './untrusted.js';

/** Up to here a weight is made for trial, up to there only its factors' gradients are. */
const SMALL = 2 ** 16;
const LARGE = 2 ** 24;

/**
 * Throws, by `fail`, unless the factors and the frozen part have shapes that make a weight of this shape.
 *
 * A file is small and what it claims may be huge, so nothing as large as the claim is made. First the numbers are
 * counted, which costs nothing; then a small weight is made for trial, and for a larger one the adjoint is asked what a
 * gradient of zero does to every factor: it must come back in the factor's shape. A weight above 2^24 numbers, and one
 * whose frozen matrices are drawn from a seed, is left to those who merge it, and know the model's own shape.
 */
export function expectFit(weight: AdapterWeight, fail: (reason: string) => never): void {
  const {shape, parametrization: p, factors, frozen} = weight;
  const [m, n] = matrixShape(shape);
  if (p === null) {
    const own = factors['weight'];
    if (!own || Object.keys(factors).length > 1 || Object.keys(frozen).length > 0) {
      fail("a weight trained as it is has the one factor 'weight' and nothing frozen");
    }
    if (String(own!.shape) !== String(shape)) {
      fail(`its factor 'weight' is [${own!.shape}], and the weight [${shape}]`);
    }
    return;
  }
  const described = `${Object.entries(factors)
    .map(([name, {shape}]) => `${name} [${shape}]`)
    .join(', ')}`;
  const misfit = (reason: string) =>
    fail(`${p.name} with the factors ${described} does not make a weight of [${shape}]${reason}`);

  for (const [name, {shape: start}] of Object.entries(frozen)) {
    const factor = factors[name.replace(/Start$/, '')];
    if (name.endsWith('Start') && factor && String(factor.shape) !== String(start)) {
      misfit(`: its ${name} is [${start}]`);
    }
  }
  const seeded = Object.values(frozen).some(({values}) => values instanceof Int32Array);
  if (seeded) expectSeed(frozen, [m, n], fail);
  const count = Object.values(factors).reduce((sum, {values}) => sum + values.length, 0);
  const expected = attempt(() => p.trained?.([m, n]), misfit);
  if (expected !== undefined && expected !== count) {
    misfit(`: they are ${count} numbers, and it would train ${expected}`);
  }
  if (m * n > (seeded ? SMALL : LARGE) || !isBackendReady()) return;
  const check = () => (m * n <= SMALL ? wrongWeight(p, weight, [m, n]) : wrongFactor(p, weight, [m, n]));
  const wrong = attempt(() => tidied(check), misfit);
  if (wrong) misfit(`: ${wrong}`);
}

/** Matrices that are drawn from a seed: the shape they are drawn for is the weight's. */
function expectSeed(
  frozen: AdapterWeight['frozen'],
  [m, n]: readonly [number, number],
  fail: (reason: string) => never,
): void {
  const {seed, shape} = frozen;
  if (seed && seed.values.length !== 1)
    fail(`its frozen part 'seed' is [${seed.shape}] where one number is needed`);
  if (shape && (shape.values.length !== 2 || String(shape.values) !== String([m, n]))) {
    fail(
      `its frozen part 'shape' says [${oneLine(String(shape!.values.slice(0, 8)))}], and as a matrix it is [${m}, ${n}]`,
    );
  }
}

function attempt<T>(compute: () => T, misfit: (reason: string) => never): T {
  try {
    return compute();
  } catch (error) {
    // What JavaScript says where a factor is missing helps nobody.
    return misfit(
      error instanceof TypeError || !(error instanceof Error) ? '' : `: ${oneLine(error.message)}`,
    );
  }
}

function wrongWeight(p: Parametrization, weight: AdapterWeight, shape: readonly [number, number]) {
  const base = zeros([...shape]) as Tensor2D;
  const made = calculus.phi(p, {...tensorsOf(weight), base});
  return String(made.shape) === String(shape) ? null : `it makes [${made.shape}]`;
}

function wrongFactor(p: Parametrization, weight: AdapterWeight, shape: readonly [number, number]) {
  if (calculus.isComposed(p) || !p.pullback) return null;
  const state = tensorsOf(weight);
  let grads: Record<string, Tensor>;
  try {
    grads = p.pullback(state, zeroGradient(shape));
  } catch (error) {
    if (error instanceof NeedsAll) return null;
    throw error;
  }
  for (const [name, {shape}] of Object.entries(weight.factors)) {
    const found = grads[name]?.shape;
    if (String(found) !== String(shape)) return `its ${name} would be [${found ?? 'none'}]`;
  }
  return null;
}

function tensorsOf({factors, frozen}: AdapterWeight) {
  const read = ({shape, values}: HostTensor) =>
    tensor(values, [...shape], values instanceof Int32Array ? 'int32' : 'float32');
  return {factors: mapValues(factors, read), frozen: mapValues(frozen, read)};
}

/** That a matrix of the weight's size was asked for. */
class NeedsAll extends Error {}

/** A gradient of zero that checks what it is multiplied with, and is never a matrix itself. */
function zeroGradient(shape: readonly [m: number, n: number]): Gradient {
  const [m, n] = shape;
  const empty = (rows: number, columns: number) => zeros([rows, columns]) as Tensor2D;
  const expectSide = (matrix: Tensor2D, size: number) => {
    if (matrix.shape[0] !== size) throw errorOf(`[${matrix.shape}] stands where [${size}, …] is needed`);
  };
  return {
    shape,
    leftMul: p => (expectSide(p, m), empty(p.shape[1], n)),
    rightMul: q => (expectSide(q, n), empty(m, q.shape[1])),
    rowSums: () => empty(m, 1),
    columnSums: () => empty(1, n),
    norm2: () => zeros([]),
    dense: () => {
      throw new NeedsAll();
    },
  };
}

/** Whether tensors can be made: a program that only converts files may have no backend. */
function isBackendReady(): boolean {
  try {
    return Boolean(engine().backend);
  } catch {
    return false;
  }
}
