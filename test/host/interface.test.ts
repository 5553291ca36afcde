import {createRequire} from 'node:module';
import * as tf from '@tensorflow/tfjs';
import {build} from 'esbuild';
import {describe, expect, it} from 'vitest';
import {lora, loraAdam, loraSgd, normal, projected, ProjectedOptimizer} from '../../src/index.js';
import {expectClose, numTensors, tensorsLeftBy, values} from '../helpers.js';
import {onEachBackend} from './backends.js';
import {OPTIMIZER_NAMES, OPTIMIZERS} from './optimizers.js';

const BUILT_IN = ['SGD', 'Momentum', 'Adam', 'Adamax', 'RMSProp', 'Adagrad', 'Adadelta'];

/** Two matrices and a loss with both. */
function pair() {
  const u = tf.variable(normal([6, 5], 1), true, 'u');
  const v = tf.variable(normal([6, 5], 2), true, 'v');
  const target = normal([6, 5], 3);
  const loss = () => tf.losses.meanSquaredError(target, tf.add(u, tf.mul(v, u))) as tf.Scalar;
  return {u, v, loss};
}

onEachBackend('the interface of tf.Optimizer', () => {
  it('C01 it is a tf.Optimizer, and passes the duck test that compile makes', () => {
    const optimizer = loraAdam(0.01);
    expect(optimizer).toBeInstanceOf(tf.Optimizer);
    expect(optimizer.getClassName()).toBe('ProjectedOptimizer');
    const model = tf.sequential({layers: [tf.layers.dense({units: 1, inputShape: [1]})]});
    expect(() => model.compile({optimizer, loss: 'meanSquaredError'})).not.toThrow();
  });

  it('C02 the class name is a getter, one that tfjs does not mangle and no built-in has', () => {
    const {className} = ProjectedOptimizer;
    expect(Object.getOwnPropertyDescriptor(ProjectedOptimizer, 'className')!.get).toBeTypeOf('function');
    expect(className).toMatch(/^[A-Z][A-Za-z0-9]*$/);
    expect(BUILT_IN).not.toContain(className);
  });

  it('C03 minimize returns the cost, a scalar of the caller, or null', () => {
    const {loss, u, v} = pair();
    const expected = values(loss())[0];
    const optimizer = loraAdam(0.01, {rank: 2});
    expect(optimizer.minimize(loss)).toBeNull();
    u.assign(normal([6, 5], 1));
    v.assign(normal([6, 5], 2));
    const before = numTensors();
    const cost = optimizer.minimize(loss, true)!;
    expect(cost.rank).toBe(0);
    expect(values(cost)).toEqual([expected]);
    expect(numTensors()).toBe(before + 1);
    cost.dispose();
    expect(numTensors()).toBe(before);
  });

  it('C04 computeGradients returns what tf.variableGrads does', () => {
    const {loss, u, v} = pair();
    const unconnected = tf.variable(tf.ones([2, 2]), true, 'unconnected');
    const fixed = tf.variable(tf.ones([2, 2]), false, 'fixed');
    const list = [u, v, unconnected, fixed];
    const ours = loraAdam(0.01).computeGradients(loss, list);
    const theirs = tf.variableGrads(loss, list);
    expect(values(ours.value)).toEqual(values(theirs.value));
    expect(Object.keys(ours.grads)).toEqual(Object.keys(theirs.grads));
    for (const [name, gradient] of Object.entries(theirs.grads)) {
      if (gradient === null) expect(ours.grads[name]).toBeNull();
      else expect(values(ours.grads[name]!)).toEqual(values(gradient));
    }
  });

  it('C05 applyGradients takes the list and the map, with the same result; the gradients stay the caller’s', () => {
    const run = (form: 'list' | 'map' | 'minimize') => {
      const {loss, u, v} = pair();
      const optimizer = loraAdam(0.01, {rank: 2});
      for (let i = 0; i < 4; i++) {
        if (form === 'minimize') {
          optimizer.minimize(loss);
          continue;
        }
        const {grads} = optimizer.computeGradients(loss);
        const list = Object.entries(grads).map(([name, tensor]) => ({name, tensor}));
        optimizer.applyGradients(form === 'map' ? grads : list);
        for (const {tensor} of list) expect(tensor.isDisposed).toBe(false);
      }
      const end = [...values(u), ...values(v)];
      tf.dispose([u, v]);
      return end;
    };
    expect(run('map')).toEqual(run('list'));
    expect(run('minimize')).toEqual(run('list'));
  });

  it('C06 null and undefined gradients are passed over, and shift nobody’s state', () => {
    // u has a gradient at every step; v at every other. A run with u alone must give the same u.
    const run = (withV: boolean) => {
      const {u, v} = pair();
      const optimizer = loraAdam(0.01, {rank: 2});
      const before = values(v);
      for (let i = 0; i < 6; i++) {
        const g = normal([6, 5], 10 + i);
        const gradients: {name: string; tensor: tf.Tensor}[] = [{name: 'u', tensor: g}];
        const ofV = [g, null, undefined][i % 3] as tf.Tensor;
        if (withV) gradients.unshift({name: 'v', tensor: ofV});
        optimizer.applyGradients(gradients);
      }
      if (!withV) expect(values(v)).toEqual(before);
      else expect(values(v)).not.toEqual(before);
      const end = values(u);
      tf.dispose([u, v]);
      return end;
    };
    expect(run(true)).toEqual(run(false));
  });

  it('C06 a gradient that is null at the very first step is no error', () => {
    const {u, v} = pair();
    const optimizer = loraSgd(0.1, {rank: 2});
    const before = [values(u), values(v)];
    optimizer.applyGradients({u: null as unknown as tf.Tensor, v: undefined as unknown as tf.Tensor});
    expect([values(u), values(v)]).toEqual(before);
    expect(optimizer.iterations).toBe(0);
  });

  it('C07 a step is over when minimize returns: it holds no promise, and everything it read is disposed', () => {
    const {loss, u} = pair();
    const optimizer = loraAdam(0.05, {rank: 2});
    const before = values(u);
    const result: unknown = optimizer.minimize(loss, true);
    expect(result).not.toHaveProperty('then');
    expect(values(u)).not.toEqual(before);
    // The caller's gradients may go at once: nothing of them is used at the next step.
    const {grads} = optimizer.computeGradients(loss);
    expect(optimizer.applyGradients(grads)).toBeUndefined();
    tf.dispose(grads);
    optimizer.minimize(loss);
  });

  it('C08 the function is called exactly once', () => {
    const {loss} = pair();
    let calls = 0;
    const counted = () => {
      calls++;
      return loss();
    };
    const optimizer = loraAdam(0.01, {rank: 2});
    for (let i = 1; i <= 3; i++) {
      optimizer.minimize(counted);
      expect(calls).toBe(i);
    }
  });

  it('C09 an error in the function comes through; it leaks no more than with tfjs’s optimizers, and moves nothing', async () => {
    const {u, v, loss} = pair();
    const failing = () => {
      tf.add(u, v);
      throw new Error('mine');
    };
    const attempt = (optimizer: tf.Optimizer) => () => {
      expect(() => optimizer.minimize(failing)).toThrow('mine');
    };
    const plain = await tensorsLeftBy(attempt(tf.train.sgd(0.1)));
    const optimizer = loraAdam(0.01, {rank: 2});
    for (let i = 0; i < 2; i++) {
      const before = [values(u), values(v), optimizer.iterations];
      // plain's count holds one tensor of the optimizer itself.
      expect(await tensorsLeftBy(attempt(optimizer))).toBeLessThanOrEqual(plain);
      expect([values(u), values(v), optimizer.iterations]).toEqual(before);
      optimizer.minimize(loss);
    }
  });

  it('C09 an error in a factory, an init or a schedule moves nothing, and the next step may succeed', () => {
    const {u, v, loss} = pair();
    let broken = true;
    const failOnce = <T>(value: T): T => {
      if (broken) throw new Error('mine');
      return value;
    };
    const optimizers = [
      projected(() => failOnce(tf.train.sgd(0.1)), lora({rank: 2})),
      loraSgd(0.1, {rank: 2, init: ({weight, rank}) => ({a: failOnce(tf.ones([weight.shape[0], rank]))})}),
      projected(tf.train.sgd(0.1), lora({rank: 2}), {learningRate: () => failOnce(0.1)}),
      projected(tf.train.sgd(0.1), lora({rank: 2}), {learningRate: () => (broken ? NaN : 0.1)}),
    ];
    for (const optimizer of optimizers) {
      broken = true;
      const before = [values(u), values(v)];
      expect(() => optimizer.minimize(loss)).toThrow(/mine|learningRate at step 0/);
      expect([values(u), values(v)]).toEqual(before);
      expect(optimizer.iterations).toBe(0);
      broken = false;
      optimizer.minimize(loss);
      expect(values(u)).not.toEqual(before[0]);
      optimizer.dispose();
    }
  });

  it('C10 our errors name the weight and its shape', () => {
    const {u, loss} = pair();
    const optimizer = loraSgd(0.1, {rank: 2});
    const wrong = tf.ones([5, 6]);
    expect(() => optimizer.applyGradients({u: wrong})).toThrow('u [6,5] has the shape [5,6]');
    expect(() => optimizer.applyGradients({nobody: wrong})).toThrow('no variable called nobody');
    const twice = [
      {name: 'u', tensor: u},
      {name: 'u', tensor: u},
    ];
    expect(() => optimizer.applyGradients(twice)).toThrow('two gradients for u [6,5]');
    expect(() => optimizer.factors('u')).toThrow(/u is not attached/);
    const badInit = loraSgd(0.1, {rank: 2, init: () => ({a: tf.ones([3, 2])})});
    expect(() => badInit.minimize(loss)).toThrow(/a of shape \[3,2\] where \[6,2\]/);
    const dead = loraSgd(0.1, {rank: 2, init: () => ({a: tf.zeros([6, 2])})});
    expect(() => dead.minimize(loss)).toThrow(/lora on u \[6,5\] starts at a dead point/);
  });

  it('C19 state goes with the variable: another order or another set of variables mixes nothing', () => {
    const run = (lists: (w: {u: tf.Variable; v: tf.Variable}) => tf.Variable[][]) => {
      const {u, v} = pair();
      const optimizer = loraAdam(0.01, {rank: 2});
      const gradients = {u: normal([6, 5], 5), v: normal([6, 5], 6)};
      for (const list of lists({u, v})) {
        const named = list.map(({name}) => ({name, tensor: gradients[name as 'u' | 'v']}));
        optimizer.applyGradients(named);
      }
      const end = [...values(u), ...values(v)];
      tf.dispose([u, v]);
      return end;
    };
    expect(
      run(({u, v}) => [
        [v, u],
        [u, v],
        [v, u],
      ]),
    ).toEqual(
      run(({u, v}) => [
        [u, v],
        [u, v],
        [u, v],
      ]),
    );
    // Also where v has no gradient at the first step.
    const mixed = run(({u, v}) => [[u], [v, u], [u, v]]);
    expect(mixed).toEqual(run(({u, v}) => [[u], [u, v], [v, u]]));
  });

  it.each(OPTIMIZER_NAMES)(
    'C22 iterations count the steps applied, of the wrapper and of its inner %s',
    name => {
      const {loss} = pair();
      const inner = OPTIMIZERS[name]();
      const optimizer = projected(inner, lora({rank: 2}));
      expect(optimizer.iterations).toBe(0);
      for (let i = 1; i <= 3; i++) {
        optimizer.minimize(loss);
        expect(optimizer.iterations).toBe(i);
        expect(inner.iterations).toBe(i);
      }
    },
  );

  it('C31 without a list of variables, every trainable one is trained; the state is not among them', () => {
    const {loss} = pair();
    const trainable = () => Object.values(tf.engine().registeredVariables).filter(v => v.trainable).length;
    const optimizer = loraAdam(0.01, {rank: 2, keepBase: true, weightDecay: 0.1, accumulate: 2});
    optimizer.minimize(loss);
    optimizer.minimize(loss);
    optimizer.minimize(loss);
    expect(trainable()).toBe(2);
    const other = loraAdam(0.01, {rank: 2});
    other.minimize(loss);
    expect(trainable()).toBe(2);
    const names = Object.keys(tf.engine().registeredVariables);
    expect(new Set(names).size).toBe(names.length);
  });

  it('the learning rate of every inner optimizer can be read and set, and what cannot be a rate is refused', () => {
    for (const name of OPTIMIZER_NAMES) {
      const {loss, u, v} = pair();
      const optimizer = projected(OPTIMIZERS[name](), lora({rank: 2}));
      optimizer.minimize(loss);
      optimizer.setLearningRate(0);
      expect(optimizer.learningRate).toBe(0);
      const before = values(u);
      if (name !== 'rmsprop') optimizer.minimize(loss); // whose momentum holds past rates
      expectClose(values(u), before, 1e-7);
      optimizer.learningRate = 0.1;
      expect(optimizer.learningRate).toBe(0.1);
      expect(() => optimizer.setLearningRate('fast' as never)).toThrow(/learningRate/);
      tf.dispose([u, v]);
    }
  });

  it('a learning rate that would be forgotten is refused: before a factory has made its inner optimizers', () => {
    const optimizer = projected(() => tf.train.sgd(0.1), lora({rank: 2}));
    expect(() => optimizer.setLearningRate(0.5)).toThrow(/first step/);
  });

  it('what is no optimizer, no number and no option is refused by name', () => {
    expect(() => projected({} as never, lora())).toThrow(/must be a tf.Optimizer/);
    expect(() => projected(tf.train.adam({learningRate: 1} as never), lora())).toThrow(
      /Adam has the learning rate/,
    );
    expect(() => projected(tf.train.sgd(1), {} as never)).toThrow(/must be a parametrization/);
    expect(() => projected(tf.train.sgd(1), lora(), {keepbase: true} as never)).toThrow(
      /'keepbase'.*'keepBase'/,
    );
    expect(() => loraAdam(0.1, {beta3: 1} as never)).toThrow(/loraAdam: unknown option 'beta3'/);
    expect(() => loraAdam({} as never)).toThrow(/loraAdam: the learning rate/);
    expect(() => lora({rank: 0})).toThrow(/rank/);
    expect(() => lora({rank: 1.5})).toThrow(/rank/);
    expect(() => lora({alpha: 0})).toThrow(/alpha/);
    for (const bad of [{clipNorm: 0}, {weightDecay: -1}, {accumulate: 0}, {accumulate: 1.5}, {seed: 0.5}]) {
      expect(() => loraAdam(0.1, bad)).toThrow(new RegExp(Object.keys(bad)[0]!));
    }
    expect(() => loraAdam(0.1, {rest: 'thaw' as never})).toThrow(/rest/);
    expect(() => loraAdam(0.1, {refresh: () => true})).toThrow(/moments/);
  });
});

