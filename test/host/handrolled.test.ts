import * as tf from '@tensorflow/tfjs';
import {expect, it} from 'vitest';
import {
  at,
  cosine,
  every,
  full,
  lora,
  loraAdam,
  loraAdamW,
  loraSgd,
  normal,
  projected,
  symmetric,
} from '../../src/index.js';
import * as reference from '../../src/reference/index.js';
import {expectClose, fromTensor, relativeError, toTensor, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';

const weight = (name = 'w', seed = 1) => tf.variable(normal([8, 6], seed), true, name);

/** A gradient for each step, whatever W is: so that two ways can be compared step by step. */
const gradient = (step: number) => normal([8, 6], 100 + step);

function steps(optimizer: tf.Optimizer, count: number, of = gradient): void {
  for (let i = 0; i < count; i++) optimizer.applyGradients({w: of(i)});
}

const a0 = () => normal([8, 2], 5) as tf.Tensor2D;

onEachBackend('clipNorm', () => {
  it('scales all factor gradients of a step to the norm, and leaves shorter ones alone', () => {
    // With b = 0 the gradient of a is 0 and that of b is a'G; SGD at rate 1 moves b by exactly the clipped gradient.
    const moved = (clipNorm: number) => {
      const w = weight();
      const optimizer = loraSgd(1, {rank: 2, clipNorm, init: () => ({a: a0()})});
      steps(optimizer, 1);
      const {b} = optimizer.factors(w);
      const result = values(b!);
      w.dispose();
      return result;
    };
    const whole = values(tf.neg(tf.matMul(a0(), gradient(0) as tf.Tensor2D, true)));
    const norm = Math.hypot(...whole);
    expectClose(moved(norm * 2), whole, 1e-6);
    expectClose(
      moved(0.5),
      whole.map(v => (v * 0.5) / norm),
      1e-6,
    );
  });

  it('is one norm over all weights', () => {
    // ||(3, 4)|| = 5: clipped to 1 the gradients 3 and 4 become 0.6 and 0.8.
    const [u, v] = [tf.variable(tf.zeros([1, 1]), true, 'u'), tf.variable(tf.zeros([1, 1]), true, 'v')];
    const optimizer = projected(tf.train.sgd(1), lora(), {targets: [[/./, 'train']], clipNorm: 1});
    optimizer.applyGradients({u: tf.tensor2d([[3]]), v: tf.tensor2d([[4]])});
    expectClose([...values(u), ...values(v)], [-0.6, -0.8], 1e-6);
  });

  it('equals the reference over 20 steps, and survives a zero and a huge gradient', () => {
    const w = weight();
    const run = reference.lora(1);
    const adam = {a: reference.adam({learningRate: 0.05}), b: reference.adam({learningRate: 0.05})};
    const optimizer = loraAdam(0.05, {rank: 2, clipNorm: 0.3, init: () => ({a: a0()})});
    let factors = {a: fromTensor(a0()), b: reference.zeros([2, 6])};
    for (let i = 0; i < 20; i++) {
      const g = gradient(i);
      const clipped = reference.clipByGlobalNorm(run.pullback(factors, fromTensor(g)), 0.3);
      factors = {a: adam.a.step(factors.a, clipped.a), b: adam.b.step(factors.b, clipped.b)};
      optimizer.applyGradients({w: g});
    }
    expectClose(values(optimizer.factors(w)['a']!), values(toTensor(factors.a)), 1e-5);
    expectClose(values(optimizer.factors(w)['b']!), values(toTensor(factors.b)), 1e-5);
    const before = values(w);
    const sgd = loraSgd(1, {rank: 2, clipNorm: 1, init: () => ({a: a0()})});
    sgd.applyGradients({w: tf.zeros([8, 6])});
    expect(values(w)).toEqual(before);
    sgd.applyGradients({w: tf.fill([8, 6], 1e25)});
    const length = Math.hypot(...values(sgd.factors(w)['b']!));
    expect(length).toBeCloseTo(1, 4);
  });
});

onEachBackend('weightDecay', () => {
  it.each([
    ['from b = 0', {rank: 2}],
    ['from a symmetric start', {rank: 2, init: symmetric()}],
  ])('has the base for its limit, not zero: %s', (_, options) => {
    const w = weight();
    const base = values(w);
    const optimizer = loraSgd(0.5, {...options, weightDecay: 1});
    steps(optimizer, 3);
    expect(relativeError(values(w), base)).toBeGreaterThan(0.1);
    // Each zero gradient halves the distance of the factors to their start: 2^-30 of it is left.
    steps(optimizer, 30, () => tf.zeros([8, 6]));
    expectClose(values(w), base, 1e-5);
  });

  it.each(['sgd', 'adam'] as const)('equals the reference’s withDecay around %s', name => {
    const w = weight();
    const [rate, weightDecay] = [0.05, 0.2];
    const b0 = normal([2, 6], 6) as tf.Tensor2D;
    const optimizer = (name === 'sgd' ? loraSgd : loraAdam)(rate, {
      rank: 2,
      weightDecay,
      init: () => ({a: a0(), b: b0}),
    });
    const inner = (start: reference.Matrix) =>
      reference.withDecay(reference[name]({learningRate: rate}), {learningRate: rate, weightDecay, start});
    let factors = {a: fromTensor(a0()), b: fromTensor(b0)};
    const [ofA, ofB] = [inner(factors.a), inner(factors.b)];
    for (let i = 0; i < 20; i++) {
      const g = tf.mul(gradient(i), 0.1);
      const {a, b} = reference.lora(1).pullback(factors, fromTensor(g));
      factors = {a: ofA.step(factors.a, a), b: ofB.step(factors.b, b)};
      optimizer.applyGradients({w: g});
    }
    expectClose(values(optimizer.factors(w)['a']!), values(toTensor(factors.a)), 1e-5);
    expectClose(values(optimizer.factors(w)['b']!), values(toTensor(factors.b)), 1e-5);
  });

  it('is 0.01 in loraAdamW, at the learning rate of the schedule', () => {
    const run = (optimizer: tf.Optimizer) => {
      const w = weight();
      steps(optimizer, 5);
      const end = values(w);
      w.dispose();
      return end;
    };
    expect(run(loraAdamW(0.1, {rank: 2}))).toEqual(run(loraAdam(0.1, {rank: 2, weightDecay: 0.01})));
    expect(run(loraAdamW(0.1, {rank: 2}))).not.toEqual(run(loraAdam(0.1, {rank: 2})));
    expect(run(loraAdamW(cosine(0.1, {steps: 9}), {rank: 2}))).not.toEqual(
      run(loraAdam(cosine(0.1, {steps: 9}), {rank: 2})),
    );
  });

  it('draws a weight that is trained as it is to where it started', () => {
    // w = 2, gradient 1, rate 0.5, decay 1: 2 -> 1.5; then 1.5 - 0.5 (1.5 - 2) = 1.75, less 0.5 = 1.25.
    const w = tf.variable(tf.scalar(2), true, 'w');
    const optimizer = projected(tf.train.sgd(0.5), lora(), {targets: [['w', 'train']], weightDecay: 1});
    optimizer.applyGradients({w: tf.scalar(1)});
    expect(values(w)).toEqual([1.5]);
    optimizer.applyGradients({w: tf.scalar(1)});
    expect(values(w)).toEqual([1.25]);
  });
});

onEachBackend('C23 accumulate', () => {
  it.each(['adam', 'momentum', 'sgd'] as const)('k calls are one on the mean gradient: %s', name => {
    const run = (accumulate: number) => {
      const w = weight();
      const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}), {accumulate});
      for (let i = 0; i < 4; i++) {
        const parts = [gradient(3 * i), gradient(3 * i + 1), gradient(3 * i + 2)];
        if (accumulate === 1) optimizer.applyGradients({w: tf.div(tf.addN(parts), 3)});
        else parts.forEach(part => optimizer.applyGradients({w: part}));
        expect(optimizer.iterations).toBe(i + 1);
      }
      const end = values(w);
      w.dispose();
      return end;
    };
    expectClose(run(3), run(1), 3e-6);
  });

  it('leaves W and the factors bit by bit as they were in between', () => {
    const w = weight();
    const optimizer = loraAdam(0.1, {rank: 2, accumulate: 3, rest: 'train'});
    steps(optimizer, 3);
    const state = () => [w, ...Object.values(optimizer.factors(w))].map(values);
    const before = state();
    steps(optimizer, 1);
    expect(state()).toEqual(before);
    steps(optimizer, 1);
    expect(state()).toEqual(before);
    expect(optimizer.iterations).toBe(1);
    steps(optimizer, 1);
    expect(state()).not.toEqual(before);
    expect(optimizer.iterations).toBe(2);
  });

  it('counts a weight without a gradient in one of the calls as zero there', () => {
    const [u, v] = [weight('u'), weight('v')];
    const optimizer = projected(tf.train.sgd(1), lora(), {targets: [[/./, 'train']], accumulate: 2});
    const [before, g] = [values(v), gradient(0)];
    optimizer.applyGradients({u: g, v: g});
    optimizer.applyGradients({u: g});
    expectClose(values(u), values(tf.sub(normal([8, 6], 1), g)), 1e-6);
    expectClose(values(v), values(tf.sub(tf.tensor(before, [8, 6]), tf.mul(g, 0.5))), 1e-6);
  });

  it('clips the mean, not each part', () => {
    // Parts 4 and 0 have the mean 2, clipped to 1; clipped each they would have the mean 0.5.
    const w = tf.variable(tf.zeros([1]), true, 'w');
    const optimizer = projected(tf.train.sgd(1), lora(), {
      targets: [['w', 'train']],
      accumulate: 2,
      clipNorm: 1,
    });
    optimizer.applyGradients({w: tf.tensor1d([4])});
    optimizer.applyGradients({w: tf.tensor1d([0])});
    expectClose(values(w), [-1], 1e-6);
  });
});

