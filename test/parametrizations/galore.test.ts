import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeEach, describe, expect, test, vi} from 'vitest';
import {
  type Additive,
  at,
  denseGradient,
  every,
  galore,
  type GaloreOptions,
  type Moments,
  normal,
  projected,
} from '../../src/index.js';
import {randomOrthonormal} from '../../src/linalg/orthonormal.js';
import * as reference from '../../src/reference/index.js';
import {fromTensor, relativeError, toTensor, values} from '../helpers.js';
import {interrupted, matrix, type Shape, type Situation, trained, worstAgainst} from './exercise.js';
import {expectOracle} from './oracle.js';
import {apart, cosine, gradientAt, movedBy, norm2} from './subspace.js';

/** Turns the signs of singular vectors, as another library, or another rounding, may. */
const svd = vi.hoisted(() => ({calls: 0, flips: null as null | ((call: number, column: number) => boolean)}));
vi.mock('../../src/linalg/range-finder.js', async original => {
  const actual = await original<typeof import('../../src/linalg/range-finder.js')>();
  return {
    ...actual,
    topSingular: (...args: Parameters<typeof actual.topSingular>) => {
      const found = actual.topSingular(...args);
      const {flips} = svd;
      if (!flips) return found;
      const call = svd.calls++;
      const signs = tf.tensor1d(found.s.map((_, column) => (flips(call, column) ? -1 : 1)));
      return {...found, u: tf.mul(found.u, signs), v: tf.mul(found.v, signs)};
    },
  };
});

beforeEach(async () => {
  await tf.setBackend('cpu');
  svd.flips = null;
});

const oracle = (number: string, what: string, residual: number, tolerance: number) =>
  expectOracle('galore', number, what, residual, tolerance);
const all = {targets: () => true} as const;
const adam = () => tf.train.adam(0.05, 0.9, 0.999, 1e-7);
/** Attached also where the rank saves nothing. */
const anyway = (options: GaloreOptions = {}) => {
  const {trained: _, ...p} = galore(options);
  return p;
};
const begin = (p: Additive<'r'>, G: tf.Tensor2D, seed = 1) =>
  p.init({weight: tf.zerosLike(G), gradient: denseGradient(G, G.shape), seed});
const renew = (p: Additive<'r'>, frozen: Record<string, tf.Tensor>, G: tf.Tensor2D) =>
  p.refresh!(
    {factors: {r: tf.zeros([1])}, frozen},
    {
      weight: tf.zerosLike(G),
      gradient: denseGradient(G, G.shape),
      seed: 2,
      step: 1,
    },
  );
/** A gradient `[m, n]` whose singular values are given. */
function gradientWith(s: readonly number[], [m, n]: Shape, seed = 3): tf.Tensor2D {
  const [u, v] = [randomOrthonormal(m, s.length, seed), randomOrthonormal(n, s.length, seed + 1)];
  return tf.matMul(tf.mul(u, tf.tensor1d([...s])), v, false, true);
}
/** How much of a subspace is in another, 0 to 1; orthonormal bases. */
const overlap = (p: tf.Tensor, q: tf.Tensor) =>
  norm2(tf.matMul(p as tf.Tensor2D, q as tf.Tensor2D, true)) / q.shape[1]!;

const rule =
  ({scale = 1}: GaloreOptions) =>
  (given: Situation) => {
    const {p, q} = given.fresh.frozen!;
    const made =
      p && q
        ? reference.twoSidedProjection(scale, fromTensor(p), fromTensor(q))
        : p
          ? reference.leftProjection(scale, fromTensor(p))
          : reference.rightProjection(scale, fromTensor(q!));
    return made as reference.Parametrization<reference.Factors>;
  };

