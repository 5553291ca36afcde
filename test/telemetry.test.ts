import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import * as calculus from '../src/calculus.js';
import {randomOrthonormal} from '../src/linalg/orthonormal.js';
import {beforeEach, describe, expect, test} from 'vitest';
import {
  type Additive,
  at,
  type Composed,
  every,
  flora,
  full,
  galore,
  type HostGradients,
  kaiming,
  lora,
  loraAdam,
  type LoraOptions,
  loraSgd,
  normal,
  type Parametrization,
  projected,
  type ProjectedOptimizer,
  randomProjection,
  symmetric,
  type TelemetryRow,
} from '../src/index.js';
import * as reference from '../src/reference/index.js';
import {fromTensor, numTensors, tensorsLeftBy, values} from './helpers.js';
import {data, mlp, variable, weightsOf} from './host/models.js';
import {members} from './parametrizations/members.js';
import {expectOracle} from './parametrizations/oracle.js';
import {meanOver} from './parametrizations/subspace.js';

const ON = {telemetry: true, targets: () => true} as const;
const random = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;

/** A weight whose numbers follow from its name, as the seeds of its factors do: the same in every run. */
function weightOf(shape: number[], seed: number, name = `w${seed}`): tf.Variable {
  tf.engine().registeredVariables[name]?.dispose();
  return tf.variable(normal(shape, seed), true, name);
}

/** One step along a gradient that is given; the row of it. */
function stepAlong(optimizer: ProjectedOptimizer, weight: tf.Variable, gradient: tf.Tensor): TelemetryRow {
  optimizer.applyGradients({[weight.name]: gradient} as HostGradients);
  const rows = optimizer.telemetry();
  expect(rows).toHaveLength(1);
  return rows[0]!;
}

/** A parametrization that takes any weight, also where it saves nothing. */
function everywhere(p: Parametrization): Parametrization {
  const {trained: _, ...rest} = p as Additive;
  return rest;
}

const anywhere = (options: LoraOptions) => everywhere(lora(options));

const everyForm = Object.entries(members).flatMap(([method, forms]) =>
  Object.entries(forms).map(([form, p]) => ({method, form, p})),
);

/** Methods of which docs/telemetry.md says that they have no share. */
const WITHOUT_SHARE = ['dora', 'hadamard', 'kronecker', 'osf', 'vera'];

/** DPhi as a matrix `[m n, numbers in theta]`. A difference of step 1 is exact for what is of degree 2 at most. */
function jacobian(p: Parametrization, state: calculus.HeldState): reference.Matrix {
  const columns = Object.entries(state.factors).flatMap(([key, factor]) =>
    Array.from({length: factor.size}, (_, i) =>
      tf.tidy(() => {
        const unit = tf.tensor(
          Array.from({length: factor.size}, (_, k) => (k === i ? 1 : 0)),
          factor.shape,
        );
        const [up, down] = [1, -1].map(h =>
          calculus.phi(p, {...state, factors: {...state.factors, [key]: tf.add(factor, tf.mul(unit, h))}}),
        );
        return values(tf.mul(tf.sub(up!, down!), 0.5));
      }),
    ),
  );
  return reference.transpose(reference.matrix([columns.length, columns[0]!.length], columns.flat()));
}

/** U diag(s) V^T with random orthonormal U and V. */
function gradientWith(s: readonly number[], [m, n]: readonly [number, number], seed: number): tf.Tensor2D {
  const [u, v] = [randomOrthonormal(m, s.length, seed), randomOrthonormal(n, s.length, seed + 1)];
  return tf.matMul(tf.mul(u, tf.tensor1d([...s])) as tf.Tensor2D, v, false, true);
}

const loraSpace = (a: reference.Matrix, b: reference.Matrix) => ({form: 'sum', left: a, right: b}) as const;

const near = (actual: number | null, expected: number, tolerance = 1e-5) => {
  expect(actual).not.toBeNull();
  expect(Math.abs(actual! - expected), `${actual} beside ${expected}`).toBeLessThanOrEqual(tolerance);
};

// W = W0 + P R Q, and W = W0 o (1 + g): a product, and one that composes and has no tangent.
const between: Additive<'r'> = {
  name: 'between',
  init: ({weight}) => ({
    factors: {r: tf.zeros([2, 3])},
    frozen: {p: random([weight.shape[0], 2], 1), q: random([3, weight.shape[1]], 2)},
  }),
  delta: ({factors: {r}, frozen: {p, q}}) => tf.matMul(p!, tf.matMul(r, q!)),
  tangent: ({frozen: {p, q}}) => ({form: 'product', left: p as tf.Tensor2D, right: q as tf.Tensor2D}),
};
const gain: Composed<'g'> = {
  name: 'gain',
  init: ({weight}) => ({factors: {g: tf.zeros([1, weight.shape[1]])}}),
  compose: ({base, factors: {g}}) => tf.mul(base, tf.add(1, g)),
};

