import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {
  type Additive,
  at,
  every,
  full,
  lora,
  loraGA,
  normal,
  projected,
  recipe,
  renewed,
  splitSeed,
} from '../src/index.js';
import {transported} from '../src/moments.js';
import {checkLaws} from '../src/testing/index.js';
import {numTensors, relativeError, tensorsLeftBy, values} from './helpers.js';

/** W = W0 + P R with an orthogonal square P: the whole space, whose axes turn at a refresh. */
const turning = recipe('turning', (angles: readonly number[] = [0.3, 1.1]): Additive<'r'> => {
  const turn = (angle: number) =>
    tf.tensor2d([Math.cos(angle), -Math.sin(angle), Math.sin(angle), Math.cos(angle)], [2, 2]);
  const fresh = (n: number, angle: number) => ({factors: {r: tf.zeros([2, n])}, frozen: {p: turn(angle)}});
  return {
    name: 'turning',
    renewal: {refresh: at([2]), moments: 'transport', refuses: {keep: 'the axes turn'}},
    init: ({weight}) => fresh(weight.shape[1], angles[0]!),
    delta: ({factors: {r}, frozen: {p}}) => tf.matMul(p as tf.Tensor2D, r as tf.Tensor2D),
    pullback: ({frozen: {p}}, gradient) => ({r: gradient.leftMul(p as tf.Tensor2D)}),
    refresh: (_, {weight}) => fresh(weight.shape[1], angles[1]!),
    transport: (state, next) => ({
      r: {left: tf.matMul(next.frozen['p'] as tf.Tensor2D, state.frozen['p'] as tf.Tensor2D, true)},
    }),
  };
});

const gradientAt = (step: number, shape: [number, number] = [2, 3]) => normal(shape, splitSeed(5, step));
const all = {targets: () => true} as const;

describe.each(['cpu', 'wasm'])('renewal on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });
  const run = (optimizer: tf.Optimizer, steps = 6): number[] => {
    const weight = tf.variable(normal([2, 3], 1));
    for (let step = 0; step < steps; step++) optimizer.applyGradients({[weight.name]: gradientAt(step)});
    return values(weight);
  };

  test('momentum that is transported is momentum that nobody turned', () => {
    const plain = run(tf.train.momentum(0.1, 0.9));
    expect(relativeError(run(projected(tf.train.momentum(0.1, 0.9), turning(), all)), plain)).toBeLessThan(
      1e-6,
    );
    const reset = projected(tf.train.momentum(0.1, 0.9), turning(), {...all, moments: 'reset'});
    expect(relativeError(run(reset), plain)).toBeGreaterThan(1e-2);
  });

  test('Adam through an identity is Adam that was kept', () => {
    const adam = (moments: 'transport' | 'keep') => {
      const still = {...turning([0.4, 0.4]), renewal: {refresh: at([2]), moments}};
      return run(projected(tf.train.adam(0.1, 0.9, 0.999, 1e-7), still, all));
    };
    expect(relativeError(adam('transport'), adam('keep'))).toBeLessThan(1e-6);
  });

  test('what the parametrization refuses is an error, unless there are no moments', () => {
    const build = (inner: tf.Optimizer) => projected(inner, turning(), {moments: 'keep'});
    expect(() => build(tf.train.adam(0.1))).toThrow(
      /'keep' makes no sense for turning with Adam: the axes turn.*'transport'/,
    );
    expect(() => build(tf.train.sgd(0.1))).not.toThrow();
    expect(() => projected(tf.train.adam(0.1), lora(), {refresh: every(2), moments: 'transport'})).toThrow(
      /lora has no transport/,
    );
    const weight = tf.variable(normal([2, 3], 1));
    const each = projected(() => tf.train.adam(0.1), turning(), {...all, moments: 'keep'});
    const before = values(weight);
    expect(() => each.applyGradients({[weight.name]: gradientAt(0)})).toThrow(/makes no sense/);
    expect(values(weight)).toEqual(before);
  });

  test('nothing is left behind', async () => {
    const weight = tf.variable(normal([2, 3], 1));
    const optimizer = projected(tf.train.adam(0.1), turning(), all);
    const take = (step: number) => tf.tidy(() => optimizer.applyGradients({[weight.name]: gradientAt(step)}));
    [0, 1].forEach(take);
    expect(await tensorsLeftBy(() => [2, 3, 4].forEach(take))).toBe(0);
  });
});

test('the law of transport', () => {
  const shapes = [[2, 5]] as const;
  const broken = (p: Additive<'r'>) => checkLaws(p, {shapes}).filter(({holds}) => !holds);
  const p = turning();
  expect(broken(p)).toEqual([]);
  const backwards: Additive<'r'> = {...p, transport: (state, next) => p.transport!(next, state)};
  expect(broken(backwards).map(({law}) => law)).toContain('transport');
});

test('moments that turn by 90 degrees swap coordinates', () => {
  const left = tf.tensor2d([0, -1, 1, 0], [2, 2]);
  const slots = {
    accumulatedFirstMoment: tf.tensor2d([1, -2, 3, 4], [2, 2]),
    accumulatedSecondMoment: tf.tensor2d([9, 16, 25, 36], [2, 2]),
  };
  const moved = transported('Adam', slots, {left}, {first: 0.5, second: 0.25});
  expect(values(moved['accumulatedFirstMoment']!)).toEqual([-3, -4, 1, -2]);
  expect(relativeError(values(moved['accumulatedSecondMoment']!), [25, 36, 9, 16])).toBeLessThan(1e-6);
});

