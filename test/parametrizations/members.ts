import * as tf from '@tensorflow/tfjs';
import {
  full,
  gaussian,
  kaiming,
  lora,
  loraFA,
  loraPro,
  loraSB,
  orthogonal,
  osf,
  type Parametrization,
  riemannian,
  symmetric,
} from '../../src/index.js';

/**
 * Every parametrization in every form that matters, by the page of `docs/parametrizations/` it belongs to. All of them
 * are held to the laws (`laws.test.ts`), and are rows of the table in `docs/parametrizations/residuals.md`.
 */
export const members: Record<string, Record<string, Parametrization>> = {
  full: {'full()': full()},
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
    "loraSB({rank: 3, target: 'sign'})": loraSB({rank: 3, target: 'sign'}),
    'loraSB({rank: 1, steps: 3})': loraSB({rank: 1, steps: 3}),
  },
};