describe.each(['cpu', 'wasm'])('telemetry on %s', backend => {
  beforeEach(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each([
    [7, 5, 2],
    [5, 9, 3],
    [1, 6, 2],
    [6, 1, 2],
    [33, 17, 4],
    [4, 3, 8],
  ])('share, norms and cosine of %i x %i, rank %i, equal the float64 reference', (m, n, rank) => {
    const weight = weightOf([m, n], 1);
    const optimizer = projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), anywhere({rank}), ON);
    for (let step = 0; step < 5; step++) {
      const gradient = random([m, n], 10 + step);
      const G = fromTensor(gradient);
      const W = fromTensor(weight);
      // Before the first step the factors are not there; B is zero then.
      const factors = step > 0 ? optimizer.factors(weight) : null;
      const space = factors && loraSpace(fromTensor(factors['a']!), fromTensor(factors['b']!));
      const row = stepAlong(optimizer, weight, gradient);
      expect(row).toMatchObject({weight: weight.name, parametrization: 'lora', step});
      near(row.gradientNorm / reference.frobenius(G), 1, 1e-6);
      const change = reference.formula('W1 - W')({W1: fromTensor(weight), W});
      near(row.updateNorm / reference.frobenius(change), 1, 1e-5);
      if (!space) continue;
      // To first order in the factors' change, which is large here.
      const grads = reference.lora(1).pullback({a: space.left, b: space.right}, G);
      const slope = (['a', 'b'] as const).reduce((total, key) => {
        const before = key === 'a' ? space.left : space.right;
        const moved = reference.formula('x - y')({x: fromTensor(factors![key]!), y: before});
        return total + reference.inner(grads[key], moved);
      }, 0);
      near(row.cosine, -slope / (reference.frobenius(G) * reference.frobenius(change)), 1e-5);
      expectOracle(
        'lora',
        'O52',
        'captured share by thin products = by projectors in float64',
        Math.abs(row.capturedShare! - reference.capturedShare(space, G, 1e-4)),
        2e-5,
      );
    }
    optimizer.dispose();
  });

  test('O52: the share is 1 at full rank, and what A catches alone while B is zero', () => {
    for (const [rank, share] of [
      [2, null],
      [5, 1],
      [7, 1],
      [12, 1],
    ] as const) {
      const weight = weightOf([7, 5], 1);
      const gradient = random([7, 5], 2);
      const a = random([7, rank], 3);
      const optimizer = projected(tf.train.sgd(0.1), anywhere({rank, init: () => ({a})}), ON);
      const row = stepAlong(optimizer, weight, gradient);
      const space = {form: 'sum', left: fromTensor(a)} as const;
      const wanted = reference.capturedShare(space, fromTensor(gradient));
      near(row.capturedShare, rank >= 7 ? 1 : wanted);
      if (rank === 5) {
        expect(wanted).toBeLessThan(0.99); // 5 of 7 columns; the rows come with B
        near(stepAlong(optimizer, weight, gradient).capturedShare, 1);
      } else if (share !== null) {
        expectOracle('lora', 'O52 full rank', 'captured share = 1', Math.abs(row.capturedShare! - 1), 1e-5);
      }
      expect(row.capturedShare).toBeGreaterThanOrEqual(0);
      expect(row.capturedShare).toBeLessThanOrEqual(1);
      optimizer.dispose();
    }
  });

  test('a factor of deficient rank counts once, and a gradient inside the space is caught in full', () => {
    const weight = weightOf([7, 5], 1);
    const one = random([7, 1], 2);
    const a = tf.concat([one, tf.mul(one, 3), tf.zeros([7, 1])], 1) as tf.Tensor2D;
    const optimizer = projected(tf.train.sgd(0.1), anywhere({rank: 3, init: () => ({a})}), ON);
    const gradient = random([7, 5], 3);
    const space = {form: 'sum', left: fromTensor(one)} as const;
    const row = stepAlong(optimizer, weight, gradient);
    near(row.capturedShare, reference.capturedShare(space, fromTensor(gradient)));
    const {a: left, b: right} = optimizer.factors(weight);
    const inside = tf.add(tf.matMul(left!, random([3, 5], 4)), tf.matMul(random([7, 3], 5), right!));
    near(stepAlong(optimizer, weight, inside).capturedShare, 1);
    optimizer.dispose();
  });

  test('a space that is a product, and a weight without a space that is known', () => {
    const gradient = random([6, 7], 3);
    const weight = weightOf([6, 7], 1);
    const optimizer = projected(tf.train.sgd(0.1), between, ON);
    const first = stepAlong(optimizer, weight, gradient);
    const {p, q} = optimizer.attached[0]!.frozen;
    const space = {form: 'product', left: fromTensor(p!), right: fromTensor(q!)} as const;
    near(first.capturedShare, reference.capturedShare(space, fromTensor(gradient)));
    expect(first.drift).toBeNull();
    near(stepAlong(optimizer, weight, gradient).drift, 0, 1e-12);
    optimizer.dispose();

    const composed = projected(tf.train.sgd(0.1), gain, ON);
    const before = fromTensor(weight);
    stepAlong(composed, weight, gradient);
    const row = stepAlong(composed, weight, tf.mul(gradient, 0.5));
    expect(row).toMatchObject({parametrization: 'gain', capturedShare: null, drift: null, step: 1});
    const change = reference.formula('W1 - W')({W1: fromTensor(weight), W: before});
    near(row.updateNorm / (reference.frobenius(change) / 3), 1, 1e-4); // 0.1 G, then 0.05 G, in one direction
    near(row.cosine, reference.cosine(change, fromTensor(gradient)), 1e-4); // linear in g
    composed.dispose();
  });

  test('O23: a new basis of galore catches the share of the first r singular values', () => {
    const s = [5, 4, 3, 2, 1, 0.5];
    const energy = (count: number) => s.slice(0, count).reduce((sum, x) => sum + x ** 2, 0);
    for (const side of ['left', 'right', 'both'] as const) {
      const weight = weightOf([10, 14], 1);
      const optimizer = projected(tf.train.sgd(0.1), galore({rank: 3, side}), {...ON, refresh: every(2)});
      for (let step = 0; step < 5; step++) {
        const {capturedShare, drift} = stepAlong(optimizer, weight, gradientWith(s, [10, 14], 20 + 2 * step));
        const best = energy(3) / energy(6);
        if (step % 2 === 0) {
          const residual = Math.abs(capturedShare! - best);
          expectOracle('galore', 'O23, share', 'captured share at a renewal', residual, 2e-5);
          if (step > 0) expect(drift).toBeGreaterThan(0.1);
        } else {
          expect(capturedShare).toBeLessThan(0.9 * best);
          near(drift, 0, 1e-12);
        }
      }
      optimizer.dispose();
    }
  });

  test('the share does not see what precondition does, and the cosine is with the true gradient', () => {
    const weight = weightOf([6, 7], 1);
    const gradient = random([6, 7], 3);
    const bent: Additive<'r'> = {
      ...between,
      precondition: (_, {r}) => ({r: tf.mul(r, tf.tensor2d([1, 5, 25, 1, 5, 25], [2, 3]))}),
    };
    const optimizer = projected(tf.train.sgd(1e-2), bent, ON);
    const before = fromTensor(weight);
    const row = stepAlong(optimizer, weight, gradient);
    const change = reference.formula('W1 - W')({W1: fromTensor(weight), W: before});
    near(row.cosine, reference.cosine(change, fromTensor(gradient)), 1e-4);
    optimizer.dispose();
  });

  test('full under SGD moves along -G: cosine 1, share 1; so does a weight trained as it is', () => {
    for (const [parametrization, rest] of [
      [full(), {targets: () => true}],
      [lora(), {targets: [[() => true, 'train']], rest: 'train'}],
    ] as const) {
      const weight = weightOf([6, 5], 1);
      const gradient = random([6, 5], 2);
      const optimizer = projected(tf.train.sgd(0.1), parametrization, {
        telemetry: true,
        ...rest,
      });
      for (let step = 0; step < 2; step++) {
        const row = stepAlong(optimizer, weight, gradient);
        expect(row).toMatchObject({capturedShare: 1, drift: null, step});
        expect(row.parametrization).toBe('rest' in rest ? 'train' : 'full');
        near(row.cosine, 1, 1e-5);
        near(row.updateNorm / (0.1 * row.gradientNorm), 1, 1e-5);
      }
      optimizer.dispose();
    }
  });

  test('cosine of a small SGD step is the exact one; no gradient and no step have none', () => {
    const weight = weightOf([8, 6], 1);
    const optimizer = projected(tf.train.sgd(1e-3), lora({rank: 2, init: symmetric()}), ON);
    const gradient = random([8, 6], 2);
    const before = fromTensor(weight);
    const row = stepAlong(optimizer, weight, gradient);
    const change = reference.formula('W1 - W')({W1: fromTensor(weight), W: before});
    near(row.cosine, reference.cosine(change, fromTensor(gradient)), 2e-3);
    expect(row.cosine! ** 2).toBeLessThanOrEqual(row.capturedShare! + 1e-3); // Cauchy-Schwarz

    const none = stepAlong(optimizer, weight, tf.zerosLike(gradient));
    expect(none).toMatchObject({gradientNorm: 0, updateNorm: 0, capturedShare: null, cosine: null});
    optimizer.setLearningRate(0);
    stepAlong(optimizer, weight, gradient);
    const still = stepAlong(optimizer, weight, gradient);
    expect(still).toMatchObject({updateNorm: 0, cosine: null});
    near(still.drift, 0, 1e-12);
    optimizer.dispose();
  });

  test('the update norm is that of W, with a kept base too', () => {
    for (const options of [{}, {keepBase: true}, {clipNorm: 0.1}, {weightDecay: 0.1}]) {
      const weight = weightOf([8, 6], 1);
      const optimizer = projected(tf.train.adam(0.1, 0.9, 0.999, 1e-7), lora({rank: 2}), {...ON, ...options});
      for (let step = 0; step < 3; step++) {
        const before = fromTensor(weight);
        const row = stepAlong(optimizer, weight, random([8, 6], step + 2));
        const change = reference.formula('W1 - W')({W1: fromTensor(weight), W: before});
        near(row.updateNorm / reference.frobenius(change), 1, 1e-5);
      }
      optimizer.dispose();
    }
  });

  test('drift is 0 where nothing moves, 1 after a refresh to orthogonal frames, and the reference between', () => {
    const eye = (from: number) =>
      tf.tensor2d(
        Array.from({length: 16}, (_, i) => (i === 2 * from || i === 2 * from + 3 ? 1 : 0)),
        [8, 2],
      );
    const weight = weightOf([8, 6], 1);
    let turn = 0;
    const turning = projected(tf.train.sgd(0.1), lora({rank: 2, init: () => ({a: eye(2 * turn++)})}), {
      ...ON,
      refresh: at([1]),
      moments: 'keep',
    });
    const gradient = random([8, 6], 2);
    expect(stepAlong(turning, weight, gradient).drift).toBeNull();
    expect(stepAlong(turning, weight, gradient).drift).toBe(1);
    // A stays, B appears: half of the subspace is new.
    near(stepAlong(turning, weight, gradient).drift, 0.5, 0.02);
    turning.dispose();

    const moving = projected(tf.train.sgd(0.1), lora({rank: 2, init: symmetric()}), ON);
    stepAlong(moving, weight, gradient);
    let [a, b] = ['a', 'b'].map(key => fromTensor(moving.factors(weight)[key]!));
    stepAlong(moving, weight, gradient);
    for (let step = 0; step < 3; step++) {
      const [left, right] = ['a', 'b'].map(key => fromTensor(moving.factors(weight)[key]!));
      const {drift} = stepAlong(moving, weight, random([8, 6], 5 + step));
      const sides = [
        reference.drift(a!, left!),
        reference.drift(reference.transpose(b!), reference.transpose(right!)),
      ];
      near(drift, (sides[0]! + sides[1]!) / 2, 1e-7);
      if (step > 0) expect(drift).toBeGreaterThan(1e-4);
      [a, b] = [left, right];
    }
    moving.dispose();
  });

  test('gradients that come as operators: dense layer, convolution, embedding', async () => {
    const ids = () => tf.tensor2d([[1, 4, 4, 0, 7]], [1, 5], 'int32');
    const cases: [number[], (w: tf.Tensor) => tf.Tensor][] = [
      [[6, 8], w => tf.matMul(random([9, 6], 3), w as tf.Tensor2D)],
      [[6, 8], w => tf.matMul(random([3, 6], 3), w as tf.Tensor2D)],
      [[3, 3, 2, 8], w => tf.conv2d(normal([2, 6, 6, 2], 3) as tf.Tensor4D, w as tf.Tensor4D, 2, 'same')],
      [[12, 8], w => tf.gather(w, tf.reshape(ids(), [-1]))],
      // Used twice: the sum of two gradients.
      [[6, 6], w => tf.matMul(tf.tanh(tf.matMul(random([9, 6], 3), w as tf.Tensor2D)), w as tf.Tensor2D)],
    ];
    for (const [shape, model] of cases) {
      const loss = (w: tf.Tensor) => tf.tidy(() => tf.sum(tf.square(tf.sub(model(w), 0.1))) as tf.Scalar);
      const weight = weightOf(shape, 1);
      const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), lora({rank: 2}), ON);
      optimizer.minimize(() => loss(weight), false, [weight]);
      const {a, b} = optimizer.factors(weight);
      const space = loraSpace(fromTensor(a!), fromTensor(b!));
      const numbers = values(weight);
      // Stock wasm cannot form two of these gradients.
      await tf.setBackend('cpu');
      const G = fromTensor(tf.grad(loss)(tf.tensor(numbers, shape)));
      await tf.setBackend(backend);
      optimizer.minimize(() => loss(weight), false, [weight]);
      const [row] = optimizer.telemetry();
      near(row!.gradientNorm / reference.frobenius(G), 1, 1e-5);
      near(row!.capturedShare, reference.capturedShare(space, G, 1e-4), 2e-5);
      expect(row!.capturedShare).toBeLessThan(1);
      expect(optimizer.explain([weight], null)[0]!.capture).toMatch(/^factored/);
      optimizer.dispose();
      weight.dispose();
    }
  });

  test('measuring changes no bit of what is trained', async () => {
    const run = async (telemetry: boolean) => {
      const model = mlp();
      const optimizer = loraAdam(0.05, {
        rank: 2,
        rest: 'train',
        refresh: at([2]),
        moments: 'reset',
        weightDecay: 0.01,
        clipNorm: 1,
        accumulate: 2,
        telemetry,
      });
      model.compile({optimizer, loss: 'meanSquaredError'});
      const {x, y} = data();
      await model.fit(x, y, {epochs: 3, batchSize: 4, shuffle: false, verbose: 0});
      const trained = weightsOf(model);
      optimizer.dispose();
      return trained;
    };
    expect(await run(true)).toEqual(await run(false));
  });

  test('in fit: a row for each weight that moved, of the last step; nothing leaks, dispose frees it all', async () => {
    const model = mlp();
    const {x, y} = data();
    const start = numTensors();
    const optimizer = loraSgd(0.05, {rank: 2, rest: 'train', telemetry: true});
    model.compile({optimizer, loss: 'meanSquaredError'});
    expect(optimizer.telemetry()).toEqual([]);
    await model.trainOnBatch(x, y);
    await model.trainOnBatch(x, y);
    expect(await tensorsLeftBy(() => model.fit(x, y, {epochs: 2, batchSize: 8, verbose: 0}))).toBe(0);
    const rows = optimizer.telemetry();
    expect(rows.map(({weight}) => weight).sort()).toEqual(
      ['hidden', 'out'].flatMap(layer => [0, 1].map(i => variable(model, layer, i).name)).sort(),
    );
    expect(rows.map(({parametrization, step}) => [parametrization, step])).toEqual([
      ['lora', 5],
      ['train', 5],
      ['lora', 5],
      ['train', 5],
    ]);
    for (const row of rows) {
      for (const value of Object.values(row)) expect(value).not.toBeNaN();
      if (row.parametrization === 'train') {
        expect(row).toMatchObject({capturedShare: 1, drift: null});
        near(row.cosine, 1, 1e-4);
      } else {
        expect(row.capturedShare).toBeGreaterThan(0);
        expect(row.drift).toBeGreaterThan(0);
      }
    }
    expect(await tensorsLeftBy(() => optimizer.telemetry())).toBe(0);
    // Rows are the caller's.
    rows[0]!.step = 99;
    expect(optimizer.telemetry()[0]!.step).toBe(5);
    optimizer.dispose();
    expect(numTensors()).toBe(start);
    expect(() => optimizer.telemetry()).toThrow('disposed');
  });

  test('what is kept is in stateBytes: 3 r (m + n) numbers and three more', () => {
    const [m, n, rank] = [9, 7, 2];
    const bytes = [false, true].map(telemetry => {
      const weight = weightOf([m, n], 1);
      const optimizer = projected(tf.train.adam(0.1, 0.9, 0.999, 1e-7), lora({rank}), {...ON, telemetry});
      for (let step = 0; step < 4; step++) {
        optimizer.applyGradients({[weight.name]: random([m, n], step + 2)} as HostGradients);
      }
      const {stateBytes} = optimizer;
      optimizer.dispose();
      expect(optimizer.stateBytes).toBe(0);
      return stateBytes;
    });
    expect(bytes[1]! - bytes[0]!).toBe(4 * (3 * rank * (m + n) + 3));
  });

  test('costs no more kernel launches for a target than docs/telemetry.md says', async () => {
    const bench = '../bench/engine.mjs';
    const {watchEngine} = (await import(bench)) as {watchEngine(): {stop(): {launches: number}}};
    const image = normal([2, 8, 8, 8], 1) as tf.Tensor4D;
    const ids = tf.tensor1d([1, 4, 4, 0, 7], 'int32');
    const wasm = backend === 'wasm';
    const cases: [number[], (w: tf.Tensor) => tf.Tensor, most: number][] = [
      [[24, 32], w => tf.matMul(random([8, 24], 1), w as tf.Tensor2D), wasm ? 19 : 16],
      [[24, 32], w => tf.matMul(random([64, 24], 1), w as tf.Tensor2D), wasm ? 17 : 15],
      [[3, 3, 8, 32], w => tf.conv2d(image, w as tf.Tensor4D, 1, 'valid'), 21],
      [[50, 32], w => tf.gather(w, ids), 15],
    ];
    for (const [shape, model, most] of cases) {
      const [without, with_] = [false, true].map(telemetry => {
        const weight = weightOf(shape, 1);
        const optimizer = loraAdam(1e-2, {rank: 4, ...ON, telemetry});
        const step = () =>
          void optimizer.minimize(() => tf.mean(tf.square(model(weight))) as tf.Scalar, false, [weight]);
        step();
        const watch = watchEngine();
        step();
        const {launches} = watch.stop();
        optimizer.dispose();
        return launches;
      });
      expect(with_! - without!).toBeGreaterThan(0);
      expect(with_! - without!, `[${shape}]`).toBeLessThanOrEqual(most);
    }
  });

  test('while gradients are gathered the rows stay; afterwards they are of the last gradient', () => {
    const weight = weightOf([8, 6], 1);
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2}), {...ON, accumulate: 3});
    const gradients = [2, 3, 4, 5, 6, 7].map(seed => random([8, 6], seed));
    const steps = gradients.map(gradient => {
      optimizer.applyGradients({[weight.name]: gradient} as HostGradients);
      return optimizer.telemetry();
    });
    expect(steps.map(rows => rows.map(({step}) => step))).toEqual([[], [], [0], [0], [0], [1]]);
    const norm = (i: number) => reference.frobenius(fromTensor(gradients[i]!));
    near(steps[2]![0]!.gradientNorm, norm(2), 1e-4);
    near(steps[5]![0]!.gradientNorm, norm(5), 1e-4);
    // The step is along the mean of three, so no more than partly along the last.
    expect(steps[2]![0]!.cosine).toBeLessThan(0.9);
    optimizer.dispose();
    const start = numTensors();
    const unfinished = projected(tf.train.sgd(0.1), lora({rank: 2}), {...ON, accumulate: 3});
    unfinished.applyGradients({[weight.name]: gradients[0]!} as HostGradients);
    unfinished.dispose();
    expect(numTensors()).toBe(start);
  });

  test('a step that is passed over leaves no row, and one that fails none either', async () => {
    const weight = weightOf([8, 6], 1);
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2}), {...ON, nonFinite: 'skip'});
    const bad = tf.fill([8, 6], NaN);
    optimizer.applyGradients({[weight.name]: bad} as HostGradients);
    expect(optimizer.telemetry()).toEqual([]);
    const row = stepAlong(optimizer, weight, random([8, 6], 2));
    expect(await tensorsLeftBy(() => optimizer.applyGradients({[weight.name]: bad} as HostGradients))).toBe(
      0,
    );
    expect(optimizer.skipped).toBe(2);
    expect(optimizer.telemetry()).toEqual([row]);
    optimizer.dispose();

    // The inner optimizer makes infinity out of it: nothing moves, and the row of the step before stays.
    const wild = projected(tf.train.sgd(1), lora({rank: 2}), {
      ...ON,
      learningRate: step => (step === 1 ? 1e38 : 0.1),
    });
    const kept = stepAlong(wild, weight, random([8, 6], 2));
    const large = tf.mul(random([8, 6], 3), 1e4);
    expect(() => wild.applyGradients({[weight.name]: large} as HostGradients)).toThrow('NaN or infinity');
    expect(wild.telemetry()).toEqual([kept]);
    const start = numTensors();
    expect(() => wild.applyGradients({[weight.name]: large} as HostGradients)).toThrow('NaN or infinity');
    expect(numTensors()).toBe(start);
    wild.dispose();
  });

  test('a weight that had no gradient has no row, and drifts from where it last moved', () => {
    const [one, two] = [1, 2].map(seed => weightOf([8, 6], seed));
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2, init: symmetric()}), ON);
    const take = (...weights: tf.Variable[]) => {
      optimizer.applyGradients(
        Object.fromEntries(weights.map((w, i) => [w.name, random([8, 6], 5 + i)])) as HostGradients,
      );
      return optimizer.telemetry();
    };
    expect(take(one!, two!).map(({weight}) => weight)).toEqual([one!.name, two!.name]);
    expect(take(one!).map(({weight}) => weight)).toEqual([one!.name]);
    const again = take(one!, two!);
    expect(again.every(({drift}) => drift! > 0)).toBe(true);
    // Its weight gone with its model, what was kept of it goes too.
    two!.dispose();
    take(one!);
    const {stateBytes} = optimizer;
    take(one!);
    expect(optimizer.stateBytes).toBe(stateBytes);
    optimizer.dispose();
  });

  test('a run that goes on from a file has the same rows, the drift of its first excepted', async () => {
    const make = () => projected(tf.train.adam(0.05, 0.9, 0.999, 1e-7), lora({rank: 2, init: kaiming()}), ON);
    const weight = weightOf([8, 6], 1);
    const whole = make();
    for (let step = 0; step < 3; step++) stepAlong(whole, weight, random([8, 6], step + 2));
    const saved = await whole.getWeights();
    expect(saved.filter(({name}) => /left|right|Product/.test(name))).toEqual([]);
    const twin = tf.variable(weight.clone(), true);
    const resumed = make();
    await resumed.setWeights(saved);
    expect(resumed.telemetry()).toEqual([]);
    for (let step = 3; step < 5; step++) {
      const gradient = random([8, 6], step + 2);
      const {weight: _, name: __, drift, ...wanted} = stepAlong(whole, weight, gradient);
      const row = stepAlong(resumed, twin, gradient);
      expect(row).toMatchObject(wanted);
      if (step === 3) expect(row.drift).toBeNull();
      else expect(row.drift).toBe(drift);
    }
    await whole.setWeights(await whole.getWeights());
    expect(whole.telemetry()).toEqual([]);
    whole.dispose();
    resumed.dispose();
  });
});

