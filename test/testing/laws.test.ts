import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import {
  type Additive,
  type Composed,
  symmetric,
  type Gradient,
  kaiming,
  lora,
  normal,
  type Parametrization,
  type State,
} from '../../src/index.js';
import {checkLaws, expectLaws, type LawName} from '../../src/testing/index.js';

beforeAll(() => tf.setBackend('cpu'));

describe('the laws catch', () => {
  const p = lora({rank: 2, init: kaiming()}) as Additive<'a' | 'b'>;
  const broken = (p: Parametrization) => [
    ...new Set(
      checkLaws(p)
        .filter(r => !r.holds)
        .map(r => r.law),
    ),
  ];
  const mutants: [string, Parametrization, LawName][] = [
    [
      'a pullback without the scaling',
      {...lora({rank: 2, alpha: 8}), pullback: p.pullback!} as Parametrization,
      'agreement',
    ],
    [
      'a pullback with the wrong sign',
      {...p, pullback: (s, g) => ({...p.pullback!(s, g), a: tf.neg(p.pullback!(s, g).a)})} as typeof p,
      'adjoint',
    ],
    [
      'a lift that drops the cross term',
      {
        ...p,
        lift: ({factors: {a, b}}, {factors: n}) =>
          tf.add(tf.matMul(tf.sub(n.a, a), b), tf.matMul(a, tf.sub(n.b, b))),
      } as typeof p,
      'lift',
    ],
    ['a start that is not the weight', {...p, delta: (s: State) => tf.add(p.delta(s as never), 1)}, 'start'],
    ['a refresh that moves the weight', {...p, refresh: (s: State) => ({factors: s.factors})}, 'continuity'],
    [
      'a pullback that forgets a factor',
      {...p, pullback: (s, g) => ({a: p.pullback!(s, g).a}) as never} as typeof p,
      'keys and shapes',
    ],
    ['a count that is off', {...p, trained: () => 1}, 'count'],
    [
      'a random start without the seed',
      {
        ...p,
        init: ({
          weight: {
            shape: [m, n],
          },
        }) => ({factors: {a: tf.randomNormal([m, 2]), b: tf.zeros([2, n])}}),
      },
      'purity',
    ],
    ['a kept tensor', {...p, delta: (s: State) => tf.keep(p.delta(s as never))}, 'purity'],
    ['a lift of the wrong shape', {...p, lift: () => tf.zeros([1, 1])} as typeof p, 'lift'],
    [
      'a lift that is zero where the scale is small',
      {...(lora({rank: 2, alpha: 1e-6}) as Additive<'a' | 'b'>), lift: () => tf.zeros([9, 6])} as typeof p,
      'lift',
    ],
    ['a start off by a little', {...p, delta: (s: State) => tf.add(p.delta(s as never), 5e-5)}, 'start'],
    [
      'a dead start',
      {
        ...p,
        init: ({
          weight: {
            shape: [m, n],
          },
        }) => ({factors: {a: tf.zeros([m, 2]), b: tf.zeros([2, n])}}),
      },
      'movable',
    ],
    [
      'a precondition that is not linear',
      {
        ...p,
        precondition: (_: State, g: {a: tf.Tensor; b: tf.Tensor}) => ({a: tf.square(g.a), b: g.b}),
      } as typeof p,
      'precondition',
    ],
    [
      'a precondition that forgets a factor',
      {...p, precondition: (_: State, g: {a: tf.Tensor; b: tf.Tensor}) => ({a: g.a})} as unknown as typeof p,
      'keys and shapes',
    ],
    [
      'a refresh that rolls dice',
      {
        ...p,
        refresh: (s: State) => ({
          factors: {a: tf.randomNormal(s.factors['a']!.shape), b: tf.zerosLike(s.factors['b']!)},
        }),
      } as typeof p,
      'purity',
    ],
    [
      'a pullback that assigns to a factor',
      {
        ...p,
        pullback: (s: State, g: Gradient) => {
          const grads = p.pullback!(s as never, g);
          (s.factors['b'] as tf.Variable).assign?.(tf.zerosLike(s.factors['b']!));
          return grads;
        },
      } as typeof p,
      'purity',
    ],
    [
      'a tangent space without one side',
      {...p, tangent: (s: State) => ({form: 'sum', left: s.factors['a'] as tf.Tensor2D})} as typeof p,
      'tangent',
    ],
    [
      'a tangent space that is a product where it is a sum',
      {
        ...p,
        tangent: (s: State) => ({
          form: 'product',
          left: s.factors['a'] as tf.Tensor2D,
          right: s.factors['b'] as tf.Tensor2D,
        }),
      } as typeof p,
      'tangent',
    ],
    [
      'a tangent space of the start, at another state',
      {
        ...p,
        init: start => {
          const {factors} = p.init(start);
          return {factors, frozen: {first: factors.a}};
        },
        refresh: (s: State, given: never) => ({...p.refresh!(s as never, given), frozen: s.frozen}),
        tangent: (s: State) => ({
          form: 'sum',
          left: s.frozen['first'] as tf.Tensor2D,
          right: s.factors['b'] as tf.Tensor2D,
        }),
      } as typeof p,
      'tangent',
    ],
    [
      'a tangent space that is too large by one column',
      {
        ...p,
        tangent: (s: State) => ({
          form: 'sum',
          left: tf.concat([s.factors['a'] as tf.Tensor2D, tf.ones([s.factors['a']!.shape[0]!, 1])], 1),
          right: s.factors['b'] as tf.Tensor2D,
        }),
      } as typeof p,
      'tangent',
    ],
    ['a tangent space of everything', {...p, tangent: () => ({form: 'all'})} as typeof p, 'tangent'],
    [
      'a tangent space of the wrong shape',
      {...p, tangent: (s: State) => ({form: 'sum', left: s.factors['b'] as tf.Tensor2D})} as typeof p,
      'tangent',
    ],
    ['a tangent space without sides', {...p, tangent: () => ({form: 'product'})} as typeof p, 'tangent'],
    [
      'a tangent space that rolls dice',
      {
        ...p,
        tangent: (s: State) => ({
          form: 'sum',
          left: tf.matMul(s.factors['a'] as tf.Tensor2D, tf.randomNormal([2, 2])),
          right: s.factors['b'] as tf.Tensor2D,
        }),
      } as typeof p,
      'purity',
    ],
    ['no name', {...p, name: ''}, 'keys and shapes'],
  ];

  test.each(mutants)('%s', (_, mutant, law) => {
    expect(broken(mutant)).toContain(law);
    expect(() => expectLaws(mutant)).toThrow(law);
  });

  test('state that is shared between weights', () => {
    let scale = 1;
    const shared: Additive<'a'> = {
      name: 'shared',
      init: ({weight}) => {
        scale = weight.shape[0];
        return {factors: {a: tf.zeros(weight.shape)}};
      },
      delta: ({factors: {a}}) => tf.mul(a, scale),
    };
    expect(broken(shared)).not.toEqual([]);
  });

  test('and pass one whose frozen part is the very tensor a factor starts at, with an automatic pullback', () => {
    const {pullback: _, ...automatic} = lora({rank: 2, init: symmetric()}) as Additive<'a' | 'b'>;
    expectLaws(automatic);
  });

  test('and pass tangent spaces of other forms: a product, one side, all where the rank suffices', () => {
    const frozen = (shape: [number, number], seed: number) => normal(shape, seed) as tf.Tensor2D;
    const between: Additive<'r'> = {
      name: 'between', // W = W0 + P R Q
      init: ({weight}) => ({
        factors: {r: tf.zeros([2, 3])},
        frozen: {p: frozen([weight.shape[0], 2], 1), q: frozen([3, weight.shape[1]], 2)},
      }),
      delta: ({factors: {r}, frozen: {p, q}}) => tf.matMul(p!, tf.matMul(r, q!)),
      tangent: ({frozen: {p, q}}) => ({form: 'product', left: p as tf.Tensor2D, right: q as tf.Tensor2D}),
    };
    expectLaws(between);
    const under: Additive<'r'> = {
      name: 'under', // W = W0 + P R
      init: ({weight}) => ({
        factors: {r: tf.zeros([2, weight.shape[1]])},
        frozen: {p: frozen([weight.shape[0], 2], 1)},
      }),
      delta: ({factors: {r}, frozen: {p}}) => tf.matMul(p!, r),
      tangent: ({frozen: {p}}) => ({form: 'sum', left: p as tf.Tensor2D}),
    };
    expectLaws(under);
    const asProduct: Additive<'r'> = {
      ...under,
      tangent: ({frozen: {p}}) => ({form: 'product', left: p as tf.Tensor2D}),
    };
    expectLaws(asProduct);
    const large: Additive<'a' | 'b'> = {...(lora({rank: 12}) as typeof p), tangent: () => ({form: 'all'})};
    expectLaws(large, {shapes: [[4, 5]]});
  });

  test('and pass a parametrization that composes, without a pullback of its own', () => {
    // W = W0 o (1 + a b): not additive in a base that could stay implicit.
    const gate: Composed<'a' | 'b'> = {
      name: 'gate',
      init: ({
        weight: {
          shape: [m, n],
        },
      }) => ({factors: {a: tf.ones([m, 1]), b: tf.zeros([1, n])}}),
      compose: ({base, factors: {a, b}}) => tf.mul(base, tf.add(1, tf.matMul(a, b))),
    };
    expectLaws(gate);
  });
});
