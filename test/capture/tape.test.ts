import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeAll, describe, expect, test, vi} from 'vitest';
import {withMethods} from '../../src/capture/engine.js';
import {lora, normal, projected, symmetric} from '../../src/index.js';
import type {Additive} from '../../src/index.js';

const weight = (shape: number[], seed: number, name?: string) => tf.variable(normal(shape, seed), true, name);
const sgd = (options = {}) =>
  projected(tf.train.sgd(0.1), lora({rank: 1, init: symmetric()}), {targets: () => true, ...options});
const capturesOf = (optimizer: ReturnType<typeof sgd>, variables: tf.Variable[]) =>
  optimizer.explain(variables, null).map(({capture}) => capture);

beforeAll(() => tf.setBackend('cpu'));
afterEach(() => vi.restoreAllMocks());

/** The same steps through taps and through dense gradients. */
function compare(variables: tf.Variable[], loss: () => tf.Scalar, steps = 3) {
  const start = variables.map(v => v.clone());
  const run = (capture: 'auto' | 'dense') => {
    variables.forEach((v, i) => v.assign(start[i]!));
    const optimizer = sgd({capture});
    for (let step = 0; step < steps; step++) optimizer.minimize(loss, false, variables);
    const captures = capturesOf(optimizer, variables);
    optimizer.dispose();
    return {captures, values: variables.map(v => v.dataSync().slice())};
  };
  const [tapped, dense] = [run('auto'), run('dense')];
  tapped.values.forEach((values, i) =>
    values.forEach((value, k) => expect(value).toBeCloseTo(dense.values[i]![k]!, 5)),
  );
  return tapped.captures;
}