describe('telemetry of every parametrization', () => {
  beforeEach(() => tf.setBackend('cpu'));

  test('has a share but for the methods that docs/telemetry.md names', () => {
    const without = everyForm.filter(({p}) => !p.tangent).map(({method}) => method);
    expect([...new Set(without)].sort()).toEqual(WITHOUT_SHARE);
  });

  test.each(everyForm.filter(({p}) => p.tangent))(
    'the share of $form is that of the projector on the image of DPhi',
    ({method, p}) => {
      const [m, n] = [7, 6];
      const weight = weightOf([m, n], 1);
      let state: calculus.HeldState | undefined;
      const watched = {
        ...everywhere(p),
        // The state whose gradient is projected: after a renewal, before the step.
        pullback: (now: calculus.HeldState, gradient: Parameters<typeof calculus.pullback>[2]) => {
          const copy = (tensors: Readonly<Record<string, tf.Tensor>>) =>
            Object.fromEntries(Object.entries(tensors).map(([k, x]) => [k, tf.keep(x.clone())]));
          state = {factors: copy(now.factors), frozen: copy(now.frozen)};
          return calculus.pullback(p, now, gradient);
        },
      } as Parametrization;
      const optimizer = projected(tf.train.sgd(0.02), watched, ON);
      let row: TelemetryRow | undefined;
      for (let step = 0; step < 5; step++) {
        const gradient = random([m, n], 30 + step);
        optimizer.applyGradients({[weight.name]: gradient} as HostGradients);
        row = optimizer.telemetry()[0];
        if (step < 4) continue;
        const P = reference.projector(jacobian(p, state!), 1e-3);
        const g = reference.matrix([m * n, 1], values(gradient));
        const share = (reference.frobenius(reference.product(P, g)) / reference.frobenius(g)) ** 2;
        const residual = Math.abs(row!.capturedShare! - share);
        const what = 'captured share = by the projector on the image of DPhi, in float64';
        expectOracle(method, 'O52, share', what, residual, 1e-6);
      }
      optimizer.dispose();
    },
  );

  test('random matrices drift as far as random subspaces are apart', () => {
    const [m, n, r] = [9, 6, 2];
    // E ||P^T Q||^2 = r^2 / m for two of dimension r among m.
    for (const [p, expected] of [
      [randomProjection({rank: r, sides: 'left'}), 1 - r / m],
      [randomProjection({rank: r, sides: 'right', distribution: 'orthonormal'}), 1 - r / n],
      [randomProjection({rank: r}), 1 - (r / m + r / n) / 2],
      [flora({rank: r, side: 'left'}), 1 - r / m],
    ] as const) {
      const weight = weightOf([m, n], 1);
      const optimizer = projected(tf.train.sgd(1e-3), p, {...ON, refresh: every(1), moments: 'reset'});
      expect(stepAlong(optimizer, weight, random([m, n], 2)).drift).toBeNull();
      const {mean, error} = meanOver(
        300,
        step => stepAlong(optimizer, weight, random([m, n], 2 + step)).drift!,
      );
      expect(error).toBeLessThan(0.02);
      expect(Math.abs(mean - expected), `${p.name}: ${mean} beside ${expected}`).toBeLessThan(4 * error);
      optimizer.dispose();
    }
  });

  test.each(everyForm)('$form trains the same bit for bit, and leaves no tensor behind', ({method, p}) => {
    const run = (telemetry: boolean) => {
      const start = numTensors();
      const weight = tf.tidy(() => weightOf([7, 6], 1, 'bits'));
      const gradients = Array.from({length: 7}, (_, step) => tf.tidy(() => random([7, 6], step + 2)));
      const optimizer = projected(tf.train.adam(0.02, 0.9, 0.999, 1e-7), everywhere(p), {
        ...ON,
        telemetry,
        clipNorm: 1,
        ...(p.refresh && {refresh: at([4]), moments: 'reset'}),
      });
      const counts = gradients.map(gradient => {
        optimizer.applyGradients({[weight.name]: gradient} as HostGradients);
        const count = numTensors();
        if (!telemetry) return count;
        for (const row of optimizer.telemetry()) {
          for (const value of Object.values(row)) expect(value).not.toBeNaN();
          expect(row.capturedShare === null).toBe(!p.tangent);
        }
        expect(numTensors()).toBe(count);
        return count;
      });
      expectOracle(
        method,
        'O6',
        'tensors more after a step than before it',
        Math.abs(counts[6]! - counts[5]!),
        0,
      );
      const trained = values(weight);
      optimizer.dispose();
      tf.dispose([weight, ...gradients]);
      expect(numTensors()).toBe(start);
      return trained;
    };
    const [on, off] = [run(true), run(false)];
    expect(on).toEqual(off);
    expect(on).not.toEqual(tf.tidy(() => values(normal([7, 6], 1))));
  });
});