/** W = W0 + A o B, where A is the sum of the gradients seen. */
const observing = recipe('observing', (steps: number): Additive<'b'> => ({
  name: 'observing',
  observe: {
    steps,
    begin: ({shape}) => ({total: tf.zeros([...shape])}),
    add: ({total}, gradient) => ({total: tf.add(total!, gradient.dense())}),
  },
  init: ({weight, gradient, sketch}) => ({
    factors: {b: tf.zeros(weight.shape)},
    frozen: {a: sketch ? sketch['total']! : gradient.dense()},
  }),
  delta: ({factors: {b}, frozen: {a}}) => tf.mul(a!, b),
}));

describe.each(['cpu', 'wasm'])('gradients seen before the start, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });
  const take = (optimizer: tf.Optimizer, weight: tf.Variable, steps: number[]) => {
    for (const step of steps) tf.tidy(() => optimizer.applyGradients({[weight.name]: gradientAt(step)}));
  };
  const build = (steps: number) => projected(tf.train.momentum(0.1, 0.9), observing(steps), all);

  test('nothing moves until all are seen; init is given their sum', () => {
    const weight = tf.variable(normal([2, 3], 1));
    const before = values(weight);
    const optimizer = build(3);
    take(optimizer, weight, [0, 1]);
    expect(values(weight)).toEqual(before);
    expect(optimizer.iterations).toBe(0);
    expect(optimizer.attached).toEqual([]);
    optimizer.explain([weight], null);
    take(optimizer, weight, [2]);
    expect(values(weight)).not.toEqual(before);
    expect(optimizer.iterations).toBe(1);
    const sum = tf.addN([0, 1, 2].map(step => gradientAt(step)));
    expect(relativeError(values(optimizer.attached[0]!.frozen['a']!), values(sum))).toBeLessThan(1e-6);
  });

  test('k calls + save + load + the rest = all of them', async () => {
    const steps = [0, 1, 2, 3, 4];
    for (const k of [1, 2, 3, 4]) {
      const whole = tf.variable(normal([2, 3], 1), true, `w-${backend}-${k}`);
      take(build(3), whole, steps);
      const wanted = values(whole);
      whole.assign(normal([2, 3], 1));
      const first = build(3);
      take(first, whole, steps.slice(0, k));
      const second = build(3);
      await second.setWeights(await first.getWeights());
      take(second, whole, steps.slice(k));
      expect(values(whole), `after ${k}`).toEqual(wanted);
      // Names seed random numbers here too, so the name is the same.
      expect(second.iterations).toBe(3);
    }
  });

  test('a weight that observes holds up the others; one without a gradient holds up nobody', () => {
    const [seen, other, idle] = ['seen', 'other', 'idle'].map((name, i) =>
      tf.variable(normal([2, 3], i), true, `${name}-${backend}`),
    ) as [tf.Variable, tf.Variable, tf.Variable];
    const optimizer = projected(tf.train.sgd(0.1), observing(2), {
      targets: [
        [/^other/, full()],
        [/^seen/, observing(2)],
        [/^idle/, observing(2)],
      ],
    });
    const before = values(other);
    const loss = () => tf.add(tf.sum(tf.square(seen)), tf.sum(tf.square(other))) as tf.Scalar;
    optimizer.minimize(loss, false, [seen, other, idle]);
    expect(values(other)).toEqual(before);
    optimizer.minimize(loss, false, [seen, other, idle]);
    expect(values(other)).not.toEqual(before);
    expect(optimizer.attached.length).toBe(2);
  });

  test('a gradient that is no number is not remembered; nothing is left behind', () => {
    const weight = tf.variable(normal([2, 3], 1));
    const bad = tf.fill([2, 3], NaN);
    const before = numTensors();
    const optimizer = build(2);
    const held = numTensors();
    expect(() => optimizer.applyGradients({[weight.name]: bad})).toThrow(/holds NaN/);
    expect(numTensors()).toBe(held);
    take(optimizer, weight, [0, 1]);
    expect(optimizer.iterations).toBe(1);
    optimizer.dispose();
    expect(numTensors()).toBe(before);
  });
});

test('rules may renew one method alone; a function that is only told things does not stop a file', async () => {
  await tf.setBackend('cpu');
  const [turned, still] = ['turned', 'still'].map((name, i) =>
    tf.variable(normal([2, 3], i), true, name),
  ) as [tf.Variable, tf.Variable];
  const optimizer = projected(tf.train.momentum(0.1, 0.9), lora({rank: 1}), {
    targets: [
      ['turned', renewed(turning(), {refresh: every(2), moments: 'reset'})],
      ['still', lora({rank: 1, init: loraGA({onEnergy: () => {}})})],
    ],
  });
  for (let step = 0; step < 4; step++) {
    optimizer.applyGradients({[turned.name]: gradientAt(step), [still.name]: gradientAt(step + 9)});
  }
  expect(optimizer.attached.map(({name, refreshed}) => [name, refreshed])).toEqual([
    ['turned', true],
    ['still', false],
  ]);
  const config = JSON.parse(String(optimizer.getConfig()['name'])) as object;
  expect(JSON.stringify(config)).toContain('"$recipe":"renewed"');
  expect(JSON.stringify(config)).not.toContain('$yours');
  expect(() => renewed(turning(), {refresh: 5 as never})).toThrow(
    'renewed: refresh must be a function such as every',
  );
});