onEachBackend('learning-rate schedules', () => {
  const schedule = cosine(0.05, {steps: 8, warmup: 2, floor: 0.001});

  it.each(OPTIMIZER_NAMES)('a schedule equals setting the rate by hand before every step: %s', name => {
    const run = (byHand: boolean) => {
      const w = weight();
      const optimizer = projected(
        OPTIMIZERS[name](),
        lora({rank: 2}),
        byHand ? {} : {learningRate: schedule},
      );
      for (let i = 0; i < 10; i++) {
        if (byHand) optimizer.setLearningRate(schedule(i, {}));
        optimizer.applyGradients({w: gradient(i)});
        expect(optimizer.learningRate).toBe(schedule(i, {}));
      }
      const end = values(w);
      w.dispose();
      return end;
    };
    const scheduled = run(false);
    expect(scheduled).toEqual(run(true));
    expect(relativeError(scheduled, values(normal([8, 6], 1)))).toBeGreaterThan(0.003);
  });

  it.each(OPTIMIZER_NAMES)('the rate that is set is the rate it steps with: plain %s through train', name => {
    // tfjs's SGD and Momentum ignore an assignment to learningRate, the others have no setter.
    const run = (wrapped: boolean) => {
      const w = tf.variable(tf.tensor1d([1, 2]) as tf.Tensor, true, 'w');
      const g = tf.tensor1d([0.5, -0.25]);
      const inner: tf.Optimizer = OPTIMIZERS[name]();
      if (wrapped) {
        const optimizer = projected(inner, lora(), {targets: [['w', 'train']], learningRate: () => 0.5});
        optimizer.applyGradients({w: g});
      } else {
        const plain = inner as unknown as {learningRate: number; setLearningRate?(rate: number): void};
        if (plain.setLearningRate) plain.setLearningRate(0.5);
        else plain.learningRate = 0.5;
        inner.applyGradients({w: g});
      }
      const end = values(w);
      w.dispose();
      return end;
    };
    expect(run(true)).toEqual(run(false));
    expect(run(true)[0]).not.toBe(1);
  });

  it('two rates, as in LoRA+: a factory, a schedule by place and the reference agree', () => {
    const [rateA, rateB] = [0.01, 0.16];
    const run = (optimizer: tf.Optimizer) => {
      const w = weight();
      steps(optimizer, 20);
      const end = values(w);
      w.dispose();
      return end;
    };
    const parametrization = () => lora({rank: 2, init: () => ({a: a0()})});
    const adam = (rate: number) => tf.train.adam(rate, 0.9, 0.999, 1e-7);
    const byFactory = run(projected(({factor}) => adam(factor === 'b' ? rateB : rateA), parametrization()));
    const bySchedule = run(
      projected(() => adam(1), parametrization(), {
        learningRate: (_, {factor, weight: name}) => {
          expect(name).toBe('w');
          return factor === 'b' ? rateB : rateA;
        },
      }),
    );
    expect(bySchedule).toEqual(byFactory);
    let i = 0;
    const expected = reference.trainProjected({
      weight: fromTensor(normal([8, 6], 1)),
      gradient: () => fromTensor(gradient(i++)),
      parametrization: reference.lora(1),
      factors: {a: fromTensor(a0()), b: reference.zeros([2, 6])},
      optimizer: factor => reference.adam({learningRate: factor === 'b' ? rateB : rateA}),
      steps: 20,
    });
    expectClose(byFactory, values(toTensor(expected.weight)), 1e-5);
  });

  it('sets the decay too', () => {
    // Rate 0 stands still, decay and all.
    const w = weight();
    const optimizer = projected(tf.train.sgd(1), lora({rank: 2, init: symmetric()}), {
      weightDecay: 0.5,
      learningRate: step => (step < 2 ? 0.1 : 0),
    });
    steps(optimizer, 2);
    const before = values(w);
    steps(optimizer, 3);
    expect(values(w)).toEqual(before);
  });
});