describe('how a weight is used', () => {
  const x = () => normal([5, 4], 9) as tf.Tensor2D;
  const squared = (y: tf.Tensor) => tf.mean(tf.square(y)) as tf.Scalar;

  test('on the right, transposed, on the left', () => {
    const [a, b, c] = [weight([4, 6], 1), weight([3, 6], 2), weight([2, 3], 3)];
    const captures = compare([a, b, c], () => {
      const h = tf.tanh(tf.matMul(x(), a as unknown as tf.Tensor2D));
      const g = tf.matMul(h, b as unknown as tf.Tensor2D, false, true);
      return squared(tf.matMul(c as unknown as tf.Tensor2D, g, false, true));
    });
    expect(captures).toEqual(Array(3).fill('factored: matMul'));
  });

  test('with the input transposed', () => {
    const w = weight([5, 6], 1);
    expect(compare([w], () => squared(tf.matMul(x(), w as unknown as tf.Tensor2D, true)))).toEqual([
      expect.stringMatching(/^factored: /),
    ]);
  });

  test('twice, and tied: an embedding that is also the output projection', () => {
    const table = weight([7, 4], 1);
    const captures = compare([table], () => {
      const rows = tf.gather(table as unknown as tf.Tensor2D, tf.tensor1d([1, 3, 3, 0], 'int32'));
      return squared(tf.matMul(tf.tanh(rows), table as unknown as tf.Tensor2D, false, true));
    });
    expect(captures).toEqual([expect.stringMatching(/^factored: /)]);
  });

  test('as a square matrix applied again and again', () => {
    const w = weight([4, 4], 1);
    const captures = compare([w], () => {
      let h = x() as tf.Tensor;
      for (let i = 0; i < 4; i++) h = tf.tanh(tf.matMul(h as tf.Tensor2D, w as unknown as tf.Tensor2D));
      return squared(h);
    });
    expect(captures).toEqual([expect.stringMatching(/^factored: /)]);
  });

  test('also by an op without a factored form: both parts count', () => {
    const w = weight([4, 6], 1);
    const captures = compare([w], () =>
      tf.add(squared(tf.matMul(x(), w as unknown as tf.Tensor2D)), tf.mul(tf.sum(tf.abs(w)), 0.1)),
    );
    expect(captures).toEqual([expect.stringMatching(/^mixed: Abs/)]);
  });

  test('by a product that does not reach the loss', () => {
    const w = weight([4, 6], 1);
    const captures = compare([w], () => {
      tf.matMul(x(), w as unknown as tf.Tensor2D);
      return squared(tf.matMul(x(), w as unknown as tf.Tensor2D));
    });
    expect(captures).toEqual([expect.stringMatching(/^factored: /)]);
  });

  test('by a fused convolution, and by other ops on the same two tensors', () => {
    const w = weight([2, 2, 2, 2], 1);
    const [x, filter] = [normal([2, 2, 2, 2], 9), w as tf.Tensor] as [tf.Tensor4D, tf.Tensor4D];
    const fused = () => tf.fused.conv2d({x, filter, strides: 1, pad: 'same'});
    expect(compare([w], () => squared(fused()))).toEqual([expect.stringMatching(/^factored: /)]);
    const joined = compare([w], () => tf.add(squared(fused()), squared(tf.concat([x, filter]))));
    expect(joined).toEqual([expect.stringMatching(/^mixed: Concat/)]);
    // An op of the user's own, around the fused one, with a gradient that is not the convolution's.
    const own = tf.customGrad((...args) => {
      const save = args[2] as unknown as tf.GradSaveFunc;
      save([filter, x]);
      return {
        value: fused(),
        gradFunc: (dy: tf.Tensor) => [tf.zerosLike(x), tf.clipByValue(tf.add(dy, 1), 0, 1)],
      };
    });
    expect(compare([w], () => squared(own(x, filter)))).toEqual([expect.stringMatching(/^dense/)]);
  });

  test('reshaped on the way, and inside a gradient that the loss takes itself', () => {
    const w = weight([2, 2, 6], 1);
    const flat = () => tf.reshape(w, [4, 6]) as tf.Tensor2D;
    expect(compare([w], () => squared(tf.matMul(x(), flat())))).toEqual([
      expect.stringMatching(/^factored: /),
    ]);
    const v = weight([4, 6], 2);
    const captures = compare([v], () => {
      const slope = tf.grad((z: tf.Tensor) =>
        tf.sum(tf.square(tf.matMul(z as tf.Tensor2D, v as unknown as tf.Tensor2D))),
      );
      return tf.mul(squared(slope(x())), 1e-3) as tf.Scalar;
    });
    expect(captures).toEqual([expect.stringMatching(/^factored: /)]);
  });

  test('an automatic pullback inside the backward pass does not disturb it', () => {
    const automatic = (): Additive<'a' | 'b'> => {
      const {pullback: _, ...rest} = lora({rank: 2, init: symmetric()});
      return rest as Additive<'a' | 'b'>;
    };
    const weights = [weight([4, 6], 1), weight([6, 3], 2)];
    const loss = () =>
      squared(
        tf.matMul(
          tf.tanh(tf.matMul(x(), weights[0] as unknown as tf.Tensor2D)),
          weights[1] as unknown as tf.Tensor2D,
        ),
      );
    const start = weights.map(w => w.clone());
    const run = (parametrization: Additive<'a' | 'b'>) => {
      weights.forEach((w, i) => w.assign(start[i]!));
      const optimizer = projected(tf.train.sgd(0.1), parametrization, {targets: () => true});
      for (let step = 0; step < 3; step++) optimizer.minimize(loss, false, weights);
      optimizer.dispose();
      return weights.map(w => Array.from(w.dataSync()));
    };
    const [byHand, byTape] = [run(lora({rank: 2, init: symmetric()})), run(automatic())];
    byTape.forEach((values, i) => values.forEach((value, k) => expect(value).toBeCloseTo(byHand[i]![k]!, 5)));
  });
});