describe('galore', () => {
  const forms: GaloreOptions[] = [
    {},
    {rank: 1, side: 'left'},
    {rank: 3, side: 'larger', scale: 0.25},
    {rank: 20, side: 'right'},
    {rank: 4, side: 'both', scale: -2},
  ];

  test.each(forms)('equals the float64 reference: %o', options => {
    oracle(
      'reference',
      'delta, pullback and lift against float64',
      worstAgainst(galore(options), rule(options)),
      1e-5,
    );
  });

  test('a weight of which the projection would save nothing is trained as it is: Adam is Adam', () => {
    const gradients = [0, 1, 2].map(step => gradientAt([12, 8], step));
    const adam = () => tf.train.adam(0.05, 0.9, 0.999, 1e-7);
    const optimizer = projected(adam(), galore({rank: 8}), all);
    const weight = tf.variable(matrix([12, 8], 1));
    expect(optimizer.explain([weight], null)[0]!.treatment).toBe('train');
    const plain = tf.variable(matrix([12, 8], 1));
    const inner = adam();
    for (const G of gradients) {
      optimizer.applyGradients({[weight.name]: G});
      inner.applyGradients([{name: plain.name, tensor: G}]);
    }
    expect(values(weight)).toEqual(values(plain));
    optimizer.dispose();
    inner.dispose();
    tf.dispose([weight, plain]);
  });

  test('with accumulate the basis is that of the first gradient, not of the mean', () => {
    const [first, second] = [0, 1].map(step => gradientAt([6, 9], step));
    const basis = (accumulate: number, gradients: tf.Tensor2D[]) => {
      const weight = tf.variable(matrix([6, 9], 1), true, 'accumulated');
      const optimizer = projected(tf.train.sgd(0.1), galore({rank: 2}), {...all, accumulate});
      for (const G of gradients) optimizer.applyGradients({[weight.name]: G});
      const p = values(optimizer.attached[0]!.frozen['p']!);
      optimizer.dispose();
      weight.dispose();
      return p;
    };
    const mean = tf.mul(tf.add(first!, second!), 0.5) as tf.Tensor2D;
    expect(basis(2, [first!, second!])).toEqual(basis(1, [first!]));
    expect(relativeError(basis(2, [first!, second!]), basis(1, [mean]))).toBeGreaterThan(0.1);
  });

  test('O22: at full rank SGD and momentum are what they are without a projection; Adam only with P = I', () => {
    for (const shape of [
      [5, 8],
      [8, 5],
    ] as const) {
      const gradients = [0, 1, 2, 3, 4, 5].map(step => gradientAt(shape, step));
      const whole = anyway({rank: 5});
      for (const inner of [() => tf.train.sgd(0.1), () => tf.train.momentum(0.1, 0.9)]) {
        const got = movedBy(
          projected(inner(), whole, {...all, refresh: every(2), moments: 'transport'}),
          gradients,
        );
        oracle(
          'O22',
          'full rank, SGD and momentum: W - W0 as without a projection',
          apart(got, movedBy(inner(), gradients)),
          1e-5,
        );
      }
      const plain = movedBy(adam(), gradients);
      const identity: Additive<'r'> = {
        ...whole,
        init: start => {
          const {factors, frozen} = whole.init(start);
          return {factors, frozen: Object.fromEntries(Object.keys(frozen!).map(key => [key, tf.eye(5)]))};
        },
      };
      const asAdam = movedBy(projected(adam(), identity, {...all, refresh: at([])}), gradients);
      oracle('O22, Adam', 'full rank, P = I: Adam is Adam', apart(asAdam, plain), 1e-5);
      // Adam goes by coordinates, and P = U turns them.
      expect(
        apart(movedBy(projected(adam(), whole, {...all, refresh: at([])}), gradients), plain),
      ).toBeGreaterThan(0.2);
    }
  });

  test('O23: what a new basis captures is the share of the first r singular values; O25: it is orthonormal', () => {
    for (const [side, key] of [
      ['left', 'p'],
      ['right', 'q'],
    ] as const) {
      for (const shape of [
        [14, 20],
        [20, 14],
      ] as const) {
        const s = [5, 4, 3, 2, 1, 0.5];
        const G = gradientWith(s, shape);
        const energy = (count: number) => s.slice(0, count).reduce((sum, x) => sum + x ** 2, 0);
        for (const basis of [
          begin(galore({rank: 3, side}), G).frozen![key]!,
          renew(galore({rank: 3, side}), {[key]: randomOrthonormal(shape[side === 'left' ? 0 : 1], 3, 9)}, G)
            .frozen![key]!,
        ]) {
          const seen =
            side === 'left' ? tf.matMul(basis as tf.Tensor2D, G, true) : tf.matMul(G, basis as tf.Tensor2D);
          oracle(
            'O23',
            '||P^T G||^2 = the sum of the first r sigma^2, relative',
            Math.abs(norm2(seen) / energy(3) - 1),
            1e-5,
          );
          const gram = tf.sub(tf.matMul(basis as tf.Tensor2D, basis as tf.Tensor2D, true), tf.eye(3));
          oracle('O25', 'P^T P = I', tf.max(tf.abs(gram)).dataSync()[0]!, 1e-5);
        }
      }
    }
    const G = gradientWith([5, 4, 3, 2], [14, 20]);
    const {p, q} = begin(galore({rank: 2, side: 'both'}), G).frozen!;
    const core = tf.matMul(tf.matMul(p as tf.Tensor2D, G, true), q as tf.Tensor2D);
    oracle(
      'O23, both sides',
      '||P^T G Q||^2 = the sum of the first r sigma^2, relative',
      Math.abs(norm2(core) / 41 - 1),
      1e-5,
    );
  });

  test('O24: the basis is new at steps 0, T, 2T and at no other', () => {
    const weight = tf.variable(tf.zeros([6, 9]), true, 'o24');
    const optimizer = projected(tf.train.sgd(0.1), galore({rank: 2}), {...all, refresh: every(3)});
    let last: number[] = [];
    const news = Array.from({length: 8}, (_, step) => {
      optimizer.applyGradients({[weight.name]: gradientAt([6, 9], step)});
      const now = values(optimizer.attached[0]!.frozen['p']!);
      const isNew = String(now) !== String(last);
      last = now;
      return isNew ? [step] : [];
    }).flat();
    oracle(
      'O24',
      'steps with a new basis besides 0, 3, 6',
      news.filter(step => step % 3 !== 0).length + Math.abs(news.length - 3),
      0,
    );
    optimizer.dispose();
    weight.dispose();
    expect([0, 199, 200, 300, 400].filter(galore().renewal!.refresh)).toEqual([200, 400]);
    expect(galore().renewal!.moments).toBe('transport');
  });

  test('O26: signs of singular vectors make no difference, unless moments are kept without alignment', () => {
    const gradients = Array.from(
      {length: 9},
      (_, step) =>
        tf.add(gradientWith([4, 3, 2], [6, 9]), tf.mul(gradientAt([6, 9], step), 0.1)) as tf.Tensor2D,
    );
    const run = (options: GaloreOptions, moments: Moments, flips: typeof svd.flips) => {
      Object.assign(svd, {calls: 0, flips});
      return movedBy(
        projected(adam(), galore({rank: 3, ...options}), {...all, refresh: every(3), moments}),
        gradients,
      );
    };
    const flips = (call: number, column: number) => call % 2 === 1 && column === 0;
    const difference = (options: GaloreOptions, moments: Moments) =>
      apart(
        run(options, moments, flips),
        run(options, moments, () => false),
      );
    for (const side of ['left', 'right', 'both'] as const) {
      for (const [what, options, moments] of [
        ['transport', {align: false}, 'transport'],
        ['reset', {align: false}, 'reset'],
        ['keep, aligned', {align: true}, 'keep'],
      ] as const) {
        oracle(
          `O26, ${what}`,
          'W - W0 with other signs of singular vectors, relative',
          difference({side, ...options}, moments),
          1e-5,
        );
      }
      // As published: the moments of a flipped direction point the other way.
      expect(difference({side, align: false}, 'keep')).toBeGreaterThan(0.05);
    }
  });

  test('O27: where the new basis spans what the old one did, a transport loses nothing', () => {
    const turn = randomOrthonormal(3, 3, 8);
    const p = galore({rank: 3});
    const turned: Additive<'r'> = {
      ...p,
      refresh: (state, {weight}) => ({
        factors: {r: tf.zeros([3, weight.shape[1]])},
        frozen: {p: tf.matMul(state.frozen['p'] as tf.Tensor2D, turn)},
      }),
    };
    const momentum = (moments: Moments, q: Additive<'r'>) =>
      movedBy(
        projected(tf.train.momentum(0.1, 0.9), q, {...all, refresh: every(2), moments}),
        [0, 1, 2, 3, 4, 5].map(step => gradientAt([6, 9], step)),
      );
    const still = momentum('keep', {
      ...p,
      refresh: ({factors, frozen}) => ({factors: {r: tf.zerosLike(factors.r)}, frozen}),
    });
    oracle(
      'O27',
      'momentum through P_old Q = momentum through P_old',
      apart(momentum('transport', turned), still),
      1e-5,
    );
    expect(apart(momentum('keep', turned), still)).toBeGreaterThan(0.05);
  });

  test('O28: numbers kept, r (a + 2b) with Adam beside R itself; on the larger side r (b + 2a); both r (a + b + 2r)', () => {
    const [m, n, r] = [12, 20, 3];
    const kept = (side: GaloreOptions['side'], shape: Shape) => {
      const weight = tf.variable(tf.zeros([...shape]), true, `o28-${side}-${shape}`);
      const optimizer = projected(adam(), galore({rank: r, ...(side && {side})}), all);
      optimizer.applyGradients({[weight.name]: gradientAt(shape, 0)});
      const {factors, frozen} = optimizer.attached[0]!;
      const size = (tensors: Readonly<Record<string, tf.Tensor>>) =>
        Object.values(tensors).reduce((sum, t) => sum + t.size, 0);
      const numbers = size(frozen) + 2 * size(factors);
      optimizer.dispose();
      weight.dispose();
      return numbers;
    };
    const residual = Math.max(
      ...(
        [
          [m, n],
          [n, m],
        ] as const
      ).flatMap(shape => [
        Math.abs(kept('smaller', shape) - r * (m + 2 * n)),
        Math.abs(kept('larger', shape) - r * (n + 2 * m)),
        Math.abs(kept('both', shape) - r * (m + n + 2 * r)),
      ]),
    );
    oracle('O28', 'basis and two moments: r (a + 2b), r (b + 2a), r (a + b + 2r) numbers', residual, 0);
  });

  test('O29: any inner optimizer, by the change of its parameter: Adam as its formula on R', () => {
    const shape: Shape = [6, 9];
    const gradients = [0, 1, 2, 3, 4].map(step => gradientAt(shape, step));
    const scale = 0.25;
    const weight = tf.variable(tf.zeros([...shape]), true, 'o29');
    const optimizer = projected(adam(), galore({rank: 3, scale}), {...all, refresh: at([])});
    for (const gradient of gradients) optimizer.applyGradients({[weight.name]: gradient});
    const P = fromTensor(optimizer.attached[0]!.frozen['p']!);
    const rule = reference.leftProjection(scale, P);
    // As published: Adam's step of P^T G, times c. Adam undoes the c of the adjoint.
    const published = reference.adam({learningRate: 0.05});
    let r = reference.zeros([3, 9]);
    for (const gradient of gradients)
      r = published.step(r, reference.leftProjection(1, P).pullback({r}, fromTensor(gradient)).r);
    oracle(
      'O29',
      'W - W0 = c P (Adam on P^T G), against float64',
      apart(weight, toTensor(rule.delta({r}))),
      1e-5,
    );
    optimizer.dispose();

    const sgd = movedBy(
      projected(tf.train.sgd(0.1), galore({rank: 3, scale}), {...all, refresh: at([])}),
      gradients,
    );
    const once = movedBy(
      projected(tf.train.sgd(0.1), galore({rank: 3}), {...all, refresh: at([])}),
      gradients,
    );
    oracle('scale', 'SGD sees c^2', apart(sgd, tf.mul(once, scale ** 2)), 1e-5);
  });

  test("alignment: the kept momentum of what survives keeps its direction (methods' 3.7a: one flip of four, 0.36)", () => {
    // The same subspace again, one of its four vectors flipped, two exchanged.
    const G = gradientWith([4, 3, 2, 1], [20, 30]);
    const old = begin(galore({rank: 4}), G).frozen!['p'] as tf.Tensor2D;
    const momentum = tf.mul(matrix([4, 30], 2), tf.tensor2d([4, 3, 2, 1], [4, 1])) as tf.Tensor2D;
    const cosineOf = (p: Additive<'r'>, gradient: tf.Tensor2D) => {
      const next = renew(p, {p: old}, gradient).frozen!['p'] as tf.Tensor2D;
      return cosine(tf.matMul(next, momentum), tf.matMul(old, momentum));
    };
    // The strongest direction becomes the weakest: the order of all others changes.
    const reordered = gradientWith([0.5, 3, 2, 1], [20, 30]);
    svd.flips = (_, column) => column === 0;
    for (const gradient of [G, reordered]) {
      oracle(
        'keep, aligned',
        '1 - cosine of the kept momentum before and after, the subspace being the same',
        1 - cosineOf(galore({rank: 4}), gradient),
        1e-5,
      );
      expect(cosineOf(galore({rank: 4, align: false}), gradient)).toBeLessThan(0.6);
    }
  });

  test("basis 'power': one step of block power iteration; from anywhere, some of them find the first singular vectors", () => {
    for (const [side, key] of [
      ['left', 'p'],
      ['right', 'q'],
      ['both', 'p'],
      ['both', 'q'],
    ] as const) {
      const G = gradientWith([5, 4, 3, 0.5, 0.2], [14, 20]);
      const p = galore({rank: 3, side, basis: 'power'});
      const wanted = begin(p, G).frozen![key]!;
      let frozen: Record<string, tf.Tensor> = {
        p: randomOrthonormal(14, 3, 1),
        q: randomOrthonormal(20, 3, 2),
      };
      if (side !== 'both') frozen = {[key]: frozen[key]!};
      const first = frozen[key]! as tf.Tensor2D;
      const seen: number[] = [];
      for (let step = 0; step < 6; step++) {
        frozen = renew(p, frozen, G).frozen!;
        seen.push(overlap(wanted, frozen[key]!));
        if (step > 0) continue;
        const product =
          key === 'p' ? tf.matMul(G, tf.matMul(G, first, true)) : tf.matMul(G, tf.matMul(G, first), true);
        const inside = tf.matMul(
          frozen[key]! as tf.Tensor2D,
          tf.matMul(frozen[key]! as tf.Tensor2D, product as tf.Tensor2D, true),
        );
        oracle('power', 'the new basis spans G G^T P, or G^T G Q', apart(inside, product), 1e-5);
      }
      expect(1 - seen.at(-1)!).toBeLessThan(1e-4);
      expect(seen[0]).toBeLessThan(seen.at(-1)!);
    }
  });

  test("basis 'power' at every step with transport (LDAdam's tracking) follows a subspace that turns", () => {
    const [m, n, r] = [20, 16, 2];
    const u = randomOrthonormal(m, 2 * r, 1);
    const v = randomOrthonormal(n, r, 2);
    const at = (angle: number) => {
      const turned = tf.add(
        tf.mul(tf.slice(u, [0, 0], [m, r]), Math.cos(angle)),
        tf.mul(tf.slice(u, [0, r], [m, r]), Math.sin(angle)),
      );
      return {basis: turned as tf.Tensor2D, gradient: tf.matMul(turned as tf.Tensor2D, v, false, true)};
    };
    const weight = tf.variable(tf.zeros([m, n]), true, 'tracking');
    const options = {...all, refresh: every(1), moments: 'transport'} as const;
    const optimizer = projected(adam(), galore({rank: r, side: 'left', basis: 'power'}), options);
    for (let step = 0; step < 20; step++) {
      const {basis, gradient} = at(0.05 * step);
      optimizer.applyGradients({[weight.name]: gradient});
      expect(overlap(basis, optimizer.attached[0]!.frozen['p']!)).toBeGreaterThan(0.999);
    }
    optimizer.dispose();
  });

  test('a gradient of zeros leaves the basis as it is; at the start the basis is random then', () => {
    const [G, none] = [gradientAt([6, 9], 0), tf.zeros([6, 9]) as tf.Tensor2D];
    for (const basis of ['svd', 'power'] as const) {
      const p = galore({rank: 3, basis});
      const start = begin(p, none).frozen!['p'] as tf.Tensor2D;
      expect(tf.max(tf.abs(tf.sub(tf.matMul(start, start, true), tf.eye(3)))).dataSync()[0]).toBeLessThan(
        1e-5,
      );
      expect(values(begin(p, none, 2).frozen!['p']!)).not.toEqual(values(start));
      const old = begin(p, G).frozen!;
      expect(values(renew(p, old, none).frozen!['p']!)).toEqual(values(old['p']!));
    }
  });

  test('a gradient that is no number at a renewal is what it is at any step: told, or passed over', () => {
    const weight = tf.variable(tf.zeros([6, 9]), true, 'nan');
    const options = {...all, refresh: every(1), nonFinite: 'skip'} as const;
    const optimizer = projected(tf.train.sgd(0.1), galore({rank: 2}), options);
    const bad = tf.fill([6, 9], NaN) as tf.Tensor2D;
    optimizer.applyGradients({[weight.name]: bad});
    optimizer.applyGradients({[weight.name]: gradientAt([6, 9], 0)});
    const before = values(weight);
    optimizer.applyGradients({[weight.name]: bad});
    expect(optimizer.skipped).toBe(2);
    expect(values(weight)).toEqual(before);
    optimizer.applyGradients({[weight.name]: gradientAt([6, 9], 1)});
    expect(values(weight)).not.toEqual(before);
    optimizer.dispose();
    const strict = projected(tf.train.sgd(0.1), galore({rank: 2}), all);
    expect(() => strict.applyGradients({[weight.name]: bad})).toThrow(/the gradient of nan.* holds NaN/);
    strict.dispose();
  });

  test('a rank above both sides is the smaller side', () => {
    const shape = (side: GaloreOptions['side'], of: Shape) =>
      begin(galore({rank: 30, ...(side && {side})}), gradientAt(of, 0)).factors.r.shape;
    expect(shape('left', [9, 5])).toEqual([5, 5]);
    expect(shape('right', [9, 5])).toEqual([9, 5]);
    expect(shape('both', [5, 9])).toEqual([5, 5]);
    expect(galore({rank: 30}).trained!([5, 9])).toBe(45);
  });

  test.each([
    [{rank: 0}, /galore: rank must be/],
    [{side: 'std'}, /galore: side must be 'smaller'/],
    [{scale: 0}, /galore: scale must be a number other than 0/],
    [{align: 'yes'}, /galore: align must be true or false/],
    [{basis: 'qr'}, /galore: basis must be 'svd' or 'power'/],
    [{gap: 2}, /unknown option 'gap'/],
  ])('refuses %o', (options, message) => {
    expect(() => galore(options as never)).toThrow(message);
  });

  test('trains a conv kernel, the same from factored gradients, on cpu and on wasm, as from dense ones', async () => {
    const run = async (backend: string, capture: 'auto' | 'dense', side: 'smaller' | 'both') => {
      await tf.setBackend(backend);
      const [x, y] = [normal([6, 6, 6, 3], 1) as tf.Tensor4D, tf.sigmoid(normal([6, 6, 6, 8], 2))];
      const kernel = tf.variable(
        normal([3, 3, 3, 8], 3, {std: 0.3}),
        true,
        `kernel-${backend}-${capture}-${side}`,
      );
      const loss = () =>
        tf.losses.meanSquaredError(
          y,
          tf.sigmoid(tf.conv2d(x, kernel as tf.Tensor4D, 1, 'same')),
        ) as tf.Scalar;
      const optimizer = projected(tf.train.momentum(1, 0.9), galore({rank: 3, side}), {
        capture,
        refresh: every(5),
      });
      const first = values(loss())[0]!;
      for (let step = 0; step < 12; step++) optimizer.minimize(loss);
      const left = values(loss())[0]! / first;
      const {frozen, factors} = optimizer.attached[0]!;
      const shapes = [...Object.values(frozen), ...Object.values(factors)].map(({shape}) => shape);
      const result = values(kernel);
      optimizer.dispose();
      kernel.dispose();
      return {left, shapes, result};
    };
    for (const [side, wanted] of [
      [
        'smaller',
        [
          [8, 3],
          [27, 3],
        ],
      ],
      [
        'both',
        [
          [27, 3],
          [8, 3],
          [3, 3],
        ],
      ],
    ] as const) {
      const dense = await run('cpu', 'dense', side);
      for (const backend of ['cpu', 'wasm']) {
        const factored = await run(backend, 'auto', side);
        expect(factored.shapes).toEqual(wanted);
        expect(factored.left).toBeLessThan(0.95);
        expect(relativeError(factored.result, dense.result)).toBeLessThan(1e-3);
      }
    }
  });

  test('trains, in every form', () => {
    for (const options of [{rank: 4}, {rank: 4, side: 'larger'}, {rank: 4, basis: 'power'}] as const)
      expect(trained(galore(options))).toBeLessThan(0.5);
    expect(trained(galore({rank: 6, side: 'both'}))).toBeLessThan(0.8);
  });

  test('a run that is saved and loaded goes on as it would have', async () => {
    for (const moments of ['keep', 'reset', 'transport'] as const) {
      for (const options of [{side: 'left'}, {side: 'both', basis: 'power'}] as const) {
        expect(await interrupted(() => galore({rank: 3, ...options}), {refresh: every(2), moments})).toBe(0);
      }
    }
  });
});