onEachBackend('refresh', () => {
  it.each(['keep', 'reset'] as const)('leaves W where it is, moments: %s', moments => {
    // At rate 0 nothing but the refresh could move W.
    const w = weight();
    let rate = 0.1;
    const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 2}), {
      refresh: every(3),
      moments,
      learningRate: () => rate,
    });
    steps(optimizer, 3);
    const [before, a] = [values(w), values(optimizer.factors(w)['a']!)];
    rate = 0;
    steps(optimizer, 1);
    expect(values(w)).toEqual(before);
    expect(values(optimizer.factors(w)['a']!)).not.toEqual(a);
    expect(values(optimizer.factors(w)['b']!)).toEqual(new Array(12).fill(0));
  });

  it('with keepBase W is continuous too, and the base of the beginning comes back bit by bit', () => {
    const w = weight();
    const base = values(w);
    let rate = 0.1;
    const optimizer = projected(OPTIMIZERS.adam(), lora({rank: 2}), {
      refresh: every(3),
      moments: 'keep',
      keepBase: true,
      learningRate: () => rate,
    });
    steps(optimizer, 3);
    const before = values(w);
    rate = 0;
    steps(optimizer, 1);
    expect(values(w)).toEqual(before);
    rate = 0.1;
    steps(optimizer, 10);
    expect(values(w)).not.toEqual(before);
    expect(values(optimizer.base(w))).toEqual(base);
  });

  it('moments reset start again, moments kept go on: after a refresh Adam’s first step is of the full rate or not', () => {
    // Adam's first step from zero moments is rate * sign(g), whatever the size of g: |b| = 0.1 everywhere.
    // Gradients after the refresh are smaller, so kept moments give another size.
    const afterRefresh = (moments: 'keep' | 'reset') => {
      const w = weight();
      const optimizer = loraAdam(0.1, {rank: 2, refresh: at([3]), moments});
      steps(optimizer, 3);
      steps(optimizer, 1, i => tf.mul(gradient(i), 0.05));
      const sizes = values(optimizer.factors(w)['b']!).map(Math.abs);
      w.dispose();
      return sizes;
    };
    expectClose(afterRefresh('reset'), new Array(12).fill(0.1), 1e-3);
    expect(relativeError(afterRefresh('keep'), new Array(12).fill(0.1))).toBeGreaterThan(0.1);
  });

  it('merged periods reach a rank that one period cannot', () => {
    const w = weight();
    const before = w.clone();
    const optimizer = loraAdam(0.1, {rank: 2, refresh: every(2), moments: 'reset'});
    steps(optimizer, 4);
    expect(reference.rank(fromTensor(tf.sub(w, before)), 1e-4)).toBe(4);
  });

  it('waits for the end of a cycle of accumulation', () => {
    const w = weight();
    const optimizer = loraAdam(0.1, {rank: 2, refresh: every(1), moments: 'keep', accumulate: 2});
    steps(optimizer, 2);
    const a = () => values(optimizer.factors(w)['a']!);
    const [before, old] = [values(w), a()];
    steps(optimizer, 1);
    const chosen = a();
    expect(chosen).not.toEqual(old);
    expect(values(w)).toEqual(before);
    steps(optimizer, 1);
    expect(values(w)).not.toEqual(before);
  });
});