describe('the hook', () => {
  const methods = () => {
    const engine = tf.engine() as unknown as Record<string, unknown>;
    return ['addTapeNode', 'runKernel'].map(name => [engine[name], Object.hasOwn(engine, name)]);
  };

  test('is undone after a step, after a loss that throws, after a gradient that throws', () => {
    const before = methods();
    const w = weight([4, 6], 1);
    const optimizer = sgd();
    const loss = () =>
      tf.mean(
        tf.square(tf.matMul(normal([5, 4], 2) as tf.Tensor2D, w as unknown as tf.Tensor2D)),
      ) as tf.Scalar;
    optimizer.minimize(loss, false, [w]);
    expect(methods()).toEqual(before);
    const values = w.dataSync().slice();
    expect(() =>
      optimizer.minimize(
        () => {
          loss();
          throw new Error('no loss today');
        },
        false,
        [w],
      ),
    ).toThrow('no loss today');
    expect(methods()).toEqual(before);
    expect(() =>
      optimizer.minimize(
        () =>
          tf.sum(
            tf.prod(tf.matMul(normal([5, 4], 2) as tf.Tensor2D, w as unknown as tf.Tensor2D), 0),
          ) as tf.Scalar,
        false,
        [w],
      ),
    ).not.toThrow(/hook/);
    expect(() =>
      optimizer.minimize(
        () =>
          tf.sum(
            tf.topk(tf.matMul(normal([5, 4], 2) as tf.Tensor2D, w as unknown as tf.Tensor2D)).values,
          ) as tf.Scalar,
        false,
        [w],
      ),
    ).toThrow();
    expect(methods()).toEqual(before);
    expect(w.dataSync()).not.toEqual(values);
    const alone = tf.variableGrads(loss, [w]);
    expect(alone.grads[w.name]!.shape).toEqual([4, 6]);
  });

  test('a tfjs without it still trains, through dense gradients', () => {
    const engine = tf.engine() as unknown as {addTapeNode: unknown};
    const real = engine.addTapeNode;
    const w = weight([4, 6], 1);
    const optimizer = sgd();
    const loss = () =>
      tf.mean(
        tf.square(tf.matMul(normal([5, 4], 2) as tf.Tensor2D, w as unknown as tf.Tensor2D)),
      ) as tf.Scalar;
    // The tape needs the method; the check alone is told that there is none.
    let asked = 0;
    Object.defineProperty(engine, 'addTapeNode', {
      configurable: true,
      get: () => (asked++ === 0 ? undefined : real),
    });
    try {
      optimizer.minimize(loss, false, [w]);
    } finally {
      delete (engine as unknown as Record<string, unknown>)['addTapeNode'];
    }
    expect(capturesOf(optimizer, [w])[0]).toMatch(/^dense/);
  });

  test('a method that cannot be replaced: trains through dense gradients, and nothing is left wrapped', () => {
    const w = weight([4, 6], 1);
    const loss = () =>
      tf.mean(
        tf.square(tf.matMul(normal([5, 4], 2) as tf.Tensor2D, w as unknown as tf.Tensor2D)),
      ) as tf.Scalar;
    const {isExtensible, getOwnPropertyDescriptor} = Object;
    const before = methods();
    const forbid = (name: string) =>
      vi
        .spyOn(Object, 'getOwnPropertyDescriptor')
        .mockImplementation((target, key) =>
          target === tf.engine() && key === name
            ? {value: (target as Record<string, unknown>)[name], writable: false, configurable: false}
            : getOwnPropertyDescriptor(target, key),
        );
    for (const spoil of [
      () => forbid('addTapeNode'),
      () => forbid('runKernel'),
      () =>
        vi
          .spyOn(Object, 'isExtensible')
          .mockImplementation(target => target !== tf.engine() && isExtensible(target)),
    ]) {
      spoil();
      const optimizer = sgd();
      optimizer.minimize(loss, false, [w]);
      vi.restoreAllMocks();
      expect(capturesOf(optimizer, [w])[0]).toMatch(/^dense/);
      expect(methods()).toEqual(before);
      optimizer.dispose();
    }
    const frozen = Object.defineProperty({first: 1}, 'second', {value: 2});
    expect(() => withMethods(frozen, {first: 3, second: 4}, () => {})).toThrow(TypeError);
    expect(frozen).toEqual({first: 1});
  });

  test('no tensor is left behind by steps, nor by losses that throw', () => {
    const weights = [weight([4, 6], 1), weight([6, 3], 2)];
    const x = normal([5, 4], 3) as tf.Tensor2D;
    const optimizer = sgd();
    const loss = () =>
      tf.tidy(() => {
        const h = tf.tanh(tf.matMul(x, weights[0] as unknown as tf.Tensor2D));
        return tf.mean(tf.square(tf.matMul(h, weights[1] as unknown as tf.Tensor2D))) as tf.Scalar;
      });
    optimizer.minimize(loss, false, weights);
    const count = tf.memory().numTensors;
    for (let step = 0; step < 5; step++) optimizer.minimize(loss, false, weights);
    expect(tf.memory().numTensors).toBe(count);
  });
});
