import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeAll, describe, expect, test} from 'vitest';
import {full, normal, projected} from '../../src/index.js';
import {installWasmKernels} from '../../src/wasm/install.js';
import {expectClose, values} from '../helpers.js';

const kernels = ['cpu', 'wasm', 'wasm with our kernels'];

/** The step that one pass of a loss makes. */
function step(loss: (w: tf.Variable) => tf.Tensor, shape: number[], capture: 'auto' | 'dense' = 'auto') {
  const weight = tf.variable(tf.fill(shape, 1));
  projected(tf.train.sgd(1), full(), {targets: () => true, capture}).minimize(
    () => tf.sum(loss(weight)) as tf.Scalar,
    false,
    [weight],
  );
  return values(weight).map(value => 1 - value);
}

describe.each(kernels)('an empty batch on %s', kernel => {
  let undo = () => {};
  beforeAll(async () => {
    expect(await tf.setBackend(kernel.split(' ')[0]!)).toBe(true);
    if (kernel.includes('our')) undo = installWasmKernels();
    return () => undo();
  });
  // What earlier tensors leave in memory must not come back as a gradient.
  const dirty = () => tf.tidy(() => void Array.from({length: 50}, (_, i) => tf.fill([6, 8], 3 + i)));

  test.each<[string, number[], (w: tf.Variable) => tf.Tensor]>([
    ['matMul', [6, 8], w => tf.matMul(tf.zeros([0, 6]), w as tf.Tensor2D)],
    ['matMul, the weight on the left', [6, 8], w => tf.matMul(w as tf.Tensor2D, tf.zeros([8, 0]))],
    ['gather', [6, 8], w => tf.gather(w, tf.zeros([0], 'int32'))],
  ])('%s has the gradient zero', (_, shape, loss) => {
    dirty();
    expect(step(loss, shape).every(value => value === 0)).toBe(true);
  });

  test('beside a batch that is not: the same as that alone', () => {
    dirty();
    const x = normal([5, 6], 1) as tf.Tensor2D;
    const both = step(
      w => tf.concat([tf.matMul(tf.zeros([0, 6]), w as tf.Tensor2D), tf.matMul(x, w as tf.Tensor2D)]),
      [6, 8],
    );
    expectClose(
      both,
      step(w => tf.matMul(x, w as tf.Tensor2D), [6, 8]),
      1e-6,
    );
  });
});

describe.each(['cpu', 'wasm'])('a bias that is fused, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });
  afterEach(() => tf.disposeVariables());
  const x = () => normal([7, 6], 1) as tf.Tensor2D;

  // wasm takes a bias of rank 1 alone.
  const shapes = backend === 'cpu' ? [[8], [1, 8], [], [1], [7, 1], [7, 8]] : [[8]];
  test.each(shapes.map(shape => [shape]))('of shape %j', shape => {
    const run = (capture: 'auto' | 'dense') => {
      const [w, c] = [tf.variable(normal([6, 8], 2)), tf.variable(normal(shape, 3))];
      const options = {targets: () => true, capture} as const;
      projected(tf.train.sgd(0.1), full(), options).minimize(
        () =>
          tf.mean(tf.square(tf.fused.matMul({a: x(), b: w as unknown as tf.Tensor2D, bias: c}))) as tf.Scalar,
        false,
        [w, c],
      );
      return [...values(w), ...values(c)];
    };
    if (backend === 'cpu') expectClose(run('auto'), run('dense'), 1e-5);
    else expect(run('auto').every(Number.isFinite)).toBe(true);
  });
});