onEachBackend('the base', () => {
  const train200 = (keepBase: boolean) => {
    const w = weight();
    const start = values(w);
    const optimizer = loraAdam(0.05, {rank: 2, keepBase});
    steps(optimizer, 200);
    expect(relativeError(values(w), start)).toBeGreaterThan(0.1);
    return {w, start, optimizer};
  };

  it('keepBase restores W bit by bit after 200 steps', () => {
    const {w, start, optimizer} = train200(true);
    w.assign(optimizer.base(w) as never);
    expect(values(w)).toEqual(start);
  });

  it('the implicit base is within 1e-5 after 200 steps', () => {
    const {w, start, optimizer} = train200(false);
    expectClose(values(optimizer.base(w)), start, 1e-5);
  });

  it('after a refresh the implicit base is not known any more, and it says so', () => {
    const w = weight();
    const optimizer = loraAdam(0.1, {rank: 2, refresh: every(2), moments: 'keep'});
    const start = values(w);
    steps(optimizer, 2);
    expectClose(values(optimizer.base(w)), start, 1e-5);
    steps(optimizer, 2);
    expect(() => optimizer.base(w)).toThrow(/refreshed.*keepBase/);
  });

  it('keepBase and the implicit base train alike', () => {
    expectClose(values(train200(true).w), (tf.disposeVariables(), values(train200(false).w)), 1e-5);
  });

  it('full knows its base too', () => {
    const w = weight();
    const start = values(w);
    const optimizer = projected(tf.train.sgd(0.1), full());
    steps(optimizer, 20);
    expectClose(values(optimizer.base(w)), start, 1e-6);
  });
});