describe('telemetry', () => {
  beforeEach(() => tf.setBackend('cpu'));

  test('is off by default, and says how to switch it on', () => {
    const optimizer = loraAdam(1e-3);
    expect(() => optimizer.telemetry()).toThrow('telemetry: true');
    optimizer.dispose();
    expect(() => loraAdam(1e-3, {telemetry: 'yes' as never})).toThrow(
      "telemetry must be true or false, not 'yes'",
    );
  });

  test('survives in the config of a saved model', () => {
    const optimizer = loraAdam(1e-3, {telemetry: true});
    const cls = optimizer.constructor as typeof ProjectedOptimizer;
    const again = cls.fromConfig(cls as never, optimizer.getConfig()) as ProjectedOptimizer;
    expect(again.telemetry()).toEqual([]);
    again.dispose();
    optimizer.dispose();
  });

  test('says so where a backend cannot be read; the training goes on', () => {
    const weight = weightOf([8, 6], 1);
    const optimizer = projected(tf.train.sgd(0.1), lora({rank: 2}), ON);
    stepAlong(optimizer, weight, random([8, 6], 2));
    optimizer.applyGradients({[weight.name]: random([8, 6], 3)} as HostGradients);
    // In Node webgpu has no synchronous read.
    const engine = tf.engine() as unknown as {backendName: string};
    engine.backendName = 'webgpu';
    try {
      expect(() => optimizer.telemetry()).toThrow(
        'telemetry: a number [] must be read here, and the webgpu backend cannot',
      );
    } finally {
      engine.backendName = 'cpu';
    }
    expect(optimizer.telemetry()[0]!.step).toBe(1);
    optimizer.dispose();
  });

  test('a tangent of the wrong shape is an error that names parametrization and weight', () => {
    const weight = weightOf([8, 6], 1, 'kernel');
    const wrong: Additive<'r'> = {...between, tangent: () => ({form: 'sum', left: tf.ones([6, 2])})};
    const optimizer = projected(tf.train.sgd(0.1), wrong, ON);
    expect(() => stepAlong(optimizer, weight, random([8, 6], 2))).toThrow(
      'between on kernel [8,6]: tangent has left of shape [6,2], where [8, p] is needed',
    );
    optimizer.dispose();
    weight.dispose();
  });
});
