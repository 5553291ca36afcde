import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {type Parametrization, projected} from '../../src/index.js';
import {relativeError, values} from '../helpers.js';
import {matrix} from './exercise.js';
import {members} from './members.js';
import {record} from './oracle.js';

/** Steps through gradients that were never formed are steps through dense gradients: for every parametrization. */

const rows = Object.entries(members).flatMap(([method, forms]) =>
  Object.entries(forms).map(([form, parametrization]) => ({method, form, parametrization})),
);

/** Two layers and an embedding after four steps. */
function trained(parametrization: Parametrization, capture: 'auto' | 'dense'): number[] {
  const weights = [matrix([9, 16], 1), matrix([16, 12], 2), matrix([20, 9], 3)].map((start, i) =>
    // By names of their own, for the start of a weight goes by its name.
    tf.variable(start, true, `captured${i}`),
  ) as [tf.Variable<tf.Rank.R2>, tf.Variable<tf.Rank.R2>, tf.Variable<tf.Rank.R2>];
  const [first, second, table] = weights;
  const indices = tf.tensor1d([3, 0, 3, 19, 7, 11], 'int32');
  const [target, input] = [matrix([6, 12], 4), matrix([6, 9], 5)];
  const loss = () => {
    // tfjs's wasm backend cannot form the gradient of an embedding.
    const x = tf.getBackend() === 'wasm' ? input : (tf.gather(table, indices) as tf.Tensor2D);
    const y = tf.matMul(tf.tanh(tf.matMul(x, first)) as tf.Tensor2D, second);
    return tf.mean(tf.squaredDifference(y, target)) as tf.Scalar;
  };
  // Without `trained`, weights are attached on which the rank saves nothing.
  const {trained: _, ...always} = parametrization;
  const optimizer = projected(tf.train.sgd(0.05), always as Parametrization, {targets: () => true, capture});
  for (let step = 0; step < 4; step++) optimizer.minimize(loss, false, weights);
  const after = weights.flatMap(weight => values(weight));
  optimizer.dispose();
  tf.dispose([...weights, indices, target, input]);
  return after;
}

/**
 * Here the gradients have rank 6, so that half of B's twelve directions hold nothing but rounding, which its
 * pseudo-inverse magnifies: the two paths part, and any two would.
 */
const illPosed = 'lora({rank: 12, precondition: loraPro()})';

describe.each(['cpu', 'wasm'])('taps and dense gradients on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each(rows.filter(({form}) => form !== illPosed))('$form', ({method, parametrization}) => {
    const error = relativeError(trained(parametrization, 'auto'), trained(parametrization, 'dense'));
    if (backend === 'cpu') record(method, 'taps', error, 1e-4, 'four steps through taps = through G');
    expect(error).toBeLessThanOrEqual(1e-4);
  });
});
