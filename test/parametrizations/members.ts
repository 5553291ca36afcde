import * as tf from '@tensorflow/tfjs';
import {
  flora,
  full,
  galore,
  gaussian,
  kaiming,
  lora,
  orthogonal,
  type Parametrization,
  randomProjection,
  symmetric,
} from '../../src/index.js';

/**
 * Every parametrization in every form that matters, by the page of `docs/parametrizations/` it belongs to. All of them
 * are held to the laws (`laws.test.ts`), and are rows of the table in `docs/parametrizations/residuals.md`.
 */
export const members: Record<string, Record<string, Parametrization>> = {
  flora: {
    'flora()': flora(),
    'flora({rank: 1})': flora({rank: 1}),
    "flora({rank: 3, side: 'larger', scale: 2})": flora({rank: 3, side: 'larger', scale: 2}),
    "flora({rank: 4, side: 'left'})": flora({rank: 4, side: 'left'}),
    "flora({rank: 12, side: 'right'}), above every side": flora({rank: 12, side: 'right'}),
  },
  full: {'full()': full()},
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
    'lora with a start of the user': lora({
      rank: 2,
      init: ({weight, rank}) => ({b: tf.ones([rank, weight.shape[1]])}),
    }),
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