describe('the package', () => {
  it('C01 C46 with a second copy of tfjs-core it passes the duck test, and can be registered there', async () => {
    const require = createRequire(import.meta.url);
    const path = require.resolve('@tensorflow/tfjs-core');
    const first = require.cache[path];
    delete require.cache[path];
    const copy = require(path) as typeof tf;
    if (first) require.cache[path] = first;
    expect(copy.Optimizer).not.toBe(tf.Optimizer);
    expect(loraAdam(0.01)).toBeInstanceOf(copy.Optimizer);
    const map = () => copy.serialization.SerializationMap.getMap().classNameMap;
    expect(map()['ProjectedOptimizer']).toBeUndefined();
    copy.serialization.registerClass(ProjectedOptimizer as never);
    expect(map()['ProjectedOptimizer']![0]).toBe(ProjectedOptimizer);
  });

  it('C02 the class name survives minification', async () => {
    const {outputFiles} = await build({
      entryPoints: ['src/index.ts'],
      bundle: true,
      minify: true,
      write: false,
      format: 'esm',
      platform: 'node',
      external: ['@tensorflow/*'],
    });
    const code = outputFiles[0]!.text;
    expect(code).not.toMatch(/class ProjectedOptimizer/);
    expect(code).toMatch(/get className\(\)\{return"ProjectedOptimizer"\}/);
  });
});
