import * as tf from '@tensorflow/tfjs';
import {
  additive,
  dora,
  flora,
  full,
  galore,
  gaussian,
  hadamard,
  hadamardHe,
  hadamardNormal,
  kaiming,
  kronecker,
  kroneckerUniform,
  lora,
  loraFA,
  loraGA,
  loraOne,
  loraPro,
  loraSB,
  loraXS,
  mica,
  olora,
  orthogonal,
  osf,
  type Parametrization,
  pissa,
  randomProjection,
  riemannian,
  vera,
  symmetric,
} from '../../src/index.js';

/**
 * Every parametrization in every form that matters, by the page of `docs/parametrizations/` it belongs to. All of them
 * are held to the laws (`laws.test.ts`), and are rows of the table in `docs/parametrizations/residuals.md`.
 */
export const members: Record<string, Record<string, Parametrization>> = {
  additive: {
    'additive()': additive(),
    "additive({form: 'equal'})": additive({form: 'equal'}),
    "additive({form: 'orthogonal'})": additive({form: 'orthogonal'}),
    'additive({rank: 4, scale: 3}), which divides no side': additive({rank: 4, scale: 3}),
    "additive({rank: 4, form: 'equal'})": additive({rank: 4, form: 'equal'}),
    "additive({rank: 4, form: 'orthogonal'})": additive({rank: 4, form: 'orthogonal'}),
    "additive({rank: 12, form: 'orthogonal'}), above every side": additive({rank: 12, form: 'orthogonal'}),
  },
  dora: {
    'dora()': dora(),
    'dora({rank: 2, alpha: 6})': dora({rank: 2, alpha: 6}),
    'dora({rank: 2, rankStabilised: true})': dora({rank: 2, rankStabilised: true}),
    "dora({rank: 2, norm: 'constant'})": dora({rank: 2, norm: 'constant'}),
    'dora({rank: 2, init: symmetric()})': dora({rank: 2, init: symmetric()}),
  },
  full: {'full()': full()},
  hadamard: {
    'hadamard()': hadamard(),
    'hadamard({rank: 1}), by products on the larger shapes': hadamard({rank: 1}),
    'hadamard({rank: 3, alpha: 6})': hadamard({rank: 3, alpha: 6}),
    'hadamard({init: hadamardNormal()})': hadamard({rank: 2, init: hadamardNormal()}),
    'hadamard({init: hadamardHe()}), away from zero': hadamard({rank: 2, init: hadamardHe()}),
  },
  kronecker: {
    'kronecker()': kronecker(),
    'kronecker({rank: 1}), D = D1 D2 on the larger shapes': kronecker({rank: 1}),
    'kronecker({rank: 1, alpha: 3, factor: 2})': kronecker({rank: 1, alpha: 3, factor: 2}),
    'kronecker({factor: 1}): C is a number': kronecker({rank: 2, factor: 1}),
    "kronecker({init: kroneckerUniform({zero: 'd'})})": kronecker({init: kroneckerUniform({zero: 'd'})}),
    "kronecker({rank: 1, init: kroneckerUniform({zero: 'd'})})": kronecker({
      rank: 1,
      init: kroneckerUniform({zero: 'd'}),
    }),
    'kronecker with a start of the user, away from zero': kronecker({
      rank: 1,
      init: ({shapes}) =>
        Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, tf.ones([...shape])])),
    }),
  },
  flora: {
    'flora()': flora(),
    'flora({rank: 1})': flora({rank: 1}),
    "flora({rank: 3, side: 'larger', scale: 2})": flora({rank: 3, side: 'larger', scale: 2}),
    "flora({rank: 4, side: 'left'})": flora({rank: 4, side: 'left'}),
    "flora({rank: 12, side: 'right'}), above every side": flora({rank: 12, side: 'right'}),
  },
  galore: {
    'galore()': galore(),
    'galore({rank: 1})': galore({rank: 1}),
    "galore({rank: 2, side: 'larger', scale: 0.25})": galore({rank: 2, side: 'larger', scale: 0.25}),
    "galore({rank: 3, side: 'left', align: false})": galore({rank: 3, side: 'left', align: false}),
    "galore({rank: 3, side: 'right', basis: 'power'})": galore({rank: 3, side: 'right', basis: 'power'}),
    "galore({rank: 2, side: 'both'})": galore({rank: 2, side: 'both'}),
    "galore({rank: 2, side: 'both', basis: 'power'})": galore({rank: 2, side: 'both', basis: 'power'}),
  },
  lora: {
    'lora()': lora(),
    'lora({rank: 1})': lora({rank: 1}),
    'lora({rank: 3, alpha: 6})': lora({rank: 3, alpha: 6}),
    'lora({rank: 4, rankStabilised: true})': lora({rank: 4, rankStabilised: true}),
    'lora({rank: 12}), above every side': lora({rank: 12}),
    'lora({init: kaiming()})': lora({rank: 2, init: kaiming()}),
    'lora({init: gaussian()})': lora({rank: 2, init: gaussian()}),
    'lora({init: symmetric()})': lora({rank: 2, init: symmetric()}),
    'lora({init: orthogonal()})': lora({rank: 2, init: orthogonal()}),
    'lora({init: orthogonal({both: true})})': lora({rank: 2, init: orthogonal({both: true, gain: 2})}),
    'lora({init: loraGA()})': lora({rank: 2, alpha: 3, init: loraGA()}),
    'lora({rank: 4, init: loraGA()}), with 2r above the sides': lora({
      rank: 4,
      init: loraGA({direction: 'arbr'}),
    }),
    "lora({init: loraGA({direction: 'gaussian'})})": lora({rank: 2, init: loraGA({direction: 'gaussian'})}),
    'lora({init: loraOne()})': lora({rank: 2, init: loraOne()}),
    'lora({init: pissa()})': lora({rank: 2, alpha: 6, init: pissa()}),
    'lora({rank: 12, init: pissa()}), above every side': lora({rank: 12, init: pissa()}),
    'lora({init: olora()})': lora({rank: 3, init: olora()}),
    'lora({precondition: riemannian()})': lora({rank: 3, alpha: 6, precondition: riemannian()}),
    'lora({precondition: riemannian({regularisation: 0, divideByScale: true})})': lora({
      rank: 2,
      precondition: riemannian({regularisation: 0, divideByScale: true}),
    }),
    'lora({precondition: loraPro()})': lora({rank: 3, alpha: 6, precondition: loraPro()}),
    "lora({precondition: loraPro({gauge: 'zero'})})": lora({
      rank: 2,
      init: symmetric(),
      precondition: loraPro({gauge: 'zero'}),
    }),
    'lora({rank: 12, precondition: loraPro()})': lora({rank: 12, precondition: loraPro()}),
    'lora with a start of the user': lora({
      rank: 2,
      init: ({weight, rank}) => ({b: tf.ones([rank, weight.shape[1]])}),
    }),
  },
  'lora-xs': {
    'loraXS()': loraXS(),
    'loraXS({rank: 2, alpha: 6})': loraXS({rank: 2, alpha: 6}),
    'loraXS({rank: 3, rankStabilised: true})': loraXS({rank: 3, rankStabilised: true}),
    'loraXS({rank: 2, std: 1e-5})': loraXS({rank: 2, std: 1e-5}),
  },
  mica: {
    'mica({rank: 1})': mica({rank: 1}),
    'mica({rank: 2, alpha: 6})': mica({rank: 2, alpha: 6}),
    'mica({rank: 2, rankStabilised: true})': mica({rank: 2, rankStabilised: true}),
  },
  vera: {
    'vera()': vera(),
    'vera({rank: 3, projectionSeed: 5})': vera({rank: 3, projectionSeed: 5}),
    'vera({rank: 1})': vera({rank: 1}),
    'vera with a start of the user, away from zero': vera({
      rank: 3,
      init: ({weight, rank}) => ({d: tf.ones([rank]), b: tf.ones([weight.shape[1]])}),
    }),
  },
  'lora-fa': {
    'loraFA()': loraFA(),
    'loraFA({rank: 3, alpha: 6})': loraFA({rank: 3, alpha: 6}),
    'loraFA({precondition: false})': loraFA({rank: 2, precondition: false}),
    'loraFA({epsilon: 0.1})': loraFA({rank: 2, epsilon: 0.1, rankStabilised: true}),
    'loraFA({init: orthogonal()})': loraFA({rank: 2, init: orthogonal()}),
    'loraFA({init: gaussian()})': loraFA({rank: 2, init: gaussian()}),
  },
  osf: {
    'osf()': osf(),
    'osf({rank: 3, alpha: 6, protect: 2})': osf({rank: 3, alpha: 6, protect: 2}),
    'osf({rank: 12, protect: 1}), above every side': osf({rank: 12, protect: 1}),
    'osf({init: symmetric()})': osf({rank: 2, protect: 2, init: symmetric()}),
  },
  'lora-sb': {
    'loraSB()': loraSB(),
    'loraSB({rank: 2, alpha: 6})': loraSB({rank: 2, alpha: 6}),
    'loraSB({rankStabilised: true})': loraSB({rank: 2, alpha: 6, rankStabilised: true}),
    "loraSB({rank: 3, target: 'sign'})": loraSB({rank: 3, target: 'sign'}),
    'loraSB({rank: 1, steps: 3})': loraSB({rank: 1, steps: 3}),
  },
  'random-projection': {
    'randomProjection()': randomProjection(),
    'randomProjection({rank: 1, unbiased: false})': randomProjection({rank: 1, unbiased: false}),
    "randomProjection({rank: 2, distribution: 'orthonormal'})": randomProjection({
      rank: 2,
      distribution: 'orthonormal',
    }),
    "randomProjection({rank: 2, sides: 'left'})": randomProjection({rank: 2, sides: 'left'}),
    "randomProjection({rank: 2, sides: 'right'})": randomProjection({rank: 2, sides: 'right'}),
    "randomProjection({rank: 3, sides: 'left', distribution: 'orthonormal'})": randomProjection({
      rank: 3,
      sides: 'left',
      distribution: 'orthonormal',
    }),
    "randomProjection({rank: 12, sides: 'right', distribution: 'orthonormal'}), above every side":
      randomProjection({rank: 12, sides: 'right', distribution: 'orthonormal'}),
  },
};

/** Shapes for the methods that some of the usual ones do not suit. */
export const shapes: Record<string, readonly (readonly [m: number, n: number])[]> = {
  // A column of one number has no direction, and one of a few may come so close to zero that differences are too coarse.
  dora: [
    [9, 6],
    [6, 9],
    [8, 8],
    [7, 1],
    [16, 16],
    [8, 17],
  ],
  // A row or a column has one singular vector.
  mica: [
    [9, 6],
    [6, 9],
    [5, 5],
    [16, 16],
    [2, 17],
  ],
};
